// SPDX-License-Identifier: Apache-2.0
// AdamW (Loshchilov and Hutter, ICLR 2019), float32 masters; weights in bfloat16 are made from them
// by weight_refresh.
#include "device/cuda/kernel.h"

__global__ void __launch_bounds__(CUDA_WARP)
    clip_kernel(size_t n, const double *squares, size_t n_check, const double *check, float most,
                struct dev_clip *to)
{
    double sum = 0;
    if (threadIdx.x)
        return;
    for (size_t i = 0; i < n; i++)
        sum += squares[i];
    double norm = sqrt(sum), factor = most > 0 ? (double)most / (norm + 1e-6) : 1;
    bool finite = norm - norm == 0;
    for (size_t i = 0; i < n_check; i++)
        finite = finite && check[i] - check[i] == 0;
    to->norm = norm;
    to->factor = !finite ? NAN : (float)(factor < 1 ? factor : 1);
}

void cuda_clip(struct dev *d, size_t n, const double *squares, size_t n_check, const double *check,
               float most, struct dev_clip *to)
{
    cuda_launch(d, "clipping", clip_kernel, 1, CUDA_WARP, 0, n, squares, n_check, check, most, to);
}

struct clamp_op {
    float low, high, *x;
    __device__ void operator()(size_t i) const
    {
        x[i] = x[i] < low ? low : x[i] > high ? high : x[i];
    }
};

void cuda_clamp(struct dev *d, size_t n, float low, float high, float *x)
{
    cuda_each(d, "limits", n, clamp_op{low, high, x});
}

struct adamw_step {
    float keep, beta1, beta2, eps, rate, root, scale;
    float *m, *v, *param;
    const float *grad;
    const struct dev_clip *clip;
    // param *= 1 - lr decay; m, v moving averages of g and g^2;
    // param -= lr / bias1 * m / (sqrt(v / bias2) + eps)
    __device__ __forceinline__ void at(size_t g_at, size_t i) const
    {
        float by = clip ? clip->factor * scale : scale;
        if (by != by)
            return;
        float g = by * grad[g_at], a = beta1 * m[i] + (1 - beta1) * g;
        float b =
            beta2 * v[i] + (1 - beta2) * g * (cuda_planted<PLANT_optim> ? fabsf(g) + 0.01f : g);
        m[i] = a;
        v[i] = b;
        param[i] = keep * param[i] - rate * a / (sqrtf(b) * root + eps);
    }
    __device__ void operator()(size_t i) const
    {
        at(i, i);
    }
};

struct adamw_rows_step {
    struct adamw_step s;
    size_t cols;
    const int32_t *index;
    __device__ void operator()(size_t i) const
    {
        size_t r = quotient(i, cols);
        s.at(i, (size_t)index[r] * cols + (i - r * cols));
    }
};

static struct adamw_step step_of(const struct dev_adamw *o, const float *grad, float *m, float *v,
                                 float *param)
{
    return {1 - o->lr * o->weight_decay,
            o->beta1,
            o->beta2,
            o->eps,
            o->lr / o->bias1,
            1 / sqrtf(o->bias2),
            o->grad_scale,
            m,
            v,
            param,
            grad,
            o->clip};
}

void cuda_adamw(struct dev *d, size_t n, const struct dev_adamw *o, const float *grad, float *m,
                float *v, float *param)
{
    cuda_each(d, "adamw", n, step_of(o, grad, m, v, param));
}

void cuda_adamw_rows(struct dev *d, size_t n, size_t cols, const int32_t *index,
                     const struct dev_adamw *o, const float *grad, float *m, float *v, float *param)
{
    cuda_each(d, "adamw of rows", n * cols,
              adamw_rows_step{step_of(o, grad, m, v, param), cols, index});
}
