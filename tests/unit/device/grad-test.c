// SPDX-License-Identifier: Apache-2.0
// Backward operations against central differences of plain loops in float64.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "device/dev.h"
#include "unit/tap.h"

static struct rng rng;

static void randoms(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)rng_normal(&rng);
}

// d f / d x[i] for every i of x; f takes the values as float64.
typedef double scalar_fn(const double *x, void *ctx);

static void differences(scalar_fn *f, void *ctx, const float *x, size_t n, double *g)
{
    double *at = malloc(n * sizeof *at);
    const double h = 1e-5;
    for (size_t i = 0; i < n; i++)
        at[i] = (double)x[i];
    for (size_t i = 0; i < n; i++) {
        at[i] = (double)x[i] + h;
        double up = f(at, ctx);
        at[i] = (double)x[i] - h;
        g[i] = (up - f(at, ctx)) / (2 * h);
        at[i] = (double)x[i];
    }
    free(at);
}

// Largest difference, against the size of the gradient.
static double worst(const float *got, const double *want, size_t n)
{
    double e = 0, size = 1e-9;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - want[i]);
        e = d > e || d != d ? d : e;
        size = fabs(want[i]) > size ? fabs(want[i]) : size;
    }
    return e / size;
}

// -- layer norm: x [ROWS, c], gain [c], bias [c] in one vector
enum { ROWS = 5 };

struct norm {
    size_t cols;
    const float *w; // dL/dy
};

static double norm_loss(const double *x, void *ctx)
{
    const struct norm *n = ctx;
    const double *gain = x + ROWS * n->cols, *bias = gain + n->cols;
    double loss = 0;
    for (size_t r = 0; r < ROWS; r++) {
        double m = 0, v = 0;
        for (size_t c = 0; c < n->cols; c++)
            m += x[r * n->cols + c] / (double)n->cols;
        for (size_t c = 0; c < n->cols; c++)
            v += (x[r * n->cols + c] - m) * (x[r * n->cols + c] - m) / (double)n->cols;
        for (size_t c = 0; c < n->cols; c++)
            loss += (double)n->w[r * n->cols + c] *
                    ((x[r * n->cols + c] - m) / sqrt(v + 1e-5) * gain[c] + bias[c]);
    }
    return loss;
}

static void layer_norm(struct dev *d, size_t cols)
{
    size_t n = (ROWS + 2) * cols;
    float *x = malloc(n * 4), *w = malloc(n * 4), *g = calloc(n, 4), *y = malloc(n * 4);
    float mean[ROWS], rstd[ROWS];
    double *want = malloc(n * sizeof *want);
    struct norm k = {cols, w};
    randoms(x, n);
    randoms(w, n);
    d->op->layer_norm(d, ROWS, cols, x, cols, x + ROWS * cols, x + (ROWS + 1) * cols, 1e-5f, y,
                      true, mean, rstd);
    d->op->layer_norm_bwd(d, ROWS, cols, x, cols, x + ROWS * cols, mean, rstd, w, true, g, cols,
                          g + ROWS * cols, g + (ROWS + 1) * cols);
    differences(norm_loss, &k, x, n, want);
    double e = worst(g, want, n);
    ok(e < 1e-5, "layer norm of %zu: %g", cols, e);
    free(x);
    free(w);
    free(g);
    free(y);
    free(want);
}

// -- attention: q, k, v of ragged sequences
struct att {
    struct dev_attention *a;
    size_t rows, q_rows;
    const int32_t *start;
    const float *w;
};

static double att_row(const struct att *t, const double *q, const double *k, const double *v,
                      size_t seen, const float *w)
{
    size_t hd = t->a->head_dim, W = t->a->heads * hd;
    double top = -1e300, sum = 0, out = 0, s[64];
    for (size_t j = 0; j < seen; j++) {
        s[j] = 0;
        for (size_t c = 0; c < hd; c++)
            s[j] += q[c] * k[j * W + c];
        s[j] /= sqrt((double)hd);
        top = s[j] > top ? s[j] : top;
    }
    for (size_t j = 0; j < seen; j++)
        sum += exp(s[j] - top);
    for (size_t j = 0; j < seen; j++)
        for (size_t c = 0; c < hd; c++)
            out += exp(s[j] - top) / sum * v[j * W + c] * (double)w[c];
    return out;
}

static double att_loss(const double *x, void *ctx)
{
    const struct att *t = ctx;
    const struct dev_attention *a = t->a;
    size_t W = a->heads * a->head_dim;
    const double *q = x, *k = q + t->q_rows * W, *v = k + t->rows * W;
    double loss = 0;
    for (size_t i = 0; i < a->kv.n; i++) {
        size_t row0 = (size_t)t->start[i], n = (size_t)t->start[i + 1] - row0;
        for (size_t r = 0; r < (a->last_only ? 1 : n); r++)
            for (size_t h = 0; h < a->heads; h++) {
                size_t row = a->last_only ? i : row0 + r, col = h * a->head_dim;
                size_t pos = a->last_only ? (size_t)a->q_row[i] : r;
                loss += att_row(t, q + row * W + col, k + row0 * W + col, v + row0 * W + col,
                                a->causal ? pos + 1 : n, t->w + row * W + col);
            }
    }
    return loss;
}

static void attention(struct dev *d, size_t hd, bool causal, bool last)
{
    const int32_t start[4] = {0, 5, 6, 23}, q_row[3] = {4, 0, 11};
    size_t heads = 2, W = heads * hd, rows = 23, qn = last ? 3 : rows;
    size_t n = (qn + 2 * rows) * W;
    float *x = malloc(n * 4), *w = malloc(rows * W * 4), *g = malloc(n * 4);
    float *out = malloc(rows * W * 4), *lse = malloc(rows * heads * 4);
    double *want = malloc(n * sizeof *want);
    struct dev_attention a = {.heads = heads, .head_dim = hd, .causal = causal, .last_only = last};
    randoms(x, n);
    randoms(w, rows * W);
    a.q_row = q_row;
    a.kv = (struct dev_ragged){3, 17, start};
    a.q = x;
    a.k = x + qn * W;
    a.v = x + (qn + rows) * W;
    a.q_ld = a.kv_ld = a.out_ld = W;
    a.out = out;
    a.lse = lse;
    d->op->attention(d, &a);
    d->op->attention_bwd(d, &a, w, g, g + qn * W, g + (qn + rows) * W);
    struct att t = {&a, rows, qn, start, w};
    differences(att_loss, &t, x, n, want);
    double e = worst(g, want, n);
    ok(e < 2e-5, "attention of width %zu%s%s: %g", hd, causal ? " causal" : "",
       last ? " last only" : "", e);
    free(x);
    free(w);
    free(g);
    free(out);
    free(lse);
    free(want);
}

// -- elementwise
static double act_loss(const double *x, void *ctx)
{
    enum dev_act a = *(enum dev_act *)ctx;
    double s = 0;
    for (size_t i = 0; i < 100; i++)
        s += a == DEV_ACT_GELU         ? x[i] * 0.5 * erfc(-x[i] / sqrt(2))
             : a == DEV_ACT_QUICK_GELU ? x[i] / (1 + exp(-1.702 * x[i]))
             : a == DEV_ACT_TANH_GELU
                 ? x[i] / 2 * (1 + tanh(sqrt(2 / M_PI) * (x[i] + 0.044715 * pow(x[i], 3))))
                 : x[i];
    return s;
}

static double unit_loss(const double *x, void *ctx)
{
    const float *w = ctx;
    double s = 0;
    for (size_t r = 0; r < 4; r++) {
        double q = 0;
        for (size_t c = 0; c < 9; c++)
            q += x[r * 9 + c] * x[r * 9 + c];
        for (size_t c = 0; c < 9; c++)
            s += (double)w[r * 9 + c] * x[r * 9 + c] / sqrt(q);
    }
    return s;
}

static void elementwise(struct dev *d)
{
    float x[100], one[100], g[100], norm[4], y[36];
    double want[100];
    randoms(x, 100);
    for (size_t i = 0; i < 100; i++) {
        x[i] *= 3;
        one[i] = 1;
    }
    for (enum dev_act a = DEV_ACT_NONE; a <= DEV_ACT_TANH_GELU; a++) {
        d->op->act_bwd(d, 100, a, x, one, g);
        differences(act_loss, &a, x, 100, want);
        ok(worst(g, want, 100) < 2e-6, "activation %d: %g", (int)a, worst(g, want, 100));
    }
    float w[36];
    randoms(w, 36);
    d->op->unit(d, 4, 9, x, y, norm);
    d->op->unit_bwd(d, 4, 9, y, norm, w, g);
    differences(unit_loss, w, x, 36, want);
    ok(worst(g, want, 36) < 1e-5, "unit rows: %g", worst(g, want, 36));
    memset(norm, 0, sizeof norm);
    d->op->unit_bwd(d, 4, 9, y, norm, w, g);
    ok(g[0] == 0 && g[35] == 0, "a zero row has no gradient");
}

static void rows_and_sums(struct dev *d)
{
    const float src[6] = {1, 2, 3, 4, 5, 6}, x[3] = {1, 2, 3};
    const int32_t index[3] = {1, 0, 1}, start[3] = {0, 2, 3}, token[3] = {4, 0, 4};
    float dst[4] = {0}, table[10] = {0}, pos[4] = {0}, y[3] = {1, 1, 1};
    d->op->scatter_add(d, 3, 2, src, index, dst, 2);
    ok(dst[0] == 3 && dst[1] == 4 && dst[2] == 6 && dst[3] == 8, "scatter, equal rows added");
    struct dev_ragged r = {2, 2, start};
    d->op->embed_bwd(d, &r, 2, token, src, table, pos);
    ok(table[8] == 6 && table[9] == 8 && table[0] == 3 && pos[0] == 6 && pos[2] == 3,
       "embedding: tokens and positions");
    float dx[12], cls[2] = {0}, dpos[6] = {0}, patch[8];
    for (size_t i = 0; i < 12; i++)
        dx[i] = (float)i;
    d->op->assemble_bwd(d, 2, 2, 2, dx, cls, dpos, patch);
    ok(cls[0] == 6 && cls[1] == 8 && dpos[0] == 6 && dpos[5] == 16 && patch[0] == 2 &&
           patch[4] == 8,
       "class, positions and patches");
    d->op->axpy(d, 3, 2, x, y);
    d->op->scale(d, 3, 0.5f, y);
    ok(y[0] == 1.5f && y[2] == 3.5f, "axpy and scale");
    ok(d->op->dot(d, 3, x, x) == 14 && d->op->sum(d, 3, x) == 6, "dot and sum");
}

// A dot product whose runs are summed in two places is that of one, to the bit.
static void dot_runs(struct dev *d)
{
    enum { RUNS = 3, MOST = RUNS * 20000 };
    static float x[MOST], y[MOST];
    double part[RUNS + 1], whole, joined;
    size_t n = RUNS * d->dot_run + 5;
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)rng_normal(&rng);
        y[i] = x[i] * (float)(i % 7) * 1e-3f;
    }
    d->op->dot_to(d, n, x, y, &whole);
    d->op->dot_runs(d, d->dot_run, x, y, part);
    d->op->dot_runs(d, n - d->dot_run, x + d->dot_run, y + d->dot_run, part + 1);
    d->op->dot_join(d, RUNS + 1, part, &joined);
    ok(whole > 0 && whole == joined, "a dot product in runs: %.17g, %.17g", whole, joined);
}

int main(void)
{
    struct dev one, three;
    struct err e;
    rng_init(&rng, 1, 0);
    if (dev_open(&one, "cpu", DEV_F32, 1, false, &e) ||
        dev_open(&three, "cpu", DEV_F32, 3, false, &e))
        return 1;
    layer_norm(&three, 7);
    layer_norm(&three, 48);
    layer_norm(&three, 530);
    for (int i = 0; i < 4; i++) {
        attention(&one, 5, i & 1, i & 2);
        attention(&three, 16, i & 1, i & 2);
    }
    elementwise(&three);
    rows_and_sums(&one);
    dot_runs(&one);
    dot_runs(&three);
    dev_close(&one);
    dev_close(&three);
    return tap_done();
}
