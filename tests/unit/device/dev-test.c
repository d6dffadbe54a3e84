// SPDX-License-Identifier: Apache-2.0
// The CPU device's operations against plain loops in float64.
#include "device/dev.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/rng.h"
#include "unit/device/exact.h"
#include "unit/tap.h"

static struct rng rng;

static float *randoms(size_t n)
{
    float *p = malloc(n * sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = (float)rng_normal(&rng);
    return p;
}

// n values in the device's activation type, and back.
static void *to_act(const struct dev *d, float *x, size_t n)
{
    void *p = malloc(n * d->act_size);
    if (d->act == DEV_F32) {
        memcpy(p, x, n * sizeof *x);
    } else {
        bf16_from_f32(x, p, n);
        bf16_to_f32(p, x, n); // the reference sees what the device sees
    }
    return p;
}

static float *from_act(const struct dev *d, const void *p, size_t n)
{
    float *x = malloc(n * sizeof *x);
    if (d->act == DEV_F32)
        memcpy(x, p, n * sizeof *x);
    else
        bf16_to_f32(p, x, n);
    return x;
}

static double worst(const float *got, const double *want, size_t n)
{
    double e = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - want[i]);
        e = d > e || d != d ? d : e;
        size = fabs(want[i]) > size ? fabs(want[i]) : size;
    }
    return e / (size > 0 ? size : 1);
}

static double bound(const struct dev *d)
{
    return d->act == DEV_F32 ? 3e-6 : 6e-3;
}

static void test_linear(struct dev *d, size_t rows, size_t in, size_t out, size_t ld, int how)
{
    struct err e;
    float *xf = randoms(rows * ld), *w = randoms(out * in), *bias = randoms(out);
    float *gamma = randoms(out), *res = randoms(rows * out), *wt = malloc(out * in * sizeof *wt);
    void *x = to_act(d, xf, rows * ld), *pre = calloc(rows * out, 4), *y = calloc(rows * out, 4);
    double *want = malloc(rows * out * sizeof *want), *want_pre = malloc(rows * out * 8);
    bool transposed = how & 1, half = how & 2, residual = how & 4, y_f32 = how & 8;
    enum dev_act act = how & 16 ? DEV_ACT_GELU : DEV_ACT_NONE;
    uint16_t *wh = malloc(out * in * sizeof *wh);
    if (d->act == DEV_BF16 || half)
        for (size_t i = 0; i < out * in; i++)
            w[i] = bf16_to_f32_one(bf16_from_f32_one(w[i]));
    for (size_t o = 0; o < out; o++)
        for (size_t i = 0; i < in; i++)
            wt[transposed ? i * out + o : o * in + i] = w[o * in + i];
    bf16_from_f32(wt, wh, out * in);
    for (size_t r = 0; r < rows; r++)
        for (size_t o = 0; o < out; o++) {
            double s = (double)bias[o];
            for (size_t i = 0; i < in; i++)
                s += (double)xf[r * ld + i] * (double)w[o * in + i];
            want_pre[r * out + o] = s;
            want[r * out + o] =
                act_exact(act, s) * (double)gamma[o] + (residual ? (double)res[r * out + o] : 0);
        }
    struct dev_weight *dw = d->op->weight_new(d, half ? (void *)wh : (void *)wt,
                                              half ? DEV_BF16 : DEV_F32, out, in, transposed, &e);
    struct dev_epilogue ep = {bias, pre, act, gamma, residual ? res : NULL};
    d->op->linear(d, rows, x, ld, dw, &ep, y, y_f32);
    float *got = residual || y_f32 ? malloc(rows * out * 4) : from_act(d, y, rows * out);
    if (residual || y_f32)
        memcpy(got, residual ? (void *)res : y, rows * out * 4);
    float *got_pre = from_act(d, pre, rows * out);
    double err = worst(got, want, rows * out), err_pre = worst(got_pre, want_pre, rows * out);
    ok(dw && err < bound(d) && err_pre < bound(d), "%s linear %zu x %zu x %zu ld %zu how %d: %g %g",
       d->act == DEV_F32 ? "f32" : "bf16", rows, in, out, ld, how, err, err_pre);
    d->op->weight_free(d, dw);
    void *all[] = {xf, w, bias, gamma, res, wt, x, pre, y, want, want_pre, wh, got, got_pre};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void test_linear_bwd(struct dev *d, size_t rows, size_t in, size_t out, bool transposed)
{
    struct err e;
    float *xf = randoms(rows * in), *dyf = randoms(rows * out), *w = randoms(out * in);
    float *dw = calloc(out * in, 4), *db = calloc(out, 4);
    void *x = to_act(d, xf, rows * in), *dy = to_act(d, dyf, rows * out);
    void *dx = calloc(rows * in, 4);
    double *want = calloc(rows * in, 8), *want_w = calloc(out * in, 8), *want_b = calloc(out, 8);
    free(to_act(d, w, out * in));
    for (size_t r = 0; r < rows; r++)
        for (size_t o = 0; o < out; o++) {
            double g = (double)dyf[r * out + o];
            want_b[o] += g;
            for (size_t i = 0; i < in; i++) {
                size_t at = transposed ? i * out + o : o * in + i;
                want[r * in + i] += g * (double)w[at];
                want_w[at] += g * (double)xf[r * in + i];
            }
        }
    struct dev_weight *v = d->op->weight_view(d, w, out, in, transposed, &e);
    d->op->linear_dx(d, rows, dy, v, dx);
    d->op->weight_refresh(d, v);
    d->op->linear_dx(d, rows, dy, v, dx);
    d->op->linear_dw(d, rows, dy, x, in, v, dw, db);
    float *got = from_act(d, dx, rows * in);
    double a = worst(got, want, rows * in), b = worst(dw, want_w, out * in);
    double c = worst(db, want_b, out);
    ok(a < bound(d) && b < 1e-5 && c < 1e-5, "linear backward %zu x %zu x %zu: %g %g %g", rows, in,
       out, a, b, c);
    d->op->weight_free(d, v);
    void *all[] = {xf, dyf, w, dw, db, x, dy, dx, want, want_w, want_b, got};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

// A row has the same bytes in any batch and with any number of threads.
static void test_rows_alone(enum dev_type type)
{
    enum { ROWS = 200, IN = 96, OUT = 640 };
    struct dev d[2];
    struct err e;
    float *xf = randoms(ROWS * IN), *w = randoms(OUT * IN);
    float *y[2] = {calloc(ROWS * OUT, 4), calloc(ROWS * OUT, 4)};
    for (int i = 0; i < 2; i++) {
        ok(!dev_open(&d[i], "cpu", type, i ? 3 : 1, true, &e), "device opens");
        void *x = to_act(&d[i], xf, ROWS * IN);
        struct dev_weight *dw = d[i].op->weight_new(&d[i], w, DEV_F32, OUT, IN, false, &e);
        size_t step = i ? ROWS : 7;
        for (size_t r = 0; r < ROWS; r += step) {
            size_t n = ROWS - r < step ? ROWS - r : step;
            d[i].op->linear(&d[i], n, (char *)x + r * IN * d[i].act_size, IN, dw, NULL,
                            y[i] + r * OUT, true);
        }
        d[i].op->weight_free(&d[i], dw);
        free(x);
        dev_close(&d[i]);
    }
    ok(!memcmp(y[0], y[1], ROWS * OUT * sizeof(float)), "rows do not depend on batch or threads");
    free(xf);
    free(w);
    free(y[0]);
    free(y[1]);
}

static void test_norm(struct dev *d, size_t cols)
{
    enum { ROWS = 37 };
    float *x = randoms(ROWS * cols), *g = randoms(cols), *b = randoms(cols);
    float mean[ROWS], rstd[ROWS], *y = calloc(ROWS * cols, 4);
    double *want = malloc(ROWS * cols * 8);
    for (size_t r = 0; r < ROWS; r++) {
        double m = 0, q = 0;
        for (size_t i = 0; i < cols; i++)
            m += (double)(x[r * cols + i] += 30.0f);
        m /= (double)cols;
        for (size_t i = 0; i < cols; i++)
            q += pow((double)x[r * cols + i] - m, 2);
        double s = 1 / sqrt(q / (double)cols + 1e-5);
        for (size_t i = 0; i < cols; i++)
            want[r * cols + i] = ((double)x[r * cols + i] - m) * s * (double)g[i] + (double)b[i];
    }
    d->op->layer_norm(d, ROWS, cols, x, cols, g, b, 1e-5f, y, true, mean, rstd);
    double err = worst(y, want, ROWS * cols);
    ok(err < 3e-6, "layer norm of %zu: %g", cols, err);
    d->op->layer_norm(d, ROWS, cols, x, cols, g, b, 1e-5f, x, true, NULL, NULL);
    ok(!memcmp(x, y, ROWS * cols * 4), "layer norm in place");
    free(x);
    free(g);
    free(b);
    free(y);
    free(want);
}

static void attention_exact(const struct dev_attention *a, const float *q, const float *kv,
                            const int32_t *start, double *want)
{
    size_t width = a->heads * a->head_dim, n = a->kv.n;
    double *p = malloc(a->kv.max_len * sizeof *p);
    for (size_t s = 0; s < n; s++) {
        size_t row0 = (size_t)start[s], len = (size_t)start[s + 1] - row0;
        for (size_t r = 0; r < (a->last_only ? 1 : len); r++) {
            size_t pos = a->last_only ? (size_t)a->q_row[s] : r;
            size_t at = a->last_only ? s : row0 + r, keys = a->causal ? pos + 1 : len;
            for (size_t h = 0; h < a->heads; h++) {
                size_t col = h * a->head_dim;
                double sum = 0;
                for (size_t j = 0; j < keys; j++) {
                    double dot = 0;
                    for (size_t c = 0; c < a->head_dim; c++)
                        dot += (double)q[at * a->q_ld + col + c] *
                               (double)kv[(row0 + j) * a->kv_ld + col + c];
                    sum += p[j] = exp(dot / sqrt((double)a->head_dim));
                }
                for (size_t c = 0; c < a->head_dim; c++) {
                    double o = 0;
                    for (size_t j = 0; j < keys; j++)
                        o += p[j] * (double)kv[(row0 + j) * a->kv_ld + width + col + c];
                    want[at * width + col + c] = o / sum;
                }
            }
        }
    }
    free(p);
}

static void test_attention(struct dev *d, size_t head_dim, bool causal, bool last)
{
    enum { SEQS = 4, HEADS = 3 };
    const int32_t start[SEQS + 1] = {0, 1, 51, 64, 141}, q_row[SEQS] = {0, 49, 5, 76};
    size_t width = HEADS * head_dim, rows = 141, q_rows = last ? SEQS : rows;
    float *qf = randoms(q_rows * width), *kvf = randoms(rows * 2 * width);
    void *q = to_act(d, qf, q_rows * width), *kv = to_act(d, kvf, rows * 2 * width);
    void *out = calloc(q_rows * width, 4);
    double *want = calloc(q_rows * width, 8);
    struct dev_attention a = {.heads = HEADS,
                              .head_dim = head_dim,
                              .causal = causal,
                              .last_only = last,
                              .q_row = q_row,
                              .kv = {SEQS, 77, start},
                              .q = q,
                              .k = kv,
                              .v = (char *)kv + width * d->act_size,
                              .q_ld = width,
                              .kv_ld = 2 * width,
                              .out = out,
                              .out_ld = width};
    attention_exact(&a, qf, kvf, start, want);
    d->op->attention(d, &a);
    float *got = from_act(d, out, q_rows * width);
    double err = worst(got, want, q_rows * width);
    ok(err < bound(d), "attention of width %zu%s%s: %g", head_dim, causal ? " causal" : "",
       last ? " last" : "", err);
    free(qf);
    free(kvf);
    free(q);
    free(kv);
    free(out);
    free(want);
    free(got);
}

// Gated MLPs, rotary embeddings, means of rows.
static void test_glu(struct dev *d)
{
    enum { ROWS = 6, COLS = 37, HEAD = 4, POS = 3 };
    static float pre[ROWS * 2 * COLS], mid[ROWS * COLS];
    double err = 0;
    for (int i = 0; i < ROWS * 2 * COLS; i++)
        pre[i] = 4 * (float)rng_normal(&rng);
    d->op->swiglu(d, ROWS, COLS, pre, mid);
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLS; c++) {
            double g = (double)pre[r * 2 * COLS + c], x = (double)pre[(r * 2 + 1) * COLS + c];
            double want = g / (1 + exp(-g)) * x;
            err = fmax(err, fabs((double)mid[r * COLS + c] - want) / (1 + fabs(want)));
        }
    ok(err < 1e-6, "silu(gate) x: %g", err);
    const float angle[POS * HEAD] = {1, 0, 1, 0, 0, 1, -1, 0, 0.6f, 0.8f, 0.8f, -0.6f};
    float x[2 * POS][10] = {{0}}, was[2 * POS][10];
    for (int i = 0; i < 2 * POS * 10; i++)
        x[i / 10][i % 10] = (float)i;
    memcpy(was, x, sizeof x);
    d->op->rotate(d, 2 * POS, 2 * HEAD, HEAD, POS, angle, false, x[0], 10);
    ok(!memcmp(x[0], was[0], sizeof x[0]) && !memcmp(x[3], was[3], sizeof x[3]),
       "an angle of 0 turns nothing");
    ok(x[1][0] == -was[1][1] && x[1][1] == was[1][0] && x[4][6] == -was[4][6] &&
           x[4][8] == was[4][8] && x[5][9] == was[5][9],
       "a quarter and a half turn, in every head, and no column behind them");
    ok(fabsf(x[2][4] - (0.6f * was[2][4] - 0.8f * was[2][5])) < 1e-5f, "any angle");
    d->op->rotate(d, 2 * POS, 2 * HEAD, HEAD, POS, angle, true, x[0], 10);
    for (int i = 0; i < 2 * POS * 10; i++)
        err = fmax(err, fabs((double)(x[i / 10][i % 10] - was[i / 10][i % 10])));
    ok(err < 2e-5, "and back: %g", err);
    const float rows[2 * 3 * 2] = {9, 9, 1, 2, 3, 4, 9, 9, 5, 6, 7, 10};
    float mean[4];
    d->op->mean_rows(d, 2, 3, 1, 2, rows, mean);
    ok(mean[0] == 2 && mean[1] == 3 && mean[2] == 6 && mean[3] == 8, "means of rows but the first");
    const float pos[4] = {10, 20, 30, 40}, patch[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    float to[8];
    d->op->assemble(d, 2, 2, 2, patch, NULL, pos, to);
    ok(to[0] == 11 && to[3] == 44 && to[4] == 15 && to[7] == 48, "patches without a class token");
}

static void test_inputs(struct dev *d)
{
    enum { N = 2, SIZE = 7, PATCH = 3, GRID = 2, COLS = 27 };
    uint8_t pixels[N * SIZE * SIZE * 3];
    const float mean[3] = {0.5f, 0.4f, 0.3f}, std[3] = {0.2f, 0.3f, 0.25f};
    float out[N * GRID * GRID * COLS];
    double want[N * GRID * GRID * COLS];
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)rng_below(&rng, 256);
    size_t at = 0;
    for (int n = 0; n < N; n++)
        for (int py = 0; py < GRID; py++)
            for (int px = 0; px < GRID; px++)
                for (int c = 0; c < 3; c++)
                    for (int y = 0; y < PATCH; y++)
                        for (int x = 0; x < PATCH; x++) {
                            int p = ((n * SIZE + py * PATCH + y) * SIZE + px * PATCH + x) * 3 + c;
                            want[at++] = (pixels[p] / 255.0 - (double)mean[c]) / (double)std[c];
                        }
    d->op->patchify(d, N, SIZE, PATCH, pixels, mean, std, out);
    ok(worst(out, want, at) < 1e-6, "patches, a border that does not fill one left out");

    const float rows[4] = {1, 2, 3, 4}, cls[1] = {10}, pos[3] = {0.5f, 0.25f, 0.125f};
    const float assembled[6] = {10.5f, 1.25f, 2.125f, 10.5f, 3.25f, 4.125f};
    float x[6];
    d->op->assemble(d, 2, 2, 1, rows, cls, pos, x);
    ok(!memcmp(x, assembled, sizeof x), "class and patches");

    const int32_t start[3] = {0, 2, 3}, token[3] = {1, 0, 1}, index[2] = {2, 0};
    const float table[2] = {7, 8}, embedded[3] = {8.5f, 7.25f, 8.5f};
    struct dev_ragged r = {2, 2, start};
    d->op->embed(d, &r, 1, token, table, pos, x);
    ok(!memcmp(x, embedded, sizeof embedded), "token embedding");
    float picked[2];
    d->op->gather(d, 2, 1, x, 1, index, picked);
    ok(picked[0] == 8.5f && picked[1] == 8.5f, "gather");

    float v[4] = {3, 4, 0, 0}, u[4], norm[2];
    d->op->unit(d, 2, 2, v, u, norm);
    ok(u[0] == 0.6f && u[1] == 0.8f && u[2] == 0 && u[3] == 0 && norm[0] == 5, "unit rows");
}

static void test_gemm(struct dev *d, bool ta, bool tb)
{
    enum { M = 300, N = 530, K = 19 };
    float *a = randoms(M * K), *b = randoms(K * N), *c = randoms(M * N);
    double *want = malloc(sizeof *want * M * N);
    for (size_t i = 0; i < M; i++)
        for (size_t j = 0; j < N; j++) {
            double s = 0;
            for (size_t k = 0; k < K; k++)
                s += (double)a[ta ? k * M + i : i * K + k] * (double)b[tb ? j * K + k : k * N + j];
            want[i * N + j] = 0.5 * s + 2 * (double)c[i * N + j];
        }
    d->op->gemm(d, ta, tb, M, N, K, 0.5f, a, ta ? M : K, b, tb ? K : N, 2, c, N);
    ok(worst(c, want, M * N) < 1e-6, "gemm %d %d", ta, tb);
    free(a);
    free(b);
    free(c);
    free(want);
}

int main(void)
{
    struct dev d;
    struct err e;
    rng_init(&rng, 1, 0);
    ok(dev_open(&d, "tpu", DEV_F32, 1, false, &e) && strstr(e.text, "tpu"), "unknown device");
    for (int type = 0; type < 2; type++) {
        if (dev_open(&d, "cpu", type ? DEV_BF16 : DEV_F32, 2, true, &e))
            return 1;
        test_linear(&d, 1, 16, 16, 16, 0);
        test_linear(&d, 130, 13, 70, 13, 4);
        test_linear(&d, 65, 40, 1100, 44, 1 | 16);
        test_linear(&d, 64, 96, 512, 96, 2 | 8);
        test_linear(&d, 3, 7, 1, 9, 2 | 16);
        test_linear_bwd(&d, 70, 33, 50, false);
        test_linear_bwd(&d, 600, 20, 400, true);
        const size_t dims[] = {13, 64, 80, 88, 104, 300};
        for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
            test_attention(&d, dims[i], i & 1, false);
        test_attention(&d, 64, true, true);
        test_attention(&d, 16, false, true);
        ok(!d.op->sync(&d, &e), "no failure");
        dev_close(&d);
        test_rows_alone(type ? DEV_BF16 : DEV_F32);
    }
    if (dev_open(&d, "cpu", DEV_F32, 2, false, &e))
        return 1;
    test_norm(&d, 768);
    test_norm(&d, 13);
    test_glu(&d);
    test_inputs(&d);
    for (int i = 0; i < 4; i++)
        test_gemm(&d, i & 1, i & 2);
    dev_close(&d);
    return tap_done();
}
