// SPDX-License-Identifier: Apache-2.0
// AdamW (Loshchilov and Hutter, ICLR 2019), float32 masters; weights in bfloat16 are made from them
// by weight_refresh.
#include "kernel.h"

struct adamw_step {
    float keep, beta1, beta2, eps, rate, root, scale;
    float *m, *v, *param;
    const float *grad;
    // param *= 1 - lr decay; m, v moving averages of g and g^2;
    // param -= lr / bias1 * m / (sqrt(v / bias2) + eps)
    __device__ __forceinline__ void at(size_t g_at, size_t i) const
    {
        float g = scale * grad[g_at], a = beta1 * m[i] + (1 - beta1) * g;
        float b = beta2 * v[i] + (1 - beta2) * g * g;
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
            grad};
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
