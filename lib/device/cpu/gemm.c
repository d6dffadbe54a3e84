// SPDX-License-Identifier: Apache-2.0
// Linear layers, and plain float32 products (OpenBLAS) for the loss side.
#include <cblas.h>
#include <stdlib.h>
#include <string.h>

#include "device/cpu/exp.h"
#include "device/cpu/vec.h"
#include "device/cpu/cpu.h"
#include "base/mem.h"

static struct dev_weight *weight_make(struct dev *d, const void *src, enum dev_type type,
                                      size_t out, size_t in, bool transposed, struct err *e)
{
    struct dev_weight *w = mem_alloc(1, sizeof *w, e);
    if (!w)
        return NULL;
    w->out = out;
    w->in = in;
    w->transposed = transposed;
    w->fwd = cpu_pack_new(d, in, out, src, type, cpu_in_step(w), cpu_out_step(w), e);
    if (w->fwd)
        return w;
    free(w);
    return NULL;
}

struct dev_weight *cpu_weight_new(struct dev *d, const void *host, enum dev_type type, size_t out,
                                  size_t in, bool transposed, struct err *e)
{
    return weight_make(d, host, type, out, in, transposed, e);
}

struct dev_weight *cpu_weight_view(struct dev *d, const float *master, size_t out, size_t in,
                                   bool transposed, struct err *e)
{
    struct dev_weight *w = weight_make(d, master, DEV_F32, out, in, transposed, e);
    if (w)
        w->view = master;
    return w;
}

void cpu_weight_refresh(struct dev *d, struct dev_weight *w)
{
    struct err e;
    if (!w->view)
        return;
    int rc = cpu_pack_fill(d, w->fwd, w->view, cpu_in_step(w), cpu_out_step(w), &e);
    if (!rc && w->bwd)
        rc = cpu_pack_fill(d, w->bwd, w->view, cpu_out_step(w), cpu_in_step(w), &e);
    if (rc)
        cpu_fail(d, &e);
}

size_t cpu_weight_values(const struct dev_weight *w)
{
    return w->out * w->in;
}

void cpu_weight_free(struct dev *d, struct dev_weight *w)
{
    (void)d;
    if (!w)
        return;
    cpu_pack_free(w->fwd);
    cpu_pack_free(w->bwd);
    free(w);
}

struct linear {
    struct dev *d;
    const struct dev_epilogue *ep;
    size_t out;
    void *y;
    bool y_f32;
};

static void store_act(const struct dev *d, const float *c, void *to, size_t at, size_t n)
{
    if (d->act == DEV_F32)
        memcpy((float *)to + at, c, n * sizeof *c);
    else
        bf16_from_f32(c, (uint16_t *)to + at, n);
}

static void finish_row(const struct linear *l, size_t row, size_t col0, size_t n, float *c)
{
    static const struct dev_epilogue none = {0};
    const struct dev_epilogue *ep = l->ep ? l->ep : &none;
    size_t at = row * l->out + col0;
    const float *bias = ep->bias ? ep->bias + col0 : NULL;
    const float *gamma = ep->gamma ? ep->gamma + col0 : NULL;
    if (ep->residual && !ep->pre && ep->act == DEV_ACT_NONE) {
        vec_add_branch(ep->residual + at, c, bias, gamma, n);
        return;
    }
    if (bias && (ep->pre || ep->act == DEV_ACT_NONE)) {
        vec_add(c, bias, c, n);
        bias = NULL;
    }
    if (ep->pre)
        store_act(l->d, c, ep->pre, at, n);
    cpu_bias_act(ep->act, bias, c, n);
    if (gamma)
        vec_mul(c, gamma, c, n);
    if (ep->residual)
        vec_add(ep->residual + at, c, ep->residual + at, n);
    else if (l->y_f32)
        memcpy((float *)l->y + at, c, n * sizeof *c);
    else
        store_act(l->d, c, l->y, at, n);
}

static void finish_tile(void *ctx, size_t row0, size_t rows, size_t col0, size_t cols, float *c,
                        size_t ldc, int worker)
{
    (void)worker;
    for (size_t r = 0; r < rows; r++)
        finish_row(ctx, row0 + r, col0, cols, c + r * ldc);
}

void cpu_linear(struct dev *d, size_t rows, const void *x, size_t x_ld, const struct dev_weight *w,
                const struct dev_epilogue *ep, void *y, bool y_f32)
{
    struct linear l = {d, ep, w->out, y, y_f32};
    cpu_matmul(d, rows, x, x_ld, w->fwd, finish_tile, &l);
}

// -- C = alpha op(A) op(B) + beta C in tiles of fixed size
enum { GEMM_ROWS = 256, GEMM_COLS = 512 };

struct gemm {
    bool ta, tb;
    size_t m, n, k, lda, ldb, ldc, col_tiles;
    float alpha, beta;
    const float *a, *b;
    float *c;
};

static void gemm_tile(void *ctx, size_t i, int worker)
{
    (void)worker;
    const struct gemm *g = ctx;
    size_t r0 = i / g->col_tiles * GEMM_ROWS, c0 = i % g->col_tiles * GEMM_COLS;
    size_t rows = g->m - r0 < GEMM_ROWS ? g->m - r0 : GEMM_ROWS;
    size_t cols = g->n - c0 < GEMM_COLS ? g->n - c0 : GEMM_COLS;
    const float *a = g->a + (g->ta ? r0 : r0 * g->lda), *b = g->b + (g->tb ? c0 * g->ldb : c0);
    cblas_sgemm(CblasRowMajor, g->ta ? CblasTrans : CblasNoTrans, g->tb ? CblasTrans : CblasNoTrans,
                (int)rows, (int)cols, (int)g->k, g->alpha, a, (int)g->lda, b, (int)g->ldb, g->beta,
                g->c + r0 * g->ldc + c0, (int)g->ldc);
}

void cpu_gemm(struct dev *d, bool ta, bool tb, size_t m, size_t n, size_t k, float alpha,
              const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
              size_t ldc)
{
    struct gemm g = {.ta = ta,
                     .tb = tb,
                     .m = m,
                     .n = n,
                     .k = k,
                     .lda = lda,
                     .ldb = ldb,
                     .ldc = ldc,
                     .a = a,
                     .b = b,
                     .alpha = alpha,
                     .c = c,
                     .beta = beta};
    g.col_tiles = (n + GEMM_COLS - 1) / GEMM_COLS;
    pool_for(cpu_of(d)->pool, (m + GEMM_ROWS - 1) / GEMM_ROWS * g.col_tiles, gemm_tile, &g);
}
