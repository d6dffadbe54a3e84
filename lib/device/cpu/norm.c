// SPDX-License-Identifier: Apache-2.0
// Layer norm and unit rows.
#include <math.h>
#include <string.h>

#include "device/cpu/simd.h"
#include "device/cpu/cpu.h"

enum { RUN = 16, SLOT_ROW = 2 };

struct norm {
    struct dev *d;
    size_t cols, x_ld;
    const float *x, *gain, *bias;
    float eps, *mean, *rstd;
    void *y;
    bool y_f32;
};

#define LEVELS_OF "device/cpu/norm-levels.h"
#include "device/cpu/levels.h"

static void norm_rows(void *ctx, size_t first, size_t count, int worker)
{
    const struct norm *j = ctx;
    bool convert = !j->y_f32 && j->d->act == DEV_BF16;
    float *tmp = convert ? cpu_scratch(j->d, worker, SLOT_ROW, j->cols * sizeof *tmp) : NULL;
    if (convert && !tmp)
        return;
    for (size_t r = first; r < first + count; r++) {
        float mean, rstd, *y = convert ? tmp : (float *)j->y + r * j->cols;
        AT_LEVEL(norm_row)(j, j->x + r * j->x_ld, y, &mean, &rstd);
        if (convert)
            bf16_from_f32(tmp, (uint16_t *)j->y + r * j->cols, j->cols);
        if (j->mean)
            j->mean[r] = mean;
        if (j->rstd)
            j->rstd[r] = rstd;
    }
}

void cpu_layer_norm(struct dev *d, size_t rows, size_t cols, const float *x, size_t x_ld,
                    const float *gain, const float *bias, float eps, void *y, bool y_f32,
                    float *mean, float *rstd)
{
    struct norm j = {.d = d,
                     .cols = cols,
                     .x_ld = x_ld,
                     .x = x,
                     .gain = gain,
                     .bias = bias,
                     .eps = eps,
                     .mean = mean,
                     .rstd = rstd,
                     .y = y,
                     .y_f32 = y_f32};
    cpu_for_runs(d, rows, RUN, norm_rows, &j);
}

struct unit {
    size_t cols;
    const float *x;
    float *y, *norm;
};

// In float64, so that rows from half precision weights too are unit to the last bit.
static void unit_rows(void *ctx, size_t first, size_t count, int worker)
{
    (void)worker;
    const struct unit *j = ctx;
    for (size_t r = first; r < first + count; r++) {
        const float *x = j->x + r * j->cols;
        float *y = j->y + r * j->cols;
        double q = 0;
        for (size_t i = 0; i < j->cols; i++)
            q += (double)x[i] * (double)x[i];
        double norm = sqrt(q), scale = norm > 0 ? 1 / norm : 0;
        for (size_t i = 0; i < j->cols; i++)
            y[i] = (float)((double)x[i] * scale);
        if (j->norm)
            j->norm[r] = (float)norm;
    }
}

void cpu_unit(struct dev *d, size_t rows, size_t cols, const float *x, float *y, float *norm)
{
    struct unit j = {cols, x, y, norm};
    cpu_for_runs(d, rows, RUN, unit_rows, &j);
}
