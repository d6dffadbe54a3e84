// SPDX-License-Identifier: Apache-2.0
// Backward of gated MLPs and of means of rows.
#include "device/cpu/simd.h"
#include "device/cpu/grad/grad.h"

enum { CHUNK = 512 };

struct glu_job {
    struct dev *d;
    size_t cols;
    const void *pre, *dmid;
    void *dpre;
};

#define LEVELS_OF "device/cpu/grad/glu-levels.h"
#include "device/cpu/levels.h"

static void glu_row(void *ctx, size_t r)
{
    const struct glu_job *j = ctx;
    float t[5][CHUNK];
    for (size_t c0 = 0; c0 < j->cols; c0 += CHUNK) {
        size_t n = size_min(CHUNK, j->cols - c0), at = r * 2 * j->cols + c0;
        const float *gate = act_read(j->d, j->pre, at, n, t[0]);
        const float *x = act_read(j->d, j->pre, at + j->cols, n, t[1]);
        const float *dy = act_read(j->d, j->dmid, r * j->cols + c0, n, t[2]);
        float *dgate = act_begin(j->d, j->dpre, at, t[3]);
        float *dx = act_begin(j->d, j->dpre, at + j->cols, t[4]);
        AT_LEVEL(glu_back)(n, gate, x, dy, dgate, dx);
        act_put(j->d, j->dpre, at, n, t[3]);
        act_put(j->d, j->dpre, at + j->cols, n, t[4]);
    }
}

void dev_cpu_swiglu_bwd(struct dev *d, size_t rows, size_t cols, const void *pre, const void *dmid,
                        void *dpre)
{
    struct glu_job j = {d, cols, pre, dmid, dpre};
    dev_par(d, rows, glu_row, &j);
}

struct mean_job {
    size_t positions, first, cols;
    const float *dy;
    float *dx;
};

static void mean_back(void *ctx, size_t i)
{
    const struct mean_job *j = ctx;
    const float *dy = j->dy + i * j->cols;
    float by = 1.0f / (float)(j->positions - j->first);
    for (size_t r = j->first; r < j->positions; r++) {
        float *dx = j->dx + (i * j->positions + r) * j->cols;
        for (size_t c = 0; c < j->cols; c++)
            dx[c] += by * dy[c];
    }
}

void dev_cpu_mean_rows_bwd(struct dev *d, size_t n, size_t positions, size_t first, size_t cols,
                           const float *dy, float *dx)
{
    struct mean_job j = {positions, first, cols, dy, dx};
    dev_par(d, n, mean_back, &j);
}
