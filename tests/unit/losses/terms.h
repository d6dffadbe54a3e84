// SPDX-License-Identifier: Apache-2.0
// The terms of the loss in plain loops in float64, and what the programs that test them share: a
// small batch, its losses on a device, gradients by every input against central differences.
#ifndef UNIT_LOSSES_TERMS_H
#define UNIT_LOSSES_TERMS_H

#include "losses/losses.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "unit/tap.h"

enum { N = 6, D = 5, K = 9, LABELS = 2 };
// One vector of all that is differentiated: v, t [N, D], W [K, D], logit_scale, bias.
enum { V = 0, T = N * D, W = 2 * N * D, SCALE = W + K * D, BIAS, TOTAL };

struct world {
    float tv[N * D], tt[N * D];
    float other[2][N * D]; // of a second teacher
    size_t teachers;
    float scale[2];       // of the teachers
    int32_t label[N * K]; // n_label of a row used
    size_t n_label;
    double sigma, margin, filter;
    double soft_sigma;
    const float *prior; // of K
    const char *term;
    uint64_t step, warmup;
    size_t block; // values of a matrix that are there at a time
    size_t parts; // of the batch, and of the classes
};

// The device's products are counted.
static int products;
static void (*product)(struct dev *, bool, bool, size_t, size_t, size_t, float, const float *,
                       size_t, const float *, size_t, float, float *, size_t);

static inline void counted(struct dev *d, bool ta, bool tb, size_t m, size_t n, size_t k,
                           float alpha, const float *a, size_t lda, const float *b, size_t ldb,
                           float beta, float *c, size_t ldc)
{
    products++;
    product(d, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

static inline double dot(const double *a, const double *b)
{
    double s = 0;
    for (int i = 0; i < D; i++)
        s += a[i] * b[i];
    return s;
}

static inline double lse(const double *x, size_t n)
{
    double s = 0, top = -INFINITY;
    for (size_t i = 0; i < n; i++)
        top = fmax(top, x[i]);
    for (size_t i = 0; i < n; i++)
        s += exp(x[i] - top);
    return top + log(s);
}

static inline double ce(double s, const double *a, const double *b)
{
    double sum = 0, x[N];
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++)
            x[j] = s * dot(a + i * D, b + j * D);
        sum += lse(x, N) - x[i];
    }
    return sum / N;
}

static inline double soft_ce(double s, double st, const double *a, const double *b,
                             const double *ta, const double *tb)
{
    double sum = 0, x[N], y[N];
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            x[j] = s * dot(a + i * D, b + j * D);
            y[j] = st * dot(ta + i * D, tb + j * D);
        }
        for (int j = 0; j < N; j++)
            sum -= exp(y[j] - lse(y, N)) * (x[j] - lse(x, N));
    }
    return sum / N;
}

static inline void unit(const double *x, double *y, size_t rows)
{
    for (size_t r = 0; r < rows; r++)
        for (int i = 0; i < D; i++)
            y[r * D + (size_t)i] = x[r * D + (size_t)i] / sqrt(dot(x + r * D, x + r * D));
}

static inline double cluster_ce(const struct world *w, const double *v, const double *c)
{
    double sum = 0, x[K];
    for (int i = 0; i < N; i++)
        for (size_t l = 0; l < w->n_label; l++) {
            int y = w->label[(size_t)i * w->n_label + l];
            for (int k = 0; k < K; k++) {
                double cosine = dot(v + i * D, c + k * D);
                x[k] = k == y               ? w->sigma * (cosine - w->margin)
                       : cosine > w->filter ? -INFINITY
                                            : w->sigma * cosine;
            }
            for (int k = 0; k < K && w->prior; k++)
                x[k] += (double)w->prior[k];
            sum += (lse(x, K) - x[y]) / (double)w->n_label;
        }
    return sum / N;
}

// The teacher's side uses `fixed` here too.
static inline double cluster_soft(const struct world *w, const double *v, const double *c,
                                  const double *tv, const double *fixed)
{
    double sum = 0, x[K], y[K];
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < K; k++) {
            x[k] = w->sigma * dot(v + i * D, c + k * D);
            y[k] = -INFINITY;
        }
        for (size_t l = 0; l < w->n_label; l++) {
            int k = w->label[(size_t)i * w->n_label + l];
            y[k] = (w->soft_sigma > 0 ? w->soft_sigma : w->sigma) * dot(tv + i * D, fixed + k * D);
        }
        for (int k = 0; k < K; k++)
            sum -= exp(y[k] - lse(y, K)) * (x[k] - lse(x, K));
    }
    return sum / N;
}

// The teacher's side uses `fixed`, the rows before they were moved.
static inline double cluster_kl(const struct world *w, const double *v, const double *c,
                                const double *tv, const double *fixed)
{
    double sum = 0, x[K], y[K];
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < K; k++) {
            x[k] = w->sigma * dot(v + i * D, c + k * D);
            y[k] = w->sigma * dot(tv + i * D, fixed + k * D);
        }
        for (int k = 0; k < K; k++)
            sum += exp(y[k] - lse(y, K)) * (y[k] - lse(y, K) - x[k] + lse(x, K));
    }
    return sum / N;
}

// Rows of a with columns of b. A row's own are those of its label, itself among them.
static inline double margin(const struct world *w, const double *a, const double *b)
{
    double sum = 0;
    for (size_t i = 0; i < N; i++) {
        double least = INFINITY, over = 0;
        size_t others = 0;
        int32_t own = w->label[i * w->n_label];
        for (size_t j = 0; j < N; j++)
            if (w->label[j * w->n_label] == own)
                least = fmin(least, dot(a + i * D, b + j * D));
        for (size_t j = 0; j < N; j++)
            if (w->label[j * w->n_label] != own) {
                over += fmax(0, dot(a + i * D, b + j * D) - least);
                others++;
            }
        sum += others ? over / (double)others : 0;
    }
    return sum / (2 * N);
}

// By the unit rows v, t as they are (the losses' own inputs); W goes through its normalisation.
static inline double value(const struct world *w, const double *x, const double *start)
{
    const double *v = x + V, *t = x + T;
    double tv[N * D], tt[N * D], c[K * D], fixed[K * D], s = exp(x[SCALE]), sum = 0;
    for (int i = 0; i < N * D; i++) {
        tv[i] = (double)w->tv[i];
        tt[i] = (double)w->tt[i];
    }
    unit(x + W, c, K);
    unit(start + W, fixed, K);
    if (!strcmp(w->term, "instance"))
        return (ce(s, t, tv) + ce(s, tv, t) + ce(s, v, tt) + ce(s, tt, v)) / 4;
    if (!strcmp(w->term, "clip"))
        return (ce(s, v, t) + ce(s, t, v)) / 2;
    if (!strcmp(w->term, "affinity")) {
        double ov[N * D], ot[N * D], st = (double)w->scale[0], so = (double)w->scale[1];
        for (int i = 0; i < N * D; i++) {
            ov[i] = (double)w->other[0][i];
            ot[i] = (double)w->other[1][i];
        }
        sum = (soft_ce(s, st, v, t, tv, tt) + soft_ce(s, st, t, v, tt, tv)) / 2;
        return w->teachers < 2
                   ? sum
                   : (sum + (soft_ce(s, so, v, t, ov, ot) + soft_ce(s, so, t, v, ot, ov)) / 2) / 2;
    }
    if (!strcmp(w->term, "feature")) {
        for (int i = 0; i < N * D; i++)
            sum += (v[i] - tv[i]) * (v[i] - tv[i]) + (t[i] - tt[i]) * (t[i] - tt[i]);
        return sum / (N * D);
    }
    if (!strcmp(w->term, "relation")) {
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                double a = dot(v + i * D, v + j * D) - dot(tv + i * D, tv + j * D);
                double b = dot(t + i * D, t + j * D) - dot(tt + i * D, tt + j * D);
                sum += (a * a + b * b) / (2 * N);
            }
        return sum;
    }
    if (!strcmp(w->term, "align")) {
        for (int i = 0; i < N; i++)
            sum += (1 - dot(v + i * D, t + i * D)) / N;
        return sum;
    }
    if (!strcmp(w->term, "margin"))
        return margin(w, v, t) + margin(w, t, v);
    if (!strcmp(w->term, "siglip")) {
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++)
                sum += log1p(exp((i == j ? -1 : 1) * (s * dot(v + i * D, t + j * D) + x[BIAS])));
        return sum / N;
    }
    if (!strcmp(w->term, "cluster_ce"))
        return cluster_ce(w, v, c);
    if (!strcmp(w->term, "cluster_soft"))
        return cluster_soft(w, v, c, tv, fixed);
    return cluster_kl(w, v, c, tv, fixed);
}

struct got {
    double value;
    float g[TOTAL];
    size_t sample;
};

static inline bool run(struct dev *d, const struct world *w, const float *x, double rate,
                       float weight, struct got *got)
{
    struct losses l;
    struct cluster_head h = {0};
    struct err e;
    struct cluster_set set = {.sigma = (float)w->sigma,
                              .rate = rate,
                              .margin = (float)w->margin,
                              .filter = (float)w->filter,
                              .block = w->block,
                              .parts = w->parts,
                              .soft_sigma = (float)w->soft_sigma,
                              .prior = w->prior};
    struct loss_grads g = {.dv = got->g + V, .dt = got->g + T, .dpv = got->g + V};
    char list[64];
    double total;
    memset(got, 0, sizeof *got);
    g.dpt = g.dt;
    snprintf(list, sizeof list, "%s=%g", w->term, (double)weight);
    bool good = !losses_parse(&l, list, &e);
    l.cluster_warmup = w->warmup;
    l.block = w->block;
    l.parts = w->parts;
    l.teachers = w->teachers;
    set.soft = losses_soft(&l);
    good = good && !losses_open(&l, d, N + 2, w->n_label, &e) &&
           !cluster_head_open(&h, d, &set, x + W, K, D, N + 2, w->n_label, &e);
    // The head makes its rows unit; the test's are put back as they are.
    d->op->upload(d, h.w, x + W, K * D * sizeof *x);
    products = 0;
    size_t part = w->parts ? (N + w->parts - 1) / w->parts : 0;
    struct loss_batch b = {
        .n = N, .part = part, .dim = D, .dim_t = D, .v = x + V, .t = x + T, .w = &h};
    b.pv = b.v;
    b.pt = b.t;
    b.tv = w->tv;
    b.tt = w->tt;
    struct loss_teacher teacher[2] = {{D, w->tv, w->tt, w->scale[0]},
                                      {D, w->other[0], w->other[1], w->scale[1]}};
    b.teacher = teacher;
    b.n_teacher = w->teachers;
    b.label = w->label;
    b.n_label = w->n_label;
    b.scale = expf(x[SCALE]);
    b.bias = x[BIAS];
    b.step = w->step;
    good = good && !losses_run(&l, &b, &g, &total, &e);
    for (size_t i = 0; i < loss_count(); i++)
        if (l.weight[i] > 0)
            got->value = l.value[i];
    // The table declares what the term uses, no less and no more.
    good = good && l.room.n_rows == l.room.max_rows &&
           l.room.n_sums + !l.room.n_rows == l.room.max_sums;
    if (!w->warmup)
        good = good && fabs(total - (double)weight * got->value) < 1e-9 * (1 + fabs(total));
    got->g[SCALE] = (float)g.dscale;
    got->g[BIAS] = (float)g.dbias;
    for (size_t i = 0; i < h.s; i++)
        memcpy(got->g + W + h.ids[i] * D, h.dw + i * D, D * sizeof(float));
    got->sample = h.s;
    cluster_head_close(&h);
    losses_close(&l);
    return good;
}

static inline void one_term(struct dev *d, struct world *w, const float *x, const char *what)
{
    struct got got;
    double at[TOTAL], start[TOTAL], worst = 0, size = 1e-9, weight = 2.5;
    const double h = 1e-5;
    for (int i = 0; i < TOTAL; i++)
        at[i] = start[i] = (double)x[i];
    bool good = run(d, w, x, 1, (float)weight, &got);
    double want = value(w, start, start);
    ok(good && fabs(got.value - want) < 2e-6 * (1 + fabs(want)), "%s%s: %.7g, want %.7g", w->term,
       what, got.value, want);
    for (int i = 0; i < TOTAL; i++) {
        at[i] = start[i] + h;
        double up = value(w, at, start);
        at[i] = start[i] - h;
        double slope = weight * (up - value(w, at, start)) / (2 * h);
        at[i] = start[i];
        worst = fmax(worst, fabs(slope - (double)got.g[i]));
        size = fmax(size, fabs(slope));
    }
    ok(worst / size < 2e-5, "%s%s: gradient within %g", w->term, what, worst / size);
}

static inline void normalise(float *x, size_t rows)
{
    for (size_t r = 0; r < rows; r++) {
        double q = 0;
        for (int i = 0; i < D; i++)
            q += (double)x[r * D + (size_t)i] * (double)x[r * D + (size_t)i];
        for (int i = 0; i < D; i++)
            x[r * D + (size_t)i] = (float)((double)x[r * D + (size_t)i] / sqrt(q));
    }
}

// A device whose products are counted, a batch of random unit rows. False: no device.
static inline bool begin(struct dev *d, struct world *w, float *x)
{
    static struct dev_ops counting;
    struct err e;
    struct rng rng;
    *w = (struct world){.n_label = 1, .sigma = 16, .filter = 2, .teachers = 1, .scale = {3.5f, 20}};
    if (dev_open(d, "cpu", DEV_F32, 2, false, &e))
        return false;
    counting = *d->op;
    product = counting.gemm;
    counting.gemm = counted;
    d->op = &counting;
    rng_init(&rng, 2, 0);
    for (int i = 0; i < TOTAL; i++)
        x[i] = (float)rng_normal(&rng);
    for (int i = 0; i < N * D; i++) {
        w->tv[i] = (float)rng_normal(&rng);
        w->tt[i] = (float)rng_normal(&rng);
        w->other[0][i] = (float)rng_normal(&rng);
        w->other[1][i] = (float)rng_normal(&rng);
    }
    for (int i = 0; i < N * LABELS; i++)
        w->label[i] = (int32_t)rng_below(&rng, K);
    normalise(x, 2 * N);
    normalise(w->tv, N);
    normalise(w->tt, N);
    normalise(w->other[0], N);
    normalise(w->other[1], N);
    x[SCALE] = 1.7f;
    x[BIAS] = -2;
    return true;
}

#endif
