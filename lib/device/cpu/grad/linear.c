// SPDX-License-Identifier: Apache-2.0
// Backward of linear layers.
#include <cblas.h>
#include <stdlib.h>
#include <string.h>

#include "device/cpu/simd.h"
#include "device/cpu/vec.h"
#include "device/cpu/cpu.h"
#include "base/isa.h"
#include "base/mem.h"

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

enum { DB_COLS = 256 };

// dw[m, n] += a^T b over the rows of both. float32: tile by tile by OpenBLAS. bfloat16: a run of
// rows at a time, a turned to [m, run] and b packed as a right side (cpu.h), so that the sums
// are float32 and a result depends on the rows only; the last run is filled up with zeros.
enum {
    TILE_M = 192,
    TILE_N = 384,
    DOUBLINGS = 5, // of a tile, where its size is free
    PACK = 50,     // time to pack a value, in multiply-additions
    RUN = 1024,
    RUN_STEP = 128,
    TURN = 64,
    SLOT_TURN = 2,
    SLOT_B = 3
};

struct dw {
    struct dev *d;
    size_t rows, m, n, lda, ldb;
    size_t tile_m, tile_n, col_tiles;
    const void *a, *b; // act [rows, m], [rows, n]
    float *dw;         // [m, n]
    uint16_t *turned;  // [m, run]
    size_t row0, run, live;
};

// OpenBLAS packs both sides of each tile anew, so large ones are faster, but few leave threads
// without work. Its kernels for AVX-512 give a value the same bits in a tile of any size from
// TILE_M x TILE_N on (unit/base/isa-test), the others do not: there every tile is the smallest.
static void choose_tile(struct dw *j)
{
    size_t threads = (size_t)j->d->threads, least = SIZE_MAX;
    int doublings = isa_blas_avx512() ? DOUBLINGS : 1;
    for (int dm = 0; dm < doublings; dm++)
        for (int dn = 0; dn < doublings; dn++) {
            size_t m = size_min((size_t)TILE_M << dm, j->m),
                   n = size_min((size_t)TILE_N << dn, j->n);
            size_t tiles = blocks_of(j->m, m) * blocks_of(j->n, n);
            size_t time = blocks_of(tiles, threads) * (m * n + PACK * (m + n));
            if (time >= least)
                continue;
            least = time;
            j->tile_m = m;
            j->tile_n = n;
        }
    j->col_tiles = blocks_of(j->n, j->tile_n);
}

static void dw_tile(void *ctx, size_t i, int worker)
{
    (void)worker;
    const struct dw *j = ctx;
    size_t r0 = i / j->col_tiles * j->tile_m, c0 = i % j->col_tiles * j->tile_n;
    size_t m = size_min(j->tile_m, j->m - r0), n = size_min(j->tile_n, j->n - c0);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)m, (int)n, (int)j->rows, 1,
                (const float *)j->a + r0, (int)j->lda, (const float *)j->b + c0, (int)j->ldb, 1,
                j->dw + r0 * j->n + c0, (int)j->n);
}

static void dw_f32(struct dw *j)
{
    choose_tile(j);
    pool_for(cpu_of(j->d)->pool, blocks_of(j->m, j->tile_m) * j->col_tiles, dw_tile, j);
}

typedef uint16_t turn_row __attribute__((vector_size(16)));

#define LOW_8(x, y) __builtin_shufflevector(x, y, 0, 8, 1, 9, 2, 10, 3, 11)
#define HIGH_8(x, y) __builtin_shufflevector(x, y, 4, 12, 5, 13, 6, 14, 7, 15)

// Eight values each of eight rows, turned: rows i and i + 4 interleaved, three times.
static inline void turn_8(const uint16_t *a, size_t lda, uint16_t *to, size_t ld)
{
    turn_row x[8], y[8];
    for (size_t i = 0; i < 8; i++)
        memcpy(&x[i], a + i * lda, sizeof x[i]);
#pragma GCC unroll 3
    for (int stage = 0; stage < 3; stage++) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            y[2 * i] = LOW_8(x[i], x[i + 4]);
            y[2 * i + 1] = HIGH_8(x[i], x[i + 4]);
        }
        memcpy(x, y, sizeof x);
    }
    for (size_t i = 0; i < 8; i++)
        memcpy(to + i * ld, &x[i], sizeof x[i]);
}

// Rows [first, first + count) of the turned a: columns of a.
static void turn_rows(void *ctx, size_t first, size_t count, int worker)
{
    (void)worker;
    const struct dw *j = ctx;
    const uint16_t *a = (const uint16_t *)j->a + j->row0 * j->lda + first;
    uint16_t *to = j->turned + first * j->run;
    size_t whole = count % 8 ? 0 : j->live / 8 * 8;
    for (size_t r = 0; r < whole; r += 8)
        for (size_t c = 0; c < count; c += 8)
            turn_8(a + r * j->lda + c, j->lda, to + c * j->run + r, j->run);
    for (size_t r = whole; r < j->run; r++)
        for (size_t c = 0; c < count; c++)
            to[c * j->run + r] = r < j->live ? a[r * j->lda + c] : 0;
}

static void add_tile(void *ctx, size_t row0, size_t rows, size_t col0, size_t cols, float *c,
                     size_t ldc, int worker)
{
    (void)worker;
    const struct dw *j = ctx;
    for (size_t r = 0; r < rows; r++) {
        float *to = j->dw + (row0 + r) * j->n + col0;
        vec_add(to, c + r * ldc, to, cols);
    }
}

// The run of b as a right side, zeros after its last row. NULL, failure kept.
static struct cpu_pack *pack_run(struct dw *j)
{
    struct err e;
    const uint16_t *b = (const uint16_t *)j->b + j->row0 * j->ldb;
    size_t ld = j->ldb;
    if (j->live < j->run) {
        uint16_t *full = cpu_scratch(j->d, 0, SLOT_B, j->run * j->n * sizeof *full);
        if (!full)
            return NULL;
        memset(full + j->live * j->n, 0, (j->run - j->live) * j->n * sizeof *full);
        for (size_t r = 0; r < j->live; r++)
            memcpy(full + r * j->n, b + r * j->ldb, j->n * sizeof *full);
        b = full;
        ld = j->n;
    }
    struct cpu_pack *p = cpu_pack_new(j->d, j->run, j->n, b, DEV_BF16, ld, 1, &e);
    if (!p)
        cpu_fail(j->d, &e);
    return p;
}

static void dw_bf16(struct dw *j)
{
    for (j->row0 = 0; j->row0 < j->rows; j->row0 += j->run) {
        size_t left = j->rows - j->row0;
        j->run = left >= RUN ? RUN : blocks_of(left, RUN_STEP) * RUN_STEP;
        j->live = size_min(left, j->run);
        j->turned = cpu_scratch(j->d, 0, SLOT_TURN, j->m * j->run * sizeof *j->turned);
        struct cpu_pack *p = j->turned ? pack_run(j) : NULL;
        if (!p)
            return;
        cpu_for_runs(j->d, j->m, TURN, turn_rows, j);
        cpu_matmul(j->d, j->m, j->turned, j->run, p, add_tile, j);
        cpu_pack_free(p);
    }
}

struct db {
    struct dev *d;
    size_t rows, cols;
    const void *dy;
    float *db;
};

static void db_block(void *ctx, size_t first, size_t count, int worker)
{
    (void)worker;
    const struct db *j = ctx;
    float sum[DB_COLS] = {0}, tmp[DB_COLS];
    for (size_t r = 0; r < j->rows; r++)
        vec_add(sum, act_read(j->d, j->dy, r * j->cols + first, count, tmp), sum, count);
    vec_add(j->db + first, sum, j->db + first, count);
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
    if (d->act == DEV_BF16)
        dw_bf16(&j);
    else
        dw_f32(&j);
    struct db b = {d, rows, w->out, dy, db};
    if (db)
        cpu_for_runs(d, w->out, DB_COLS, db_block, &b);
}
