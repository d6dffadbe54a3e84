// SPDX-License-Identifier: Apache-2.0
#include "simblock.h"

#include <cblas.h>
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "simblock-kernel.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool fast, has_bf16;

extern void openblas_set_num_threads(int n) __attribute__((weak));

// The threads are ours (par.h): a BLAS that starts its own under each of them would only fight.
static void look(void)
{
    fast = sim_has_avx512();
    has_bf16 = sim_has_bf16();
    if (openblas_set_num_threads)
        openblas_set_num_threads(1);
}

enum sim_kernel sim_best_kernel(void)
{
    pthread_once(&once, look);
    return has_bf16 ? SIM_BF16 : SIM_F32;
}

static size_t height(enum sim_side side)
{
    return side == SIM_SIDE_LEFT ? SIM_LEFT : SIM_RIGHT;
}

// A panel holds whole groups of rows and, for bf16, whole pairs of values.
static size_t data_bytes(enum sim_kernel kernel, enum sim_side side, size_t cap, size_t dim)
{
    size_t rows, bytes;
    if (!mem_add(cap, height(side) - 1, &rows))
        return 0;
    rows = rows / height(side) * height(side);
    size_t row = kernel == SIM_BF16 ? (dim / 2 + dim % 2) * 4 : dim;
    if (kernel == SIM_F32 && !mem_mul(dim, 4, &row))
        return 0;
    return mem_mul(rows, row, &bytes) ? bytes : 0;
}

size_t sim_panel_bytes(enum sim_kernel kernel, enum sim_side side, size_t cap, size_t dim)
{
    size_t extra, sum, data = data_bytes(kernel, side, cap, dim);
    if (!data || !mem_mul(cap, 2 * sizeof(float), &extra) || !mem_add(data, extra, &sum))
        return 0;
    return sum;
}

int sim_panel_init(struct sim_panel *p, enum sim_kernel kernel, enum sim_side side, size_t cap,
                   size_t dim, struct err *e)
{
    sim_best_kernel(); // sets up OpenBLAS
    *p = (struct sim_panel){.kernel = kernel, .side = side, .cap = cap, .dim = dim};
    size_t bytes = data_bytes(kernel, side, cap, dim);
    if (!bytes)
        return err_set(e, "%zu rows of %zu values are more than memory can hold", cap, dim);
    p->data = mem_alloc_unset(bytes, 1, e); // packing fills whole groups
    p->norm = p->data ? mem_alloc(cap, sizeof(float), e) : NULL;
    p->lost = p->norm ? mem_alloc(cap, sizeof(float), e) : NULL;
    if (p->lost)
        return 0;
    sim_panel_release(p);
    return -1;
}

void sim_panel_release(struct sim_panel *p)
{
    free(p->data);
    free(p->norm);
    free(p->lost);
    *p = (struct sim_panel){0};
}

static float round_up(double v)
{
    return (float)(v * (1 + 1e-6) + 1e-37);
}

static float least_over(double v, size_t dim)
{
    return round_up(sqrt(v * (1 + 1.2e-7 * (double)(dim + 8)))); // v was summed in float32
}

static void pack_group(struct sim_panel *p, const float *rows, size_t first, size_t n)
{
    size_t lanes = height(p->side), pairs = (p->dim + 1) / 2;
    float norm2[SIM_RIGHT], lost2[SIM_RIGHT];
    sim_pack_bf16((uint32_t *)p->data + first * pairs, lanes, rows, n, p->dim, norm2, lost2);
    for (size_t i = 0; i < n; i++) {
        p->norm[first + i] = least_over(norm2[i], p->dim);
        p->lost[first + i] = lost2[i] > 0 ? least_over(lost2[i], p->dim) : 0;
    }
}

void sim_panel_part(struct sim_panel *p, const float *rows, size_t first, size_t n)
{
    size_t lanes = height(p->side);
    if (p->kernel == SIM_BF16) {
        for (size_t i = 0; i < n; i += lanes)
            pack_group(p, rows + i * p->dim, first + i, n - i < lanes ? n - i : lanes);
        return;
    }
    memcpy((float *)p->data + first * p->dim, rows, n * p->dim * sizeof(float));
    for (size_t i = 0; i < n; i++)
        p->norm[first + i] = round_up(sqrt(sim_dot(rows + i * p->dim, rows + i * p->dim, p->dim)));
}

void sim_panel_done(struct sim_panel *p)
{
    p->most = p->worst = 0;
    for (size_t i = 0; i < p->n; i++) {
        p->most = fmaxf(p->most, p->norm[i]);
        p->worst = fmaxf(p->worst, p->lost[i]);
    }
}

void sim_panel_set(struct sim_panel *p, const float *rows, size_t n)
{
    p->n = n;
    sim_panel_part(p, rows, 0, n);
    sim_panel_done(p);
}

// One group of a left panel, from one or two of a right panel; the lanes behind n are rows or zeros
// that nobody asks for.
static void take_group(uint32_t *to, const uint32_t *data, size_t pairs, size_t row, size_t n)
{
    size_t lane = row % SIM_RIGHT, here = SIM_RIGHT - lane;
    const uint32_t *from = data + (row - lane) * pairs + lane;
    if (here >= SIM_LEFT) {
        for (size_t k = 0; k < pairs; k++)
            memcpy(to + k * SIM_LEFT, from + k * SIM_RIGHT, SIM_LEFT * sizeof *to);
        return;
    }
    const uint32_t *next = here < n ? data + (row - lane + SIM_RIGHT) * pairs : from - lane;
    for (size_t k = 0; k < pairs; k++) {
        for (size_t l = 0; l < here; l++)
            to[k * SIM_LEFT + l] = from[k * SIM_RIGHT + l];
        for (size_t l = here; l < SIM_LEFT; l++)
            to[k * SIM_LEFT + l] = next[k * SIM_RIGHT + l - here];
    }
}

void sim_panel_take(struct sim_panel *left, const struct sim_panel *right, size_t first, size_t n)
{
    size_t pairs = (left->dim + 1) / 2;
    left->n = n;
    if (left->kernel == SIM_BF16)
        for (size_t i = 0; i < n; i += SIM_LEFT)
            take_group((uint32_t *)left->data + i * pairs, right->data, pairs, first + i,
                       n - i < SIM_LEFT ? n - i : SIM_LEFT);
    else
        memcpy(left->data, (const float *)right->data + first * left->dim,
               n * left->dim * sizeof(float));
    memcpy(left->norm, right->norm + first, n * sizeof *left->norm);
    memcpy(left->lost, right->lost + first, n * sizeof *left->lost);
    sim_panel_done(left);
}

void sim_block(const struct sim_panel *a, size_t a0, size_t m, const struct sim_panel *b, size_t b0,
               size_t n, float *out, size_t ld)
{
    if (a->kernel == SIM_F32) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, (int)n, (int)a->dim, 1,
                    (const float *)a->data + a0 * a->dim, (int)a->dim,
                    (const float *)b->data + b0 * b->dim, (int)b->dim, 0, out, (int)ld);
        return;
    }
    size_t pairs = (a->dim + 1) / 2;
    const uint32_t *pa = (const uint32_t *)a->data + a0 * pairs;
    const uint32_t *pb = (const uint32_t *)b->data + b0 * pairs;
    for (size_t j = 0; j < n; j += SIM_RIGHT) // this panel of b stays in L1, those of a in L2
        for (size_t i = 0; i < m; i += SIM_LEFT)
            sim_tile_bf16(pa + i * pairs, pb + j * pairs, pairs, out + i * ld + j, ld);
}

// With x', y' the packed rows, x.y - x'.y' = x.(y - y') + (x - x').y', so by Cauchy-Schwarz it is
// at most |x| lost_y + lost_x (|y| + lost_y). The kernel sums the dim products of x'.y' in float32
// in some order: its error is at most g |x'| |y'| with g = n u / (1 - n u), u = 2^-24 (Higham,
// Accuracy and Stability of Numerical Algorithms, 3.1; fused products only do better), n = dim + 1
// for the rounding of products. bf16 products are exact but may be flushed to zero below 2^-126:
// 1e-30 covers that, and sim_dot's own error is a 2^-29th of g.
float sim_bound(const struct sim_panel *a, size_t i, const struct sim_panel *b)
{
    double nu = (double)(a->dim + 2) * 0x1p-24;
    double g = nu < 0.5 ? nu / (1 - nu) * 1.001 : 1e30;
    double x = a->norm[i], lost = a->lost[i];
    double bound = x * b->worst + lost * ((double)b->most + b->worst) +
                   g * (x + lost) * ((double)b->most + b->worst);
    return round_up(bound + 1e-30);
}

double sim_dot(const float *a, const float *b, size_t dim)
{
    pthread_once(&once, look);
    if (fast)
        return sim_dot_avx512(a, b, dim);
    double s[16] = {0};
    size_t i = 0;
    for (; i + 16 <= dim; i += 16)
        for (size_t l = 0; l < 16; l++)
            s[l] += (double)a[i + l] * (double)b[i + l];
    for (size_t l = 0; i < dim; i++, l++)
        s[l] += (double)a[i] * (double)b[i];
    for (size_t w = 8; w; w /= 2)
        for (size_t l = 0; l < w; l++)
            s[l] += s[l + w];
    return s[0];
}

void sim_scale(const float *in, double by, float *out, size_t n)
{
    pthread_once(&once, look);
    if (fast) {
        sim_scale_avx512(in, by, out, n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        out[i] = (float)(in[i] * by);
}

float sim_max(const float *v, size_t n)
{
    pthread_once(&once, look);
    if (fast)
        return sim_max_avx512(v, n);
    float best = v[0];
    for (size_t i = 1; i < n; i++)
        best = v[i] > best ? v[i] : best;
    return best;
}

size_t sim_above(const float *v, size_t n, float least, uint32_t *at)
{
    pthread_once(&once, look);
    if (fast)
        return sim_above_avx512(v, n, least, at);
    size_t found = 0;
    for (size_t i = 0; i < n; i++)
        if (v[i] >= least)
            at[found++] = (uint32_t)i;
    return found;
}

static enum sim_state class_of(double norm2, bool scale)
{
    if (!isfinite(norm2))
        return SIM_NOT_FINITE;
    if (norm2 == 0)
        return SIM_ZERO;
    double norm = sqrt(norm2);
    if (!scale && norm > SIM_MAX_NORM)
        return SIM_NOT_FINITE;
    return fabs(norm - 1) > 0.01 ? SIM_RESCALED : SIM_OK;
}

void sim_unit_rows_of(const float *raw, float *unit, size_t n, size_t dim, bool scale,
                      uint8_t *state, double *norm)
{
    for (size_t i = 0; i < n; i++) {
        const float *x = raw + i * dim;
        float *u = unit ? unit + i * dim : NULL;
        double norm2 = sim_dot(x, x, dim), length = sqrt(norm2), by = 1 / length;
        enum sim_state s = class_of(norm2, scale);
        if (sim_failed(s) && u)
            memset(u, 0, dim * sizeof *u);
        else if (scale && u)
            sim_scale(x, by, u, dim);
        else if (u && u != x)
            memcpy(u, x, dim * sizeof *u);
        if (state)
            state[i] = s;
        if (norm)
            norm[i] = length;
    }
}

void sim_unit_rows(float *rows, size_t n, size_t dim, bool scale, uint8_t *state)
{
    sim_unit_rows_of(rows, rows, n, dim, scale, state, NULL);
}
