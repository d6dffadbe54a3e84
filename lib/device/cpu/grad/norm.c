// SPDX-License-Identifier: Apache-2.0
// Backward of layer norm and of unit rows.
#include "device/cpu/simd.h"
#include "device/cpu/grad/grad.h"

enum { ROWS = 16, COLS = 64, CHUNK = 512 };

struct norm_job {
    struct dev *d;
    size_t rows, cols, x_ld, dx_ld;
    const float *x, *gain, *mean, *rstd;
    const void *dy;
    bool dy_f32;
    float *dx, *dgain, *dbias;
};

SIMD_INLINE const float *read_dy(const struct norm_job *j, size_t at, size_t n, float *tmp)
{
    return j->dy_f32 ? (const float *)j->dy + at : act_read(j->d, j->dy, at, n, tmp);
}

#define LEVELS_OF "device/cpu/grad/norm-levels.h"
#include "device/cpu/levels.h"

static void norm_rows(void *ctx, size_t b)
{
    const struct norm_job *j = ctx;
    for (size_t r = b * ROWS; r < size_min(j->rows, (b + 1) * ROWS); r++)
        AT_LEVEL(norm_row)(j, r);
}

void dev_cpu_layer_norm_bwd(struct dev *d, size_t rows, size_t cols, const float *x, size_t x_ld,
                            const float *gain, const float *mean, const float *rstd, const void *dy,
                            bool dy_f32, float *dx, size_t dx_ld, float *dgain, float *dbias)
{
    struct norm_job j = {d,    rows, cols, x_ld,   dx_ld, x,     gain,
                         mean, rstd, dy,   dy_f32, dx,    dgain, dbias};
    dev_par(d, blocks_of(rows, ROWS), norm_rows, &j);
    dev_par(d, blocks_of(cols, COLS), AT_LEVEL(norm_params), &j);
}

struct unit_job {
    size_t rows, cols;
    const float *y, *norm, *dy;
    float *dx;
};

static void unit_rows(void *ctx, size_t b)
{
    const struct unit_job *j = ctx;
    for (size_t r = b * ROWS; r < size_min(j->rows, (b + 1) * ROWS); r++) {
        const float *y = j->y + r * j->cols, *dy = j->dy + r * j->cols;
        float *dx = j->dx + r * j->cols;
        double dot = 0;
        for (size_t c = 0; c < j->cols; c++)
            dot += (double)y[c] * dy[c];
        // A zero row stayed zero whatever its values: no gradient.
        float inv = j->norm[r] > 0 ? 1 / j->norm[r] : 0, s = (float)dot;
        for (size_t c = 0; c < j->cols; c++)
            dx[c] = (dy[c] - y[c] * s) * inv;
    }
}

void dev_cpu_unit_bwd(struct dev *d, size_t rows, size_t cols, const float *y, const float *norm,
                      const float *dy, float *dx)
{
    struct unit_job j = {rows, cols, y, norm, dy, dx};
    dev_par(d, blocks_of(rows, ROWS), unit_rows, &j);
}
