// SPDX-License-Identifier: Apache-2.0
#include "losses.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"

enum { IMAGE = LOSS_TEACHER_IMAGE, TEXT = LOSS_TEACHER_TEXT };

const struct loss_kind loss_kinds[] = {
    {"instance", IMAGE | TEXT, loss_instance, "student against teacher, all four pairings"},
    {"cluster_ce", LOSS_CLUSTERS, loss_cluster_ce, "cross entropy against the cluster labels"},
    {"cluster_kl", LOSS_CLUSTERS | IMAGE, loss_cluster_kl, "KL from the teacher's clusters"},
    {"clip", 0, loss_clip, "the student's images against its texts"},
    {"affinity", IMAGE | TEXT, loss_affinity, "the teacher's image-text similarities as targets"},
    {"feature", IMAGE | TEXT, loss_feature, "squared distance to the teacher's embeddings"},
    {"siglip", LOSS_BIAS, loss_siglip, "each pair by itself, sigmoid loss"},
    {NULL, 0, NULL, NULL},
};

size_t loss_count(void)
{
    size_t n = 0;
    while (loss_kinds[n].name)
        n++;
    return n;
}

static int set_weight(struct losses *l, const char *name, float weight, struct err *e)
{
    bool found = false, cluster = !strcmp(name, "cluster");
    for (size_t i = 0; loss_kinds[i].name; i++)
        if (!strcmp(name, loss_kinds[i].name) ||
            (cluster && (loss_kinds[i].needs & LOSS_CLUSTERS))) {
            l->weight[i] = weight;
            found = true;
        }
    return found ? 0 : err_set(e, "no loss is called '%s'", name);
}

static int parse_one(struct losses *l, const char *item, size_t n, struct err *e)
{
    char name[LOSS_NAME_MAX + 24];
    if (n >= sizeof name)
        return err_set(e, "'%.*s' is not NAME=WEIGHT", (int)n, item);
    memcpy(name, item, n);
    name[n] = '\0';
    float weight = 1;
    char *eq = strchr(name, '=');
    if (eq) {
        char *end;
        *eq = '\0';
        weight = strtof(eq + 1, &end);
        if (end == eq + 1 || *end || !isfinite(weight) || weight < 0)
            return err_set(e, "'%s' is not a weight for '%s'", eq + 1, name);
    }
    return set_weight(l, name, weight, e);
}

int losses_parse(struct losses *l, const char *list, struct err *e)
{
    memset(l, 0, sizeof *l);
    for (const char *p = list;;) {
        size_t n = strcspn(p, ",");
        if (n && parse_one(l, p, n, e))
            return -1;
        if (!p[n])
            break;
        p += n + 1;
    }
    for (size_t i = 0; i < loss_count(); i++)
        if (l->weight[i] > 0)
            return 0;
    return err_set(e, "every loss has weight 0");
}

int losses_needs(const struct losses *l)
{
    int needs = 0;
    for (size_t i = 0; loss_kinds[i].name; i++)
        if (l->weight[i] > 0)
            needs |= loss_kinds[i].needs;
    return needs;
}

size_t losses_bytes(size_t n)
{
    return 3 * n * n * sizeof(float) + 4 * n * sizeof(float);
}

int losses_open(struct losses *l, struct dev *d, size_t n, struct err *e)
{
    struct loss_room *r = &l->room;
    size_t square;
    *r = (struct loss_room){.d = d, .n = n};
    if (!mem_mul(n, n, &square) || !mem_mul(square, sizeof(float), &square))
        return err_set(e, "a batch of %zu is too large", n);
    if (!(r->logits = d->op->alloc(d, square, e)) || !(r->teacher = d->op->alloc(d, square, e)) ||
        !(r->grad = d->op->alloc(d, square, e)) ||
        !(r->row = d->op->alloc(d, n * sizeof(float), e)) ||
        !(r->row2 = d->op->alloc(d, n * sizeof(float), e)) ||
        !(r->diagonal = d->op->alloc(d, n * sizeof(int32_t), e)) ||
        !(r->host = mem_alloc(n, sizeof(float), e))) {
        losses_close(l);
        return -1;
    }
    int32_t *number = (int32_t *)(void *)r->host; // the same size, not in use yet
    for (size_t i = 0; i < n; i++)
        number[i] = (int32_t)i;
    d->op->upload(d, r->diagonal, number, n * sizeof *number);
    return d->op->sync(d, e);
}

void losses_close(struct losses *l)
{
    struct loss_room *r = &l->room;
    if (!r->d)
        return;
    void *dev[] = {r->logits, r->teacher, r->grad, r->row, r->row2, r->diagonal};
    for (size_t i = 0; i < sizeof dev / sizeof *dev; i++)
        if (dev[i])
            r->d->op->free(r->d, dev[i]);
    free(r->host);
    memset(r, 0, sizeof *r);
}

int losses_run(struct losses *l, const struct loss_batch *b, struct loss_grads *g, double *total,
               struct err *e)
{
    struct loss_run r = {&l->room, b, g};
    *total = 0;
    if (b->w)
        cluster_head_begin(b->w);
    for (size_t i = 0; loss_kinds[i].name; i++) {
        l->value[i] = 0;
        if (!(l->weight[i] > 0))
            continue;
        if (loss_kinds[i].run(&r, l->weight[i], &l->value[i], e))
            return err_wrap(e, "%s loss", loss_kinds[i].name);
        *total += (double)l->weight[i] * l->value[i];
    }
    if (b->w && b->w->ready)
        cluster_head_finish(b->w, b->n, b->pv, g->dpv);
    return 0;
}

int loss_row_sum(struct loss_run *r, const float *row, size_t n, double *sum, struct err *e)
{
    struct dev *d = r->room->d;
    if (d->op->download(d, r->room->host, row, n * sizeof *row, e))
        return -1;
    *sum = 0;
    for (size_t i = 0; i < n; i++)
        *sum += (double)r->room->host[i];
    return 0;
}

int loss_contrast(struct loss_run *r, size_t dim, const float *a, const float *b, float *da,
                  float *db, double part, float weight, double *value, struct err *e)
{
    struct loss_room *m = r->room;
    struct dev *d = m->d;
    size_t n = r->b->n;
    float s = r->b->scale;
    double sum;
    d->op->gemm(d, false, true, n, n, dim, s, a, dim, b, dim, 0, m->logits, n);
    d->op->softmax_ce(d, n, n, m->logits, n, m->diagonal,
                      (float)(part * (double)weight / (double)n), m->grad, m->row);
    if (loss_row_sum(r, m->row, n, &sum, e))
        return -1;
    *value += part * sum / (double)n;
    // L = s a.b, so d/d logit_scale = sum G L
    r->g->dscale += d->op->dot(d, n * n, m->grad, m->logits);
    if (da)
        d->op->gemm(d, false, false, n, dim, n, s, m->grad, n, b, dim, 1, da, dim);
    if (db)
        d->op->gemm(d, true, false, n, dim, n, s, m->grad, n, a, dim, 1, db, dim);
    return 0;
}
