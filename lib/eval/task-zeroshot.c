// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>

#include "eval/work.h"
#include "base/mem.h"

enum { BLOCK_ROWS = 1024 };

void eval_result_release(struct eval_result *r)
{
    class_metrics_release(&r->of);
    free(r->top);
    cJSON_Delete(r->nearest);
    *r = (struct eval_result){0};
}

void eval_add_figure(struct eval_result *r, const char *name, double value)
{
    struct eval_figure *g = &r->figure[r->n_figures++];
    snprintf(g->name, sizeof g->name, "%s", name);
    g->value = value;
}

void eval_add_share(struct eval_result *r, const char *name, uint64_t hits, uint64_t n)
{
    if (n == 0)
        return;
    struct metric_share s = metric_wilson(hits, n);
    eval_add_figure(r, name, s.value);
    struct eval_figure *g = &r->figure[r->n_figures - 1];
    g->has_interval = true;
    g->low = s.low;
    g->high = s.high;
}

bool eval_row_failed(const struct eval_features *f, size_t row)
{
    for (size_t j = 0; j < f->dim; j++)
        if (f->x[row * f->dim + j] != 0)
            return false;
    return true;
}

int eval_scores(struct dev *d, const float *a, size_t n_a, const float *b, size_t n_b, size_t dim,
                float scale, eval_block_fn *fn, void *user, struct err *e)
{
    size_t rows = n_a < BLOCK_ROWS ? n_a : BLOCK_ROWS;
    float *da = d->op->alloc(d, rows * dim * sizeof(float), e);
    float *db = da ? d->op->alloc(d, n_b * dim * sizeof(float), e) : NULL;
    float *dz = db ? d->op->alloc(d, rows * n_b * sizeof(float), e) : NULL;
    float *z = dz ? mem_alloc(rows * n_b, sizeof *z, e) : NULL;
    int rc = z ? 0 : -1;
    if (z)
        d->op->upload(d, db, b, n_b * dim * sizeof(float));
    for (size_t at = 0; rc == 0 && at < n_a; at += rows) {
        size_t n = n_a - at < rows ? n_a - at : rows;
        d->op->upload(d, da, a + at * dim, n * dim * sizeof(float));
        d->op->gemm(d, false, true, n, n_b, dim, scale, da, dim, db, dim, 0, dz, n_b);
        rc = d->op->download(d, z, dz, n * n_b * sizeof(float), e);
        for (size_t i = 0; rc == 0 && i < n; i++)
            rc = fn(user, at + i, z + i * n_b, e);
    }
    free(z);
    d->op->free(d, dz);
    d->op->free(d, db);
    d->op->free(d, da);
    return rc;
}

// ---- classes

int eval_classify_row(struct eval_result *r, const struct eval_features *f, size_t row,
                      const float *scores, struct err *e)
{
    metric_top_of(scores, r->classes, &r->top[row]);
    if (eval_row_failed(f, row)) {
        for (int k = 0; k < METRIC_TOP; k++)
            r->top[row].index[k] = -1;
        return 0;
    }
    return class_metrics_add(&r->of, &r->top[row], f->label[row], e);
}

int eval_classify_begin(struct eval_result *r, const struct eval_features *f, size_t classes,
                        struct err *e)
{
    r->n = f->n;
    r->failed = f->failed;
    r->classes = classes;
    r->top = mem_alloc(f->n, sizeof *r->top, e);
    return r->top ? class_metrics_init(&r->of, classes, e) : -1;
}

void eval_classify_end(struct eval_result *r, const char *prefix)
{
    char name[48];
    snprintf(name, sizeof name, "%sacc1", prefix);
    eval_add_share(r, name, r->of.hits1, r->of.n);
    snprintf(name, sizeof name, "%sacc5", prefix);
    if (r->classes >= METRIC_TOP) // among fewer, the right one is always there
        eval_add_share(r, name, r->of.hits5, r->of.n);
    snprintf(name, sizeof name, "%smean_per_class_recall", prefix);
    if (r->of.n)
        eval_add_figure(r, name, class_metrics_recall(&r->of));
}

struct zeroshot {
    struct eval_result *r;
    const struct eval_features *f;
    float *all;       // multilabel: [n, classes]
    uint8_t *targets; // of the rows in `all`
    size_t kept;
};

static int class_row(void *user, size_t row, const float *scores, struct err *e)
{
    struct zeroshot *z = user;
    return eval_classify_row(z->r, z->f, row, scores, e);
}

static int multilabel_row(void *user, size_t row, const float *scores, struct err *e)
{
    struct zeroshot *z = user;
    (void)e;
    if (eval_row_failed(z->f, row))
        return 0;
    for (size_t c = 0; c < z->r->classes; c++) {
        z->all[z->kept * z->r->classes + c] = scores[c];
        z->targets[z->kept * z->r->classes + c] = z->f->targets[row * z->r->classes + c];
    }
    z->kept++;
    return 0;
}

static int multilabel(const struct eval_model *m, struct zeroshot *z, const float *w, struct err *e)
{
    struct eval_result *r = z->r;
    double map;
    r->n = z->f->n;
    r->failed = z->f->failed;
    z->all = mem_alloc(r->n * r->classes, sizeof *z->all, e);
    z->targets = z->all ? mem_alloc(r->n * r->classes, 1, e) : NULL;
    int rc = -1;
    if (z->targets)
        rc = eval_scores(m->clip->dev, z->f->x, z->f->n, w, r->classes, z->f->dim, 100,
                         multilabel_row, z, e);
    if (rc == 0)
        rc = metric_mean_average_precision(z->all, z->targets, z->kept, r->classes, &map,
                                           &r->with_positives, e);
    if (rc == 0 && r->with_positives)
        eval_add_figure(r, "mean_average_precision", map);
    free(z->targets);
    free(z->all);
    return rc;
}

int eval_zeroshot(const struct eval_model *m, const struct eval_set *s,
                  const struct eval_features *f, struct eval_result *r, struct err *e)
{
    struct zeroshot z = {.r = r, .f = f};
    *r = (struct eval_result){.task = "zeroshot_classification", .templates = s->templates.n};
    r->classes = s->classes.n;
    float *w = mem_alloc(s->classes.n * f->dim, sizeof *w, e);
    int rc = w ? eval_class_weights(m, s, w, e) : -1;
    if (rc == 0 && s->type == EVAL_MULTILABEL)
        rc = multilabel(m, &z, w, e);
    else if (rc == 0) {
        rc = eval_classify_begin(r, f, s->classes.n, e);
        if (rc == 0)
            rc = eval_scores(m->clip->dev, f->x, f->n, w, s->classes.n, f->dim, 100, class_row, &z,
                             e);
        if (rc == 0)
            eval_classify_end(r, "");
    }
    free(w);
    if (rc)
        eval_result_release(r);
    return rc;
}
