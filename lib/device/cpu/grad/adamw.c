// SPDX-License-Identifier: Apache-2.0
// AdamW (Loshchilov and Hutter, ICLR 2019), in the order of operations PyTorch uses.
#include "device/cpu/simd.h"
#include "device/cpu/grad/grad.h"

enum { BLOCK = 8192 };

struct adamw_job {
    const struct dev_adamw *o;
    size_t n, cols, per;
    const int32_t *index;
    const float *grad;
    float *m, *v, *param;
};

// The compiler makes vectors of this loop, the square root too.
#if defined(__GNUC__) && !defined(__clang__)
#define VECTOR_LOOP __attribute__((optimize("O3", "no-math-errno", "no-trapping-math")))
#else
#define VECTOR_LOOP
#endif

#define LEVELS_OF "device/cpu/grad/adamw-levels.h"
#include "device/cpu/levels.h"

void dev_cpu_clip(struct dev *d, size_t n, const double *squares, size_t n_check,
                  const double *check, float most, struct dev_clip *to)
{
    double sum = 0;
    (void)d;
    for (size_t i = 0; i < n; i++)
        sum += squares[i];
    to->norm = sqrt(sum);
    double factor = most > 0 ? (double)most / (to->norm + 1e-6) : 1;
    to->factor = (float)(factor < 1 ? factor : 1);
    bool finite = isfinite(to->norm);
    for (size_t i = 0; i < n_check; i++)
        finite = finite && isfinite(check[i]);
    if (!finite)
        to->factor = NAN;
}

static void adamw_block(void *ctx, size_t b)
{
    const struct adamw_job *j = ctx;
    size_t at = b * BLOCK;
    AT_LEVEL(adamw_run)
    (j->o, size_min(BLOCK, j->n - at), j->grad + at, j->m + at, j->v + at, j->param + at);
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
        AT_LEVEL(adamw_run)
        (j->o, j->cols, j->grad + r * j->cols, j->m + at, j->v + at, j->param + at);
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
