// SPDX-License-Identifier: Apache-2.0
// AdamW (Loshchilov and Hutter, ICLR 2019), in the order of operations PyTorch uses.
#include "dev-cpu-grad-simd.h"
#include "dev-cpu-grad.h"

enum { BLOCK = 8192 };

struct adamw_job {
    const struct dev_adamw *o;
    size_t n, cols, per;
    const int32_t *index;
    const float *grad;
    float *m, *v, *param;
};

SIMD_INLINE vf vf_sqrt(vf x)
{
    float t[VF];
    vf_store(t, x);
    for (int i = 0; i < VF; i++)
        t[i] = sqrtf(t[i]);
    return vf_load(t);
}

// param *= 1 - lr decay; m, v moving averages of g and g^2;
// param -= lr / bias1 * m / (sqrt(v / bias2) + eps)
SIMD static void adamw_run(const struct dev_adamw *o, size_t n, const float *grad, float *m,
                           float *v, float *param)
{
    vf keep = vf_all(1 - o->lr * o->weight_decay), b1 = vf_all(o->beta1), b2 = vf_all(o->beta2);
    vf c1 = vf_all(1 - o->beta1), c2 = vf_all(1 - o->beta2), eps = vf_all(o->eps);
    vf rate = vf_all(o->lr / o->bias1), root = vf_all(1 / sqrtf(o->bias2));
    vf scale = vf_all(o->grad_scale);
    for (size_t i = 0; i < n; i += VF) {
        size_t k = size_min(VF, n - i);
        bool whole = k == VF;
        vf g = scale * (whole ? vf_load(grad + i) : vf_load_n(grad + i, k));
        vf a = b1 * (whole ? vf_load(m + i) : vf_load_n(m + i, k)) + c1 * g;
        vf b = b2 * (whole ? vf_load(v + i) : vf_load_n(v + i, k)) + c2 * g * g;
        vf p = keep * (whole ? vf_load(param + i) : vf_load_n(param + i, k));
        p -= rate * a / (vf_sqrt(b) * root + eps);
        if (whole) {
            vf_store(m + i, a);
            vf_store(v + i, b);
            vf_store(param + i, p);
        } else {
            vf_store_n(m + i, a, k);
            vf_store_n(v + i, b, k);
            vf_store_n(param + i, p, k);
        }
    }
}

static void adamw_block(void *ctx, size_t b)
{
    const struct adamw_job *j = ctx;
    size_t at = b * BLOCK;
    adamw_run(j->o, size_min(BLOCK, j->n - at), j->grad + at, j->m + at, j->v + at, j->param + at);
}

void dev_cpu_adamw(struct dev *d, size_t n, const struct dev_adamw *o, const float *grad, float *m,
                   float *v, float *param)
{
    struct adamw_job j = {.o = o, .n = n, .grad = grad, .m = m, .v = v, .param = param};
    dev_par(d, blocks_of(n, BLOCK), adamw_block, &j);
}

static void adamw_row_block(void *ctx, size_t b)
{
    const struct adamw_job *j = ctx;
    for (size_t r = b * j->per; r < size_min(j->n, (b + 1) * j->per); r++) {
        size_t at = (size_t)j->index[r] * j->cols;
        adamw_run(j->o, j->cols, j->grad + r * j->cols, j->m + at, j->v + at, j->param + at);
    }
}

void dev_cpu_adamw_rows(struct dev *d, size_t n, size_t cols, const int32_t *index,
                        const struct dev_adamw *o, const float *grad, float *m, float *v,
                        float *param)
{
    size_t per = cols ? blocks_of(BLOCK, cols) : 1;
    struct adamw_job j = {o, n, cols, per, index, grad, m, v, param};
    dev_par(d, blocks_of(n, per), adamw_row_block, &j);
}
