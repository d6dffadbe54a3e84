// SPDX-License-Identifier: Apache-2.0
// Backward of linear layers.
#include <cblas.h>
#include <stdlib.h>
#include <string.h>

#include "dev-cpu-grad-simd.h"
#include "dev-cpu.h"
#include "mem.h"

struct dx {
    struct dev *d;
    size_t cols;
    void *dx;
};

static void store_tile(void *ctx, size_t row0, size_t rows, size_t col0, size_t cols, float *c,
                       size_t ldc, int worker)
{
    (void)worker;
    const struct dx *j = ctx;
    for (size_t r = 0; r < rows; r++)
        act_put(j->d, j->dx, (row0 + r) * j->cols + col0, cols, c + r * ldc);
    for (size_t r = 0; j->d->act == DEV_F32 && r < rows; r++)
        memcpy((float *)j->dx + (row0 + r) * j->cols + col0, c + r * ldc, cols * sizeof *c);
}

void cpu_linear_dx(struct dev *d, size_t rows, const void *dy, const struct dev_weight *weight,
                   void *dx)
{
    // The packed form for this direction is made when it is first wanted: embedding needs none.
    struct dev_weight *w = (struct dev_weight *)(size_t)weight;
    struct err e;
    if (!w->bwd && !w->view) {
        err_set(&e, "a weight without master values has no backward");
        cpu_fail(d, &e);
        return;
    }
    if (!w->bwd)
        w->bwd =
            cpu_pack_new(d, w->out, w->in, w->view, DEV_F32, cpu_out_step(w), cpu_in_step(w), &e);
    if (!w->bwd) {
        cpu_fail(d, &e);
        return;
    }
    struct dx j = {d, w->in, dx};
    cpu_matmul(d, rows, dy, w->out, w->bwd, store_tile, &j);
}

// dw += a^T b, tile by tile, K rows at a time when bfloat16 has to be made wide first.
enum { TILE_M = 192, TILE_N = 384, WIDE_ROWS = 512, SLOT_A = 0, SLOT_B = 1 };

struct dw {
    struct dev *d;
    size_t rows, m, n, lda, ldb, col_tiles;
    const void *a, *b; // act [rows, m], [rows, n]
    float *dw;         // [m, n]
};

static const float *wide(struct dev *d, const void *src, size_t rows, size_t cols, size_t ld,
                         int worker, int slot)
{
    float *out = cpu_scratch(d, worker, slot, rows * cols * sizeof *out);
    for (size_t r = 0; out && r < rows; r++)
        bf16_to_f32((const uint16_t *)src + r * ld, out + r * cols, cols);
    return out;
}

static void dw_tile(void *ctx, size_t i, int worker)
{
    const struct dw *j = ctx;
    size_t r0 = i / j->col_tiles * TILE_M, c0 = i % j->col_tiles * TILE_N;
    size_t m = size_min(TILE_M, j->m - r0), n = size_min(TILE_N, j->n - c0);
    bool narrow = j->d->act == DEV_BF16;
    size_t step = narrow ? WIDE_ROWS : j->rows, lda = narrow ? m : j->lda;
    size_t ldb = narrow ? n : j->ldb;
    for (size_t k0 = 0; k0 < j->rows; k0 += step) {
        size_t k = size_min(step, j->rows - k0);
        const float *a = cpu_at(j->d, j->a, k0 * j->lda + r0);
        const float *b = cpu_at(j->d, j->b, k0 * j->ldb + c0);
        if (narrow) {
            a = wide(j->d, a, k, m, j->lda, worker, SLOT_A);
            b = wide(j->d, b, k, n, j->ldb, worker, SLOT_B);
        }
        if (!a || !b)
            return;
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)m, (int)n, (int)k, 1, a, (int)lda,
                    b, (int)ldb, 1, j->dw + r0 * j->n + c0, (int)j->n);
    }
}

struct db {
    struct dev *d;
    size_t rows, cols;
    const void *dy;
    float *db;
};

enum { DB_COLS = 64 };

SIMD static void add_to(float *sum, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        vf_store(sum + i, vf_load(sum + i) + vf_load(x + i));
    for (; i < n; i++)
        sum[i] += x[i];
}

static void db_block(void *ctx, size_t first, size_t count, int worker)
{
    (void)worker;
    const struct db *j = ctx;
    float sum[DB_COLS] = {0}, tmp[DB_COLS];
    for (size_t r = 0; r < j->rows; r++)
        add_to(sum, act_read(j->d, j->dy, r * j->cols + first, count, tmp), count);
    add_to(j->db + first, sum, count);
}

void cpu_linear_dw(struct dev *d, size_t rows, const void *dy, const void *x, size_t x_ld,
                   const struct dev_weight *w, float *dw, float *db)
{
    struct dw j = {.d = d,
                   .rows = rows,
                   .m = w->out,
                   .n = w->in,
                   .lda = w->out,
                   .ldb = x_ld,
                   .a = dy,
                   .b = x,
                   .dw = dw};
    if (w->transposed)
        j = (struct dw){.d = d,
                        .rows = rows,
                        .m = w->in,
                        .n = w->out,
                        .lda = x_ld,
                        .ldb = w->out,
                        .a = x,
                        .b = dy,
                        .dw = dw};
    j.col_tiles = blocks_of(j.n, TILE_N);
    pool_for(cpu_of(d)->pool, blocks_of(j.m, TILE_M) * j.col_tiles, dw_tile, &j);
    struct db b = {d, rows, w->out, dy, db};
    if (db)
        cpu_for_runs(d, w->out, DB_COLS, db_block, &b);
}
