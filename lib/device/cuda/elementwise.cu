// SPDX-License-Identifier: Apache-2.0
// One value in, one value out.
#include "device/cuda/kernel.h"

__device__ __forceinline__ float apply(enum dev_act a, float x)
{
    if (a == DEV_ACT_GELU)
        return x * 0.5f * erfcf(-0.70710678118654752f * x);
    if (a == DEV_ACT_QUICK_GELU)
        return x / (1 + expf(-1.702f * x));
    return x;
}

// d/dx x Phi(x) = Phi(x) + x phi(x); d/dx x s(a x) = s (1 + a x (1 - s)), a = 1.702
__device__ __forceinline__ float slope(enum dev_act a, float x)
{
    if (a == DEV_ACT_GELU)
        return 0.5f * erfcf(-0.70710678118654752f * x) +
               x * 0.39894228040143268f * expf(-0.5f * x * x);
    if (a == DEV_ACT_QUICK_GELU) {
        float s = 1 / (1 + expf(-(cuda_planted<PLANT_elementwise> ? 1.5f : 1.702f) * x));
        return s * (1 + 1.702f * x * (1 - s));
    }
    return 1;
}

template <class X, class Y> struct finish_op {
    size_t cols;
    const X *x;
    enum dev_act act;
    const float *gamma;
    float *residual;
    Y *y;
    __device__ void operator()(size_t i) const
    {
        float v = apply(act, to_f32(x[i]));
        if (gamma)
            v *= gamma[remainder_of(i, cols)];
        if (residual)
            residual[i] += v;
        else
            y[i] = from_f32<Y>(v);
    }
};

template <class X, class Y>
static void finish(struct dev *d, size_t rows, size_t cols, const void *x, enum dev_act act,
                   const float *gamma, float *residual, void *y)
{
    cuda_each(d, "activation", rows * cols,
              finish_op<X, Y>{cols, (const X *)x, act, gamma, residual, (Y *)y});
}

void cuda_finish(struct dev *d, size_t rows, size_t cols, const void *x, bool x_f32,
                 enum dev_act act, const float *gamma, float *residual, void *y, bool y_f32)
{
    bool xf = x_f32 || d->act == DEV_F32, yf = y_f32 || d->act == DEV_F32;
    if (xf && yf)
        finish<float, float>(d, rows, cols, x, act, gamma, residual, y);
    else if (xf)
        finish<float, bf16>(d, rows, cols, x, act, gamma, residual, y);
    else if (yf)
        finish<bf16, float>(d, rows, cols, x, act, gamma, residual, y);
    else
        finish<bf16, bf16>(d, rows, cols, x, act, gamma, residual, y);
}

template <class T> struct act_bwd_op {
    enum dev_act act;
    const T *pre, *dy;
    T *dpre;
    __device__ void operator()(size_t i) const
    {
        dpre[i] = from_f32<T>(to_f32(dy[i]) * slope(act, to_f32(pre[i])));
    }
};

void cuda_act_bwd(struct dev *d, size_t n, enum dev_act act, const void *pre, const void *dy,
                  void *dpre)
{
    if (d->act == DEV_F32)
        cuda_each(d, "activation backward", n,
                  act_bwd_op<float>{act, (const float *)pre, (const float *)dy, (float *)dpre});
    else
        cuda_each(d, "activation backward", n,
                  act_bwd_op<bf16>{act, (const bf16 *)pre, (const bf16 *)dy, (bf16 *)dpre});
}

template <class T> struct to_act_op {
    size_t cols, x_ld;
    const float *x, *gamma;
    T *y;
    __device__ void operator()(size_t i) const
    {
        size_t r = quotient(i, cols), c = i - r * cols;
        float v = x[r * x_ld + c];
        y[i] = from_f32<T>(gamma ? v * gamma[c] : v);
    }
};

void cuda_to_act(struct dev *d, size_t rows, size_t cols, const float *x, size_t x_ld,
                 const float *gamma, void *y)
{
    if (d->act == DEV_F32)
        cuda_each(d, "to activations", rows * cols,
                  to_act_op<float>{cols, x_ld, x, gamma, (float *)y});
    else
        cuda_each(d, "to activations", rows * cols,
                  to_act_op<bf16>{cols, x_ld, x, gamma, (bf16 *)y});
}

struct axpy_op {
    float alpha;
    const float *x;
    float *y;
    __device__ void operator()(size_t i) const
    {
        y[i] += alpha * x[i];
    }
};

void cuda_axpy(struct dev *d, size_t n, float alpha, const float *x, float *y)
{
    cuda_each(d, "axpy", n, axpy_op{alpha, x, y});
}

struct scale_op {
    float alpha;
    float *x;
    __device__ void operator()(size_t i) const
    {
        x[i] *= alpha;
    }
};

void cuda_scale(struct dev *d, size_t n, float alpha, float *x)
{
    cuda_each(d, "scale", n, scale_op{alpha, x});
}
