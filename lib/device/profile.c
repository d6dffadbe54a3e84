// SPDX-License-Identifier: Apache-2.0
#include "device/profile.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"

const char *const dev_kind_names[DEV_KINDS] = {
    [DEV_KIND_LINEAR] = "linear",
    [DEV_KIND_DX] = "linear, by the input",
    [DEV_KIND_DW] = "linear, by the weight",
    [DEV_KIND_GEMM] = "products of the losses",
    [DEV_KIND_ATTENTION] = "attention",
    [DEV_KIND_ATTENTION_BWD] = "attention, backward",
    [DEV_KIND_NORM] = "layer norm",
    [DEV_KIND_NORM_BWD] = "layer norm, backward",
    [DEV_KIND_ADAMW] = "AdamW",
    [DEV_KIND_OTHER] = "everything else",
};

static void finish(struct dev *d)
{
    struct err unused;
    d->profile->was->sync(d, &unused); // a failure stays in d->failure
}

static double begin(struct dev *d)
{
    finish(d);
    return clock_seconds();
}

static void end(struct dev *d, enum dev_kind kind, double start, double flop)
{
    struct dev_profile *p = d->profile;
    finish(d);
    p->kind[kind].seconds += clock_seconds() - start;
    p->kind[kind].flop += flop;
    p->kind[kind].calls++;
    if (p->n_parts)
        p->part[p->at].cost[p->way].flop += flop;
}

// -- operations that are timed

static double product(struct dev *d, size_t rows, const struct dev_weight *w)
{
    return 2 * (double)rows * (double)d->profile->was->weight_values(w);
}

static void linear(struct dev *d, size_t rows, const void *x, size_t x_ld,
                   const struct dev_weight *w, const struct dev_epilogue *e, void *y, bool y_f32)
{
    double t = begin(d);
    d->profile->was->linear(d, rows, x, x_ld, w, e, y, y_f32);
    end(d, DEV_KIND_LINEAR, t, product(d, rows, w));
}

static void linear_dx(struct dev *d, size_t rows, const void *dy, const struct dev_weight *w,
                      void *dx)
{
    double t = begin(d);
    d->profile->was->linear_dx(d, rows, dy, w, dx);
    end(d, DEV_KIND_DX, t, product(d, rows, w));
}

static void linear_dw(struct dev *d, size_t rows, const void *dy, const void *x, size_t x_ld,
                      const struct dev_weight *w, float *dw, float *db)
{
    double t = begin(d);
    d->profile->was->linear_dw(d, rows, dy, x, x_ld, w, dw, db);
    end(d, DEV_KIND_DW, t, product(d, rows, w));
}

static void gemm(struct dev *d, bool ta, bool tb, size_t m, size_t n, size_t k, float alpha,
                 const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
                 size_t ldc)
{
    double t = begin(d);
    d->profile->was->gemm(d, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    end(d, DEV_KIND_GEMM, t, 2 * (double)m * (double)n * (double)k);
}

// Pairs of a query and a key. Of ragged rows the longest alone is known here, so these are counted
// as if all had its length.
static double pairs(const struct dev_attention *a)
{
    double n = (double)a->kv.n, len = (double)a->kv.max_len;
    double all = a->last_only ? n * len : n * len * len;
    return a->causal && !a->last_only ? all / 2 : all;
}

static void attention(struct dev *d, const struct dev_attention *a)
{
    double t = begin(d), width = (double)(a->heads * a->head_dim);
    d->profile->was->attention(d, a);
    end(d, DEV_KIND_ATTENTION, t, 4 * width * pairs(a));
}

static void attention_bwd(struct dev *d, const struct dev_attention *a, const void *dout, void *dq,
                          void *dk, void *dv)
{
    double t = begin(d), width = (double)(a->heads * a->head_dim);
    d->profile->was->attention_bwd(d, a, dout, dq, dk, dv);
    end(d, DEV_KIND_ATTENTION_BWD, t, 10 * width * pairs(a));
}

static void layer_norm(struct dev *d, size_t rows, size_t cols, const float *x, size_t x_ld,
                       const float *gain, const float *bias, float eps, void *y, bool y_f32,
                       float *mean, float *rstd)
{
    double t = begin(d);
    d->profile->was->layer_norm(d, rows, cols, x, x_ld, gain, bias, eps, y, y_f32, mean, rstd);
    end(d, DEV_KIND_NORM, t, 0);
}

static void layer_norm_bwd(struct dev *d, size_t rows, size_t cols, const float *x, size_t x_ld,
                           const float *gain, const float *mean, const float *rstd, const void *dy,
                           bool dy_f32, float *dx, size_t dx_ld, float *dgain, float *dbias)
{
    double t = begin(d);
    d->profile->was->layer_norm_bwd(d, rows, cols, x, x_ld, gain, mean, rstd, dy, dy_f32, dx, dx_ld,
                                    dgain, dbias);
    end(d, DEV_KIND_NORM_BWD, t, 0);
}

static void adamw(struct dev *d, size_t n, const struct dev_adamw *o, const float *grad, float *m,
                  float *v, float *param)
{
    double t = begin(d);
    d->profile->was->adamw(d, n, o, grad, m, v, param);
    end(d, DEV_KIND_ADAMW, t, 0);
}

static void adamw_rows(struct dev *d, size_t n, size_t cols, const int32_t *index,
                       const struct dev_adamw *o, const float *grad, float *m, float *v,
                       float *param)
{
    double t = begin(d);
    d->profile->was->adamw_rows(d, n, cols, index, o, grad, m, v, param);
    end(d, DEV_KIND_ADAMW, t, 0);
}

// -- parts

void dev_profile_begin(struct dev *d, struct dev_profile *p)
{
    memset(p, 0, sizeof *p);
    p->was = d->op;
    p->op = *d->op;
    p->op.linear = linear;
    p->op.linear_dx = linear_dx;
    p->op.linear_dw = linear_dw;
    p->op.gemm = gemm;
    p->op.attention = attention;
    p->op.attention_bwd = attention_bwd;
    p->op.layer_norm = layer_norm;
    p->op.layer_norm_bwd = layer_norm_bwd;
    p->op.adamw = adamw;
    p->op.adamw_rows = adamw_rows;
    d->op = &p->op;
    d->profile = p;
    dev_profile_reset(d);
}

void dev_profile_reset(struct dev *d)
{
    struct dev_profile *p = d->profile;
    finish(d);
    memset(p->kind, 0, sizeof p->kind);
    p->n_parts = p->at = 0;
    p->began = p->since = clock_seconds();
}

static size_t part_of(struct dev_profile *p, const char *name)
{
    for (size_t i = 0; i < p->n_parts; i++)
        if (!strcmp(p->part[i].name, name))
            return i;
    if (p->n_parts == DEV_PARTS_MOST)
        return DEV_PARTS_MOST - 1;
    struct dev_part *to = &p->part[p->n_parts];
    memset(to, 0, sizeof *to);
    snprintf(to->name, sizeof to->name, "%s", name);
    return p->n_parts++;
}

static void close_part(struct dev *d)
{
    struct dev_profile *p = d->profile;
    finish(d);
    double now = clock_seconds();
    if (p->n_parts) {
        p->part[p->at].cost[p->way].seconds += now - p->since;
        p->part[p->at].cost[p->way].calls++;
    }
    p->since = now;
}

void dev_profile_at(struct dev *d, const char *name, int layer, bool back)
{
    char text[DEV_PART_NAME];
    struct dev_profile *p = d->profile;
    if (!p)
        return;
    close_part(d);
    if (layer < 0)
        snprintf(text, sizeof text, "%s", name);
    else
        snprintf(text, sizeof text, "%s block %d", name, layer);
    p->at = part_of(p, text);
    p->way = back;
}

void dev_profile_end(struct dev *d)
{
    struct dev_profile *p = d->profile;
    struct dev_cost *other = &p->kind[DEV_KIND_OTHER];
    close_part(d);
    other->seconds = p->since - p->began;
    for (int k = 0; k < DEV_KIND_OTHER; k++)
        other->seconds -= p->kind[k].seconds;
    d->op = p->was;
    d->profile = NULL;
}
