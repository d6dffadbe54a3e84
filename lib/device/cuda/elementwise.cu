// SPDX-License-Identifier: Apache-2.0
// One value in, one value out.
#include "device/cuda/kernel.h"

// Phi(x) = erfc(-x / sqrt(2)) / 2 and e = exp(-x^2 / 2). `Quick`: to an absolute error of 1e-7
// (Abramowitz and Stegun, 7.1.26), a quarter of the work and far below bfloat16's own error.
template <bool Quick> __device__ __forceinline__ float normal_below(float x, float *e)
{
    *e = expf(-0.5f * x * x);
    if (!Quick)
        return 0.5f * erfcf(-0.70710678118654752f * x);
    float t = 1 / (1 + 0.3275911f * 0.70710678118654752f * fabsf(x));
    float p = fmaf(t, 1.061405429f, -1.453152027f);
    p = fmaf(t, p, 1.421413741f);
    p = fmaf(t, p, -0.284496736f);
    p = 0.5f * t * fmaf(t, p, 0.254829592f) * *e;
    return x < 0 ? p : 1 - p;
}

template <bool Quick> __device__ __forceinline__ float apply(enum dev_act a, float x)
{
    float e;
    if (a == DEV_ACT_GELU)
        return x * normal_below<Quick>(x, &e);
    if (a == DEV_ACT_QUICK_GELU)
        return x / (1 + expf(-1.702f * x));
    if (a == DEV_ACT_TANH_GELU)
        return x / (1 + expf(-1.5957691216057308f * (x + 0.044715f * x * x * x)));
    return x;
}

// d/dx x Phi(x) = Phi(x) + x phi(x); d/dx x s(a x) = s (1 + a x (1 - s)), a = 1.702;
// the tanh form is x s(2 u), u = sqrt(2/pi) (x + 0.044715 x^3): s + x s (1 - s) 2 u'
template <bool Quick> __device__ __forceinline__ float slope(enum dev_act a, float x)
{
    float e;
    if (a == DEV_ACT_GELU) {
        float below = normal_below<Quick>(x, &e);
        return below + x * 0.39894228040143268f * e;
    }
    if (a == DEV_ACT_QUICK_GELU) {
        float s = 1 / (1 + expf(-(cuda_planted<PLANT_elementwise> ? 1.5f : 1.702f) * x));
        return s * (1 + 1.702f * x * (1 - s));
    }
    if (a == DEV_ACT_TANH_GELU) {
        float s = 1 / (1 + expf(-1.5957691216057308f * (x + 0.044715f * x * x * x)));
        return s + x * s * (1 - s) * 1.5957691216057308f * (1 + 3 * 0.044715f * x * x);
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
    static constexpr bool QUICK = sizeof(X) == 2 || sizeof(Y) == 2;
    __device__ void one(size_t i) const
    {
        float v = apply<QUICK>(act, to_f32(x[i]));
        if (gamma)
            v *= gamma[remainder_of(i, cols)];
        if (residual)
            residual[i] += v;
        else
            y[i] = from_f32<Y>(v);
    }
    __device__ void eight(size_t i) const
    {
        float v[8], by[8], r[8];
        load_8(x + i, v);
        if (gamma)
            load_8(gamma + remainder_of(i, cols), by);
        if (residual)
            load_8(residual + i, r);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            v[k] = apply<QUICK>(act, v[k]) * (gamma ? by[k] : 1.0f);
            r[k] += v[k];
        }
        if (residual)
            store_8(residual + i, r);
        else
            store_8(y + i, v);
    }
};

template <class X, class Y>
static void finish(struct dev *d, size_t rows, size_t cols, const void *x, enum dev_act act,
                   const float *gamma, float *residual, void *y)
{
    bool aligned = cols % 8 == 0 && cuda_aligned(x) && cuda_aligned(gamma) &&
                   cuda_aligned(residual ? (void *)residual : y);
    cuda_map(d, "activation", rows * cols, aligned,
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
    static constexpr bool QUICK = sizeof(T) == 2;
    __device__ void one(size_t i) const
    {
        dpre[i] = from_f32<T>(to_f32(dy[i]) * slope<QUICK>(act, to_f32(pre[i])));
    }
    __device__ void eight(size_t i) const
    {
        float x[8], g[8];
        load_8(pre + i, x);
        load_8(dy + i, g);
#pragma unroll
        for (int k = 0; k < 8; k++)
            g[k] *= slope<QUICK>(act, x[k]);
        store_8(dpre + i, g);
    }
};

template <class T>
static void act_bwd(struct dev *d, size_t n, enum dev_act act, const void *pre, const void *dy,
                    void *dpre)
{
    bool aligned = cuda_aligned(pre) && cuda_aligned(dy) && cuda_aligned(dpre);
    cuda_map(d, "activation backward", n, aligned,
             act_bwd_op<T>{act, (const T *)pre, (const T *)dy, (T *)dpre});
}

void cuda_act_bwd(struct dev *d, size_t n, enum dev_act act, const void *pre, const void *dy,
                  void *dpre)
{
    if (d->act == DEV_F32)
        act_bwd<float>(d, n, act, pre, dy, dpre);
    else
        act_bwd<bf16>(d, n, act, pre, dy, dpre);
}

template <class T> struct to_act_op {
    size_t cols, x_ld;
    const float *x, *gamma;
    T *y;
    __device__ void one(size_t i) const
    {
        size_t r = quotient(i, cols), c = i - r * cols;
        float v = x[r * x_ld + c];
        y[i] = from_f32<T>(gamma ? v * gamma[c] : v);
    }
    __device__ void eight(size_t i) const
    {
        size_t r = quotient(i, cols), c = i - r * cols;
        float v[8], by[8];
        load_8(x + r * x_ld + c, v);
        if (gamma) {
            load_8(gamma + c, by);
#pragma unroll
            for (int k = 0; k < 8; k++)
                v[k] *= by[k];
        }
        store_8(y + i, v);
    }
};

template <class T>
static void to_act(struct dev *d, size_t rows, size_t cols, const float *x, size_t x_ld,
                   const float *gamma, void *y)
{
    bool aligned =
        cols % 8 == 0 && x_ld % 4 == 0 && cuda_aligned(x) && cuda_aligned(gamma) && cuda_aligned(y);
    cuda_map(d, "to activations", rows * cols, aligned, to_act_op<T>{cols, x_ld, x, gamma, (T *)y});
}

void cuda_to_act(struct dev *d, size_t rows, size_t cols, const float *x, size_t x_ld,
                 const float *gamma, void *y)
{
    if (d->act == DEV_F32)
        to_act<float>(d, rows, cols, x, x_ld, gamma, y);
    else
        to_act<bf16>(d, rows, cols, x, x_ld, gamma, y);
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
