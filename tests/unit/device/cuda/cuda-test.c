// SPDX-License-Identifier: Apache-2.0
// The CUDA device against the CPU device, operation by operation, on sizes that fill nothing
// evenly. Linked with the stand-in of tests/cuda-on-cpu it runs anywhere, once in each order of
// blocks: the bytes must be the same. Linked with the CUDA runtime it runs on a GPU.
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "unit/child.h"
#include "unit/device/cuda/losses.h"
#include "device/dev.h"
#include "base/half.h"
#include "base/rng.h"
#include "system/digest.h"
#include "unit/tap.h"

enum { BIAS = 1, PRE = 2, GELU = 4, QUICK = 8, GAMMA = 16, RESIDUAL = 32, WIDE = 64, TRANS = 128 };

static void test_linear(size_t rows, size_t in, size_t out, size_t ld, int how, bool view)
{
    struct buf x = acts(rows * ld), w = floats(out * in), bias = floats(out), gamma = floats(out);
    struct buf res = floats(rows * out), pre = acts(rows * out);
    struct buf y = how & WIDE ? floats(rows * out) : acts(rows * out);
    float *host = fetch(&w, 0);
    struct err e;
    file = "gemm";
    for (int k = 0; k < 2; k++) {
        struct dev *d = &dev[k];
        struct dev_epilogue ep = {how & BIAS ? bias.p[k] : NULL, how & PRE ? pre.p[k] : NULL,
                                  how & GELU    ? DEV_ACT_GELU
                                  : how & QUICK ? DEV_ACT_QUICK_GELU
                                                : DEV_ACT_NONE,
                                  how & GAMMA ? gamma.p[k] : NULL,
                                  how & RESIDUAL ? res.p[k] : NULL};
        struct dev_weight *v = view ? d->op->weight_view(d, w.p[k], out, in, how & TRANS, &e)
                                    : d->op->weight_new(d, host, DEV_F32, out, in, how & TRANS, &e);
        d->op->linear(d, rows, x.p[k], ld, v, how ? &ep : NULL, y.p[k], how & WIDE);
        d->op->weight_free(d, v);
    }
    char name[80];
    snprintf(name, sizeof name, "linear %zu x %zu x %zu, how %d", rows, in, out, how);
    same(how & RESIDUAL ? &res : &y, 3e-6, 1.2e-2, name);
    same(&pre, 3e-6, 8e-3, "  its kept input");
    free(host);
    RELEASE(x, w, bias, gamma, res, pre, y);
}

static void test_linear_bf16_weight(void)
{
    enum { ROWS = 9, IN = 24, OUT = 40 };
    struct buf x = acts(ROWS * IN), y = floats(ROWS * OUT);
    uint16_t w[OUT * IN];
    struct err e;
    file = "gemm";
    for (size_t i = 0; i < OUT * IN; i++)
        w[i] = bf16_from_f32_one((float)rng_normal(&rng));
    for (int k = 0; k < 2; k++) {
        struct dev *d = &dev[k];
        struct dev_weight *v = d->op->weight_new(d, w, DEV_BF16, OUT, IN, false, &e);
        d->op->linear(d, ROWS, x.p[k], IN, v, NULL, y.p[k], true);
        d->op->weight_free(d, v);
    }
    same(&y, 3e-6, 3e-6, "linear, a bfloat16 weight");
    RELEASE(x, y);
}

static void test_linear_bwd(size_t rows, size_t in, size_t out, size_t ld, bool transposed)
{
    struct buf x = acts(rows * ld), dy = acts(rows * out), w = floats(out * in);
    struct buf dx = acts(rows * in), dw = floats(out * in), db = floats(out);
    struct err e;
    file = "gemm";
    for (int k = 0; k < 2; k++) {
        struct dev *d = &dev[k];
        struct dev_weight *v = d->op->weight_view(d, w.p[k], out, in, transposed, &e);
        d->op->scale(d, out * in, 0.5f, w.p[k]);
        d->op->weight_refresh(d, v);
        d->op->linear_dx(d, rows, dy.p[k], v, dx.p[k]);
        d->op->linear_dw(d, rows, dy.p[k], x.p[k], ld, v, dw.p[k], db.p[k]);
        d->op->weight_free(d, v);
    }
    same(&dx, 3e-6, 8e-3, "linear backward, dx");
    same(&dw, 5e-6, 5e-5, "linear backward, dw");
    file = "reduce";
    same(&db, 5e-6, 5e-6, "linear backward, db");
    RELEASE(x, dy, w, dx, dw, db);
}

static void test_gemm(bool ta, bool tb)
{
    enum { M = 70, N = 131, K = 19, LDC = 140 };
    struct buf a = floats(M * K), b = floats(K * N), c = floats(M * LDC);
    file = "gemm";
    BOTH(gemm(d, ta, tb, M, N, K, 0.5f, a.p[k], ta ? M : K, b.p[k], tb ? K : N, 2, c.p[k], LDC));
    same(&c, 3e-6, 3e-6, "gemm");
    RELEASE(a, b, c);
}

static void test_norm(size_t rows, size_t cols, bool wide)
{
    size_t ld = cols + 3;
    struct buf x = floats(rows * ld), g = floats(cols), b = floats(cols), m = floats(rows);
    struct buf r = floats(rows), y = wide ? floats(rows * cols) : acts(rows * cols);
    struct buf dx = floats(rows * ld), dg = floats(cols), db = floats(cols);
    file = "norm";
    BOTH(
        layer_norm(d, rows, cols, x.p[k], ld, g.p[k], b.p[k], 1e-5f, y.p[k], wide, m.p[k], r.p[k]));
    same(&y, 3e-6, 8e-3, "layer norm");
    same(&m, 3e-6, 3e-6, "  mean");
    same(&r, 3e-6, 3e-6, "  rstd");
    BOTH(layer_norm_bwd(d, rows, cols, x.p[k], ld, g.p[k], m.p[k], r.p[k], y.p[k], wide, dx.p[k],
                        ld, dg.p[k], db.p[k]));
    same(&dx, 5e-6, 8e-3, "layer norm backward, dx");
    same(&dg, 1e-5, 8e-3, "  dgain");
    same(&db, 1e-5, 8e-3, "  dbias");
    RELEASE(x, g, b, m, r, y, dx, dg, db);
}

static void test_attention(size_t dim, bool causal, bool last)
{
    enum { SEQS = 5, HEADS = 3, ROWS = 207 };
    const int32_t start[SEQS + 1] = {0, 1, 51, 64, 141, 207}, row[SEQS] = {0, 49, 5, 76, 65};
    size_t width = HEADS * dim, q_rows = last ? SEQS : ROWS, q_ld = last ? width : 3 * width;
    struct buf qkv = acts(ROWS * 3 * width), ql = acts(SEQS * width), s = ints(start, SEQS + 1);
    struct buf r = ints(row, SEQS), out = acts(q_rows * width), lse = floats(q_rows * HEADS);
    struct buf dout = acts(q_rows * width), dqkv = acts(ROWS * 3 * width), dql = acts(SEQS * width);
    for (int k = 0; k < 2; k++) {
        struct dev *d = &dev[k];
        struct dev_attention a = {.heads = HEADS,
                                  .head_dim = dim,
                                  .causal = causal,
                                  .last_only = last,
                                  .q_row = r.p[k],
                                  .kv = {SEQS, 77, s.p[k]},
                                  .q = last ? ql.p[k] : qkv.p[k],
                                  .k = at(&qkv, k, width),
                                  .v = at(&qkv, k, 2 * width),
                                  .q_ld = q_ld,
                                  .kv_ld = 3 * width,
                                  .out = out.p[k],
                                  .out_ld = width,
                                  .lse = lse.p[k]};
        d->op->attention(d, &a);
        d->op->attention_bwd(d, &a, dout.p[k], last ? dql.p[k] : dqkv.p[k], at(&dqkv, k, width),
                             at(&dqkv, k, 2 * width));
    }
    char name[80];
    snprintf(name, sizeof name, "attention of width %zu%s%s", dim, causal ? ", causal" : "",
             last ? ", one query" : "");
    file = "attention";
    same(&out, 3e-6, 1.2e-2, name);
    same(&lse, 3e-6, 3e-6, "  log-sum-exp");
    file = "attention-bwd";
    same(&dqkv, 1e-5, 2e-2, "  backward");
    same(&dql, 1e-5, 2e-2, "  backward of the query");
    RELEASE(qkv, ql, s, r, out, lse, dout, dqkv, dql);
}

static void test_elementwise(void)
{
    enum { ROWS = 37, COLS = 61, N = ROWS * COLS };
    struct buf pre = acts(N), dy = acts(N), dp = acts(N), x = floats(N), y = floats(N);
    struct buf g = floats(COLS), dg = floats(COLS), a = acts(N);
    file = "elementwise";
    for (int act = 0; act < 4; act++) {
        BOTH(act_bwd(d, N, (enum dev_act)act, pre.p[k], dy.p[k], dp.p[k]));
        same(&dp, 3e-6, 8e-3, "activation backward");
    }
    BOTH(to_act(d, ROWS - 1, COLS - 2, x.p[k], COLS, g.p[k], a.p[k]));
    same(&a, 0, 0, "to activations, scaled");
    BOTH(to_act(d, ROWS, COLS, x.p[k], COLS, NULL, a.p[k]));
    same(&a, 0, 0, "to activations");
    BOTH(gamma_bwd(d, ROWS, COLS, x.p[k], a.p[k], dg.p[k]));
    same(&dg, 5e-6, 5e-6, "layer scale backward");
    BOTH(axpy(d, N, 0.25f, x.p[k], y.p[k]));
    BOTH(scale(d, N - 1, -3, y.p[k]));
    same(&y, 3e-7, 3e-7, "axpy, scale");
    double dot[2], sum[2];
    for (int k = 0; k < 2; k++) {
        dot[k] = dev[k].op->dot(&dev[k], N, x.p[k], x.p[k]);
        sum[k] = dev[k].op->sum(&dev[k], N, x.p[k]);
    }
    ok(fabs(dot[0] - dot[1]) < 1e-9 * dot[0] && fabs(sum[0] - sum[1]) < 1e-9 * dot[0],
       "reduce: dot and sum: %g, %g", dot[0] - dot[1], sum[0] - sum[1]);
    RELEASE(pre, dy, dp, x, y, g, dg, a);
}

// A dot product whose runs are summed in two places is that of one, to the bit.
static void test_dot_runs(void)
{
    struct dev *d = &dev[1];
    size_t run = d->dot_run, n = 3 * run + 5;
    struct err e;
    float *host = malloc(n * sizeof *host), *x = d->op->alloc(d, n * sizeof *x, &e);
    double *part = d->op->alloc(d, 6 * sizeof *part, &e), got[6] = {0};
    for (size_t i = 0; i < n; i++)
        host[i] = sinf((float)i) * (float)(i % 11);
    d->op->upload(d, x, host, n * sizeof *x);
    d->op->dot_to(d, n, x, x, part + 4);
    d->op->dot_runs(d, run, x, x, part);
    d->op->dot_runs(d, n - run, x + run, x + run, part + 1);
    d->op->dot_join(d, 4, part, part + 5);
    ok(!d->op->download(d, got, part, sizeof got, &e) && got[4] > 0 && got[4] == got[5],
       "reduce: a dot product in runs: %.17g, %.17g", got[4], got[5]);
    d->op->free(d, x);
    d->op->free(d, part);
    free(host);
}

// Gated MLPs, rotary embeddings, means of rows.
static void test_glu(void)
{
    enum { N = 3, POS = 5, ROWS = N * POS, COLS = 37, HEAD = 12, LD = 3 * HEAD + 5 };
    struct buf pre = acts(ROWS * 2 * COLS), mid = acts(ROWS * COLS), dpre = acts(ROWS * 2 * COLS);
    struct buf qk = acts(ROWS * LD), angle = floats(POS * HEAD), wide = floats(ROWS * COLS);
    struct buf y = floats(N * COLS);
    file = "glu";
    BOTH(swiglu(d, ROWS, COLS, pre.p[k], mid.p[k]));
    same(&mid, 3e-6, 8e-3, "silu(gate) x");
    BOTH(swiglu_bwd(d, ROWS, COLS, pre.p[k], mid.p[k], dpre.p[k]));
    same(&dpre, 3e-6, 2e-2, "  backward");
    for (int back = 0; back < 2; back++) {
        BOTH(rotate(d, ROWS, 2 * HEAD, HEAD, POS, angle.p[k], back, qk.p[k], LD));
        same(&qk, 1e-6, 8e-3, back ? "pairs turned back" : "pairs turned");
    }
    BOTH(widen(d, ROWS * COLS, mid.p[k], wide.p[k]));
    same(&wide, 3e-6, 8e-3, "activations as float32");
    for (size_t first = 0; first < 2; first++) {
        BOTH(mean_rows(d, N, POS, first, COLS, wide.p[k], y.p[k]));
        same(&y, 3e-6, 8e-3, "mean of rows");
        BOTH(mean_rows_bwd(d, N, POS, first, COLS, y.p[k], wide.p[k]));
        same(&wide, 3e-6, 8e-3, "  backward");
    }
    RELEASE(pre, mid, dpre, qk, angle, wide, y);
}

static void test_rows(size_t n, int32_t range)
{
    enum { COLS = 37, LD = 41 };
    int32_t *v = malloc(n * sizeof *v);
    for (size_t i = 0; i < n; i++)
        v[i] = (int32_t)rng_below(&rng, (uint64_t)range);
    struct buf index = ints(v, n), table = floats((size_t)range * LD), got = floats(n * COLS);
    struct buf ta = acts((size_t)range * LD), ga = acts(n * COLS), y = floats(n * COLS);
    // Not a multiple of y: the gradient along a row is nothing but rounding.
    struct buf norm = floats(n), dy = floats(n * COLS), dx = floats(n * COLS);
    file = "rows";
    BOTH(gather(d, n, COLS, table.p[k], LD, index.p[k], got.p[k]));
    same(&got, 0, 0, "gather");
    BOTH(gather_act(d, n, COLS, ta.p[k], LD, index.p[k], ga.p[k]));
    same(&ga, 0, 0, "gather of activations");
    BOTH(scatter_add(d, n, COLS, got.p[k], index.p[k], table.p[k], LD));
    same(&table, 0, 0, "scatter");
    file = "norm";
    BOTH(zero(d, got.p[k], COLS * sizeof(float)));
    BOTH(unit(d, n, COLS, got.p[k], y.p[k], norm.p[k]));
    same(&y, 3e-7, 3e-7, "unit rows");
    same(&norm, 3e-7, 3e-7, "  norms");
    BOTH(unit_bwd(d, n, COLS, y.p[k], norm.p[k], dy.p[k], dx.p[k]));
    same(&dx, 1e-5, 1e-5, "unit rows backward");
    RELEASE(index, table, got, ta, ga, y, norm, dy, dx);
    free(v);
}

static void test_inputs(void)
{
    enum { N = 3, SIZE = 23, PATCH = 5, GRID = 4, P = GRID * GRID, COLS = 21, VOCAB = 9, LEN = 7 };
    uint8_t host[N * SIZE * SIZE * 3];
    for (size_t i = 0; i < sizeof host; i++)
        host[i] = (uint8_t)rng_below(&rng, 256);
    const float mean[3] = {0.5f, 0.4f, 0.3f}, std[3] = {0.2f, 0.3f, 0.25f};
    struct buf pixels = buf_bytes(host, sizeof host, 1), out = acts(N * P * 3 * PATCH * PATCH);
    struct buf rows = floats(N * P * COLS), cls = floats(COLS), pos = floats((1 + P) * COLS);
    struct buf x = floats(N * (1 + P) * COLS), dcls = floats(COLS), dpos = floats((1 + P) * COLS);
    struct buf dr = acts(N * P * COLS);
    file = "rows";
    BOTH(patchify(d, N, SIZE, PATCH, pixels.p[k], mean, std, out.p[k]));
    same(&out, 3e-7, 5e-3, "patches");
    BOTH(assemble(d, N, P, COLS, rows.p[k], cls.p[k], pos.p[k], x.p[k]));
    same(&x, 0, 0, "class and patches");
    BOTH(assemble_bwd(d, N, P, COLS, x.p[k], dcls.p[k], dpos.p[k], dr.p[k]));
    same(&dcls, 1e-6, 1e-6, "  backward, class");
    same(&dpos, 1e-6, 1e-6, "  backward, positions");
    same(&dr, 0, 0, "  backward, patches");
    BOTH(assemble(d, N, P, COLS, rows.p[k], NULL, pos.p[k], rows.p[k]));
    same(&rows, 0, 0, "patches without class token, in place");
    BOTH(assemble_bwd(d, N, P, COLS, rows.p[k], NULL, dpos.p[k], dr.p[k]));
    same(&dpos, 1e-6, 1e-6, "  backward, positions");
    same(&dr, 0, 0, "  backward, patches");
    const int32_t start[] = {0, 2, 3, 10, 14},
                  token[14] = {1, 8, 1, 0, 3, 3, 3, 1, 8, 8, 2, 5, 1, 1};
    struct buf s = ints(start, 5), t = ints(token, 14), table = floats(VOCAB * COLS);
    struct buf e = floats(14 * COLS);
    for (int k = 0; k < 2; k++) {
        struct dev_ragged r = {4, LEN, s.p[k]};
        dev[k].op->embed(&dev[k], &r, COLS, t.p[k], table.p[k], pos.p[k], e.p[k]);
        dev[k].op->embed_bwd(&dev[k], &r, COLS, t.p[k], e.p[k], table.p[k], pos.p[k]);
    }
    same(&e, 0, 0, "tokens");
    same(&table, 1e-6, 1e-6, "  backward, table");
    same(&pos, 1e-6, 1e-6, "  backward, positions");
    RELEASE(pixels, out, rows, cls, pos, x, dcls, dpos, dr, s, t, table, e);
}

static void test_optim(void)
{
    enum { N = 1999, ROWS = 6, COLS = 13 };
    const int32_t index[ROWS] = {7, 0, 3, 90, 41, 2};
    struct dev_adamw o = {1e-2f, 0.9f, 0.98f, 1e-6f, 0.2f, 0.1f, 0.02f, 0.7f, NULL};
    struct buf g = floats(N), m = floats(N), v = floats(N), p = floats(N), i = ints(index, ROWS);
    file = "optim";
    for (int k = 0; k < 2; k++) { // squares, so not negative
        dev[k].op->zero(&dev[k], v.p[k], N * sizeof(float));
        dev[k].op->adamw(&dev[k], N, &o, g.p[k], m.p[k], v.p[k], p.p[k]);
        dev[k].op->adamw_rows(&dev[k], ROWS, COLS, i.p[k], &o, g.p[k], m.p[k], v.p[k], p.p[k]);
    }
    same(&m, 3e-7, 3e-7, "adamw, first moment");
    same(&v, 3e-7, 3e-7, "  second moment");
    same(&p, 3e-6, 3e-6, "  values");
    RELEASE(g, m, v, p, i);
}

// A row has the same bytes in any batch.
static void test_rows_alone(void)
{
    enum { ROWS = 150, IN = 96, OUT = 200 };
    struct dev *d = &dev[1];
    struct buf x = acts(ROWS * IN), w = floats(OUT * IN), y = floats(ROWS * OUT);
    struct err e;
    struct dev_weight *v = d->op->weight_view(d, w.p[1], OUT, IN, false, &e);
    d->op->linear(d, ROWS, x.p[1], IN, v, NULL, y.p[1], true);
    float *whole = fetch(&y, 1);
    for (size_t r = 0; r < ROWS; r += 7)
        d->op->linear(d, ROWS - r < 7 ? ROWS - r : 7, at(&x, 1, r * IN), IN, v, NULL,
                      at(&y, 1, r * OUT), true);
    float *parts = fetch(&y, 1);
    ok(!memcmp(whole, parts, ROWS * OUT * sizeof *whole), "gemm: rows do not depend on the batch");
    d->op->weight_free(d, v);
    free(whole);
    free(parts);
    RELEASE(x, w, y);
}

// More than one staging buffer, there and back.
static void test_copies(void)
{
    enum { N = 70 << 20 };
    struct dev *d = &dev[1];
    struct err e;
    unsigned char *host = malloc(N), *back = malloc(N);
    for (size_t i = 0; i < N; i++)
        host[i] = (unsigned char)(i * 2654435761u >> 13);
    void *p = d->op->alloc(d, N, &e), *q = d->op->alloc(d, N, &e);
    d->op->upload(d, p, host, N);
    memset(host, 0, 8);
    d->op->upload(d, p, host, 8);
    d->op->copy(d, q, p, N);
    int rc = d->op->download(d, back, q, N, &e);
    ok(!rc && !memcmp(host, back, N), "memory: large copies");
    d->op->free(d, p);
    d->op->free(d, q);
    free(host);
    free(back);
}

static int run_type(enum dev_type type)
{
    struct err e;
    rng_init(&rng, 1, type);
    if (dev_open(&dev[0], "cpu", type, 2, true, &e) ||
        dev_open(&dev[1], "cuda", type, 1, true, &e)) {
        printf("Bail out! %s\n", e.text);
        return -1;
    }
    test_linear(1, 16, 16, 16, 0, false);
    test_linear(130, 13, 70, 17, BIAS, false);
    test_linear(65, 40, 130, 44, BIAS | PRE | GELU | TRANS, true);
    test_linear(64, 96, 51, 96, BIAS | GELU, true);
    test_linear(64, 96, 51, 96, BIAS | QUICK | TRANS, false);
    test_linear(33, 29, 51, 29, BIAS | RESIDUAL, true);
    test_linear(33, 29, 51, 29, BIAS | GAMMA | RESIDUAL | PRE, true);
    test_linear(3, 29, 1, 29, GAMMA | RESIDUAL, true);
    test_linear(66, 31, 27, 31, BIAS | GELU | WIDE, true);
    test_linear_bf16_weight();
    test_linear_bwd(70, 33, 50, 36, false);
    test_linear_bwd(300, 20, 90, 20, true);
    for (int i = 0; i < 4; i++)
        test_gemm(i & 1, i & 2);
    test_norm(37, 64, false);
    test_norm(301, 13, true);
    const size_t dims[] = {13, 16, 64, 80, 88, 104, 128};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        test_attention(dims[i], i & 1, false);
    test_attention(64, true, true);
    test_attention(13, false, true);
    test_elementwise();
    test_dot_runs();
    test_glu();
    test_rows(61, 7);
    test_rows(2500, 300);
    test_inputs();
    test_losses(3);
    test_losses(1000);
    test_labels(3);
    test_labels(1000);
    test_optim();
    test_rows_alone();
    if (type == DEV_F32)
        test_copies();
    ok(!dev[0].op->sync(&dev[0], &e) && !dev[1].op->sync(&dev[1], &e), "no failure");
    dev_close(&dev[0]);
    dev_close(&dev[1]);
    return 0;
}

static uint64_t whole_run(void)
{
    digest = 0;
    for (int type = 0; type < 2; type++)
        if (run_type(type ? DEV_BF16 : DEV_F32))
            return 0;
    return digest;
}

static bool opens(char *text)
{
    struct err e = {.text = ""};
    int rc = dev_open(&dev[1], "cuda", DEV_F32, 1, false, &e);
    memcpy(text, e.text, ERR_TEXT_MAX);
    return !rc;
}

static uint64_t small_memory(void)
{
    char text[ERR_TEXT_MAX];
    struct err e = {.text = ""};
    if (!opens(text))
        return 0;
    void *p = dev[1].op->alloc(&dev[1], 60 << 20, &e), *q;
    dev[1].op->free(&dev[1], p);
    p = dev[1].op->alloc(&dev[1], 70 << 20, &e); // only when the first one is given back
    q = dev[1].op->alloc(&dev[1], 80 << 20, &e);
    bool said = strstr(e.text, "80.0 MiB wanted") && strstr(e.text, "70.0 MiB held");
    dev_close(&dev[1]);
    return p && !q && said;
}

static uint64_t no_gpu(void)
{
    char text[ERR_TEXT_MAX];
    return !opens(text) && strstr(text, "no GPU");
}

static uint64_t outside(void)
{
    char text[ERR_TEXT_MAX];
    struct err e;
    const int32_t index = 3;
    if (!opens(text))
        return 1;
    struct dev *d = &dev[1];
    float *table = d->op->alloc(d, 3 * 4 * sizeof *table, &e), *to = d->op->alloc(d, 16, &e);
    int32_t *i = d->op->alloc(d, sizeof *i, &e);
    d->op->upload(d, i, &index, sizeof index);
    d->op->gather(d, 1, 4, table, 4, i, to);
    d->op->sync(d, &e);
    return 1;
}

// The stand-in has it.
extern const char cuda_on_cpu_stand_in __attribute__((weak));

int main(void)
{
    uint64_t first, other, r;
    if (!&cuda_on_cpu_stand_in) {
        whole_run();
        return tap_done();
    }
    int rc = child("CUDA_ON_CPU_DEVICES", "0", no_gpu, &r);
    ok(!rc && r, "no GPU: said so");
    rc = child("CUDA_ON_CPU_MEMORY", "100000000", small_memory, &r);
    ok(!rc && r, "out of memory: the sizes are said, what was freed is used");
    rc = child("CUDA_ON_CPU_ORDER", "forward", outside, &r);
    ok(rc && !r, "a row outside its buffer is caught");
    first = whole_run();
    const char *const orders[] = {"reverse", "shuffle"};
    for (int i = 0; i < 2 && !tap_failed; i++) {
        rc = child("CUDA_ON_CPU_ORDER", orders[i], whole_run, &other);
        ok(!rc && other == first, "the same bytes with blocks in another order: %s", orders[i]);
    }
    return tap_done();
}
