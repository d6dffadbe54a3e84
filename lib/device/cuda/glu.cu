// SPDX-License-Identifier: Apache-2.0
// What towers other than plain CLIP's have: gated MLPs, rotary embeddings, means of rows.
#include "device/cuda/kernel.h"

__device__ __forceinline__ float sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

template <class T> struct swiglu_op {
    size_t cols;
    const T *pre;
    T *mid;
    __device__ void operator()(size_t i) const
    {
        size_t at = i + quotient(i, cols) * cols;
        float g = to_f32(pre[at]), x = to_f32(pre[at + cols]);
        mid[i] = from_f32<T>(g * sigmoid(g) * x);
    }
};

void cuda_swiglu(struct dev *d, size_t rows, size_t cols, const void *pre, void *mid)
{
    if (d->act == DEV_F32)
        cuda_each(d, "swiglu", rows * cols,
                  swiglu_op<float>{cols, (const float *)pre, (float *)mid});
    else
        cuda_each(d, "swiglu", rows * cols, swiglu_op<bf16>{cols, (const bf16 *)pre, (bf16 *)mid});
}

template <class T> struct swiglu_bwd_op {
    size_t cols;
    const T *pre, *dmid;
    T *dpre;
    __device__ void operator()(size_t i) const
    {
        size_t at = i + quotient(i, cols) * cols;
        float g = to_f32(pre[at]), x = to_f32(pre[at + cols]), dy = to_f32(dmid[i]);
        float s = sigmoid(g), one = cuda_planted<PLANT_glu> ? 0.75f : 1.0f;
        dpre[at] = from_f32<T>(dy * x * s * (one + g * (1 - s)));
        dpre[at + cols] = from_f32<T>(dy * g * s);
    }
};

void cuda_swiglu_bwd(struct dev *d, size_t rows, size_t cols, const void *pre, const void *dmid,
                     void *dpre)
{
    if (d->act == DEV_F32)
        cuda_each(
            d, "swiglu backward", rows * cols,
            swiglu_bwd_op<float>{cols, (const float *)pre, (const float *)dmid, (float *)dpre});
    else
        cuda_each(d, "swiglu backward", rows * cols,
                  swiglu_bwd_op<bf16>{cols, (const bf16 *)pre, (const bf16 *)dmid, (bf16 *)dpre});
}

// i: a pair.
template <class T> struct rotate_op {
    size_t pairs, head, positions, ld; // pairs of a row
    const float *table;
    float sign;
    T *x;
    __device__ void operator()(size_t i) const
    {
        size_t r = quotient(i, pairs), c = 2 * (i - r * pairs);
        const float *angle = table + remainder_of(r, positions) * head + remainder_of(c, head);
        T *at = x + r * ld + c;
        float a = to_f32(at[0]), b = to_f32(at[1]), cs = angle[0], sn = sign * angle[1];
        at[0] = from_f32<T>(a * cs - b * sn);
        at[1] = from_f32<T>(b * cs + a * sn);
    }
};

void cuda_rotate(struct dev *d, size_t rows, size_t cols, size_t head_dim, size_t positions,
                 const float *table, bool back, void *x, size_t x_ld)
{
    float sign = back ? -1.0f : 1.0f;
    size_t pairs = cols / 2;
    if (d->act == DEV_F32)
        cuda_each(d, "rotate", rows * pairs,
                  rotate_op<float>{pairs, head_dim, positions, x_ld, table, sign, (float *)x});
    else
        cuda_each(d, "rotate", rows * pairs,
                  rotate_op<bf16>{pairs, head_dim, positions, x_ld, table, sign, (bf16 *)x});
}

template <class T> struct widen_op {
    const T *x;
    float *y;
    __device__ void operator()(size_t i) const
    {
        y[i] = to_f32(x[i]);
    }
};

void cuda_widen(struct dev *d, size_t n, const void *x, float *y)
{
    if (d->act == DEV_F32)
        cuda_each(d, "widen", n, widen_op<float>{(const float *)x, y});
    else
        cuda_each(d, "widen", n, widen_op<bf16>{(const bf16 *)x, y});
}

// i: a value of a sample; its rows in order.
struct mean_rows_op {
    size_t positions, first, cols;
    const float *x;
    float *y;
    __device__ void operator()(size_t i) const
    {
        size_t sample = quotient(i, cols), c = i - sample * cols;
        const float *at = x + sample * positions * cols + c;
        float s = 0;
        for (size_t r = first; r < positions; r++)
            s += at[r * cols];
        y[i] = s * (1.0f / (float)(positions - first));
    }
};

void cuda_mean_rows(struct dev *d, size_t n, size_t positions, size_t first, size_t cols,
                    const float *x, float *y)
{
    cuda_each(d, "mean of rows", n * cols, mean_rows_op{positions, first, cols, x, y});
}

struct mean_rows_bwd_op {
    size_t positions, first, cols;
    const float *dy;
    float *dx;
    __device__ void operator()(size_t i) const
    {
        size_t r = quotient(i, cols), sample = quotient(r, positions);
        if (r - sample * positions >= first)
            dx[i] += dy[sample * cols + (i - r * cols)] * (1.0f / (float)(positions - first));
    }
};

void cuda_mean_rows_bwd(struct dev *d, size_t n, size_t positions, size_t first, size_t cols,
                        const float *dy, float *dx)
{
    cuda_each(d, "mean of rows backward", n * positions * cols,
              mean_rows_bwd_op{positions, first, cols, dy, dx});
}
