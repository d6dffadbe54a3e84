// SPDX-License-Identifier: Apache-2.0
// Elementwise backward operations, and sums over whole buffers.
#include <stdlib.h>

#include "device/cpu/simd.h"
#include "device/cpu/grad/grad.h"
#include "base/mem.h"

enum { BLOCK = CPU_DOT_RUN, CHUNK = 512, COLS = 64 };

struct act_job {
    struct dev *d;
    size_t n;
    enum dev_act act;
    const void *pre, *dy;
    void *dpre;
};

#define LEVELS_OF "device/cpu/grad/elem-levels.h"
#include "device/cpu/levels.h"

void dev_cpu_act_bwd(struct dev *d, size_t n, enum dev_act act, const void *pre, const void *dy,
                     void *dpre)
{
    struct act_job j = {d, n, act, pre, dy, dpre};
    dev_par(d, blocks_of(n, BLOCK), AT_LEVEL(act_block), &j);
}

struct to_job {
    struct dev *d;
    size_t rows, cols, x_ld, per;
    const float *x, *gamma;
    void *y;
};

static void to_block(void *ctx, size_t b)
{
    const struct to_job *j = ctx;
    float tmp[CHUNK];
    for (size_t r = b * j->per; r < size_min(j->rows, (b + 1) * j->per); r++)
        for (size_t c0 = 0; c0 < j->cols; c0 += CHUNK) {
            size_t n = size_min(CHUNK, j->cols - c0), at = r * j->cols + c0;
            const float *x = j->x + r * j->x_ld + c0;
            float *y = act_begin(j->d, j->y, at, tmp);
            for (size_t c = 0; c < n; c++)
                y[c] = j->gamma ? x[c] * j->gamma[c0 + c] : x[c];
            act_put(j->d, j->y, at, n, tmp);
        }
}

void dev_cpu_to_act(struct dev *d, size_t rows, size_t cols, const float *x, size_t x_ld,
                    const float *gamma, void *y)
{
    size_t per = cols ? blocks_of(BLOCK, cols) : 1;
    struct to_job j = {d, rows, cols, x_ld, per, x, gamma, y};
    dev_par(d, blocks_of(rows, per), to_block, &j);
}

struct gamma_job {
    struct dev *d;
    size_t rows, cols;
    const float *dres;
    const void *branch;
    float *dgamma;
};

static void gamma_block(void *ctx, size_t b)
{
    const struct gamma_job *j = ctx;
    size_t c0 = b * COLS, n = size_min(COLS, j->cols - c0);
    float sum[COLS] = {0}, tmp[COLS];
    for (size_t r0 = 0; r0 < j->rows; r0 += COLS) {
        float part[COLS] = {0};
        for (size_t r = r0; r < size_min(j->rows, r0 + COLS); r++) {
            const float *y = act_read(j->d, j->branch, r * j->cols + c0, n, tmp);
            for (size_t c = 0; c < n; c++)
                part[c] += j->dres[r * j->cols + c0 + c] * y[c];
        }
        for (size_t c = 0; c < n; c++)
            sum[c] += part[c];
    }
    for (size_t c = 0; c < n; c++)
        j->dgamma[c0 + c] += sum[c];
}

void dev_cpu_gamma_bwd(struct dev *d, size_t rows, size_t cols, const float *dres,
                       const void *branch, float *dgamma)
{
    struct gamma_job j = {d, rows, cols, dres, branch, dgamma};
    dev_par(d, blocks_of(cols, COLS), gamma_block, &j);
}

struct line_job {
    size_t n;
    float alpha;
    const float *x, *z;
    float *y;
    double *part;
};

static void axpy_block(void *ctx, size_t b)
{
    const struct line_job *j = ctx;
    for (size_t i = b * BLOCK; i < size_min(j->n, (b + 1) * BLOCK); i++)
        j->y[i] += j->alpha * j->x[i];
}

void dev_cpu_axpy(struct dev *d, size_t n, float alpha, const float *x, float *y)
{
    struct line_job j = {.n = n, .alpha = alpha, .x = x, .y = y};
    dev_par(d, blocks_of(n, BLOCK), axpy_block, &j);
}

static void scale_block(void *ctx, size_t b)
{
    const struct line_job *j = ctx;
    for (size_t i = b * BLOCK; i < size_min(j->n, (b + 1) * BLOCK); i++)
        j->y[i] *= j->alpha;
}

void dev_cpu_scale(struct dev *d, size_t n, float alpha, float *x)
{
    struct line_job j = {.n = n, .alpha = alpha, .y = x};
    dev_par(d, blocks_of(n, BLOCK), scale_block, &j);
}

static void dot_block(void *ctx, size_t b)
{
    const struct line_job *j = ctx;
    size_t end = size_min(j->n, (b + 1) * BLOCK), i = b * BLOCK;
    double s[4] = {0}; // four chains, for speed; joined in one order
    for (; i + 4 <= end; i += 4)
        for (size_t k = 0; k < 4; k++)
            s[k] += (double)j->x[i + k] * (j->z ? (double)j->z[i + k] : 1.0);
    for (; i < end; i++)
        s[0] += (double)j->x[i] * (j->z ? (double)j->z[i] : 1.0);
    j->part[b] = (s[0] + s[1]) + (s[2] + s[3]);
}

void dev_cpu_dot_runs(struct dev *d, size_t n, const float *x, const float *y, double *part)
{
    struct line_job j = {.n = n, .x = x, .z = y, .part = part};
    dev_par(d, blocks_of(n, BLOCK), dot_block, &j);
}

void dev_cpu_dot_join(struct dev *d, size_t n, const double *part, double *to)
{
    double s = 0;
    (void)d;
    for (size_t b = 0; b < n; b++)
        s += part[b];
    *to = s;
}

static double total(struct dev *d, size_t n, const float *x, const float *z)
{
    struct err e;
    size_t n_blocks = blocks_of(n, BLOCK);
    double s, *part = mem_alloc(n_blocks, sizeof *part, &e);
    if (!part) {
        cpu_fail(d, &e);
        return 0;
    }
    dev_cpu_dot_runs(d, n, x, z, part);
    dev_cpu_dot_join(d, n_blocks, part, &s);
    free(part);
    return s;
}

double dev_cpu_dot(struct dev *d, size_t n, const float *x, const float *y)
{
    return total(d, n, x, y);
}

double dev_cpu_sum(struct dev *d, size_t n, const float *x)
{
    return total(d, n, x, NULL);
}

void dev_cpu_dot_to(struct dev *d, size_t n, const float *x, const float *y, double *to)
{
    *to = total(d, n, x, y);
}

void dev_cpu_dot_add(struct dev *d, size_t n, const float *x, const float *y, double *to)
{
    *to += total(d, n, x, y);
}

void dev_cpu_weigh(struct dev *d, size_t n, const double *x, const double *w, float *to)
{
    double s = 0;
    (void)d;
    for (size_t i = 0; i < n; i++)
        s += w[i] != 0 ? w[i] * x[i] : 0;
    *to = (float)s;
}

void dev_cpu_clamp(struct dev *d, size_t n, float low, float high, float *x)
{
    (void)d;
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] < low ? low : x[i] > high ? high : x[i];
}
