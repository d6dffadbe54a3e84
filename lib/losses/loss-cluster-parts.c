// SPDX-License-Identifier: Apache-2.0
// The cluster terms where the classes are in parts: each part of them sees all rows of the batch.
// First the sums of the logits of each part are made, and from those of all parts the sums over all
// classes; then a part can make the gradient by its own classes whole. The gradient by the rows is
// summed over parts in a tree (part-sum.h). Terms as in loss-cluster.c.
#include <math.h>

#include "losses/loss-terms.h"
#include "losses/ranks.h"

struct class_run {
    struct loss_run *r;
    struct cluster_head *h;
    float ce, kl, soft;       // weights
    size_t n, parts;          // rows of the batch, parts of the classes
    size_t ce_sum, kl_sum[2]; // sums of the values: the first label's; cross, entropy
    size_t soft_sum[2];       // the first label's; picked logits
    // The block in work: part, its classes' places in the sample, rows.
    size_t q, first, cols, at, rows;
};

// Vector k of the row sums of a block: first one for each label, then the student's, then the
// teacher's.
static float *sums_at(const struct class_run *c, size_t k)
{
    return c->h->sums + (k * c->parts + c->q) * c->n + c->at;
}

static float *whole_at(const struct class_run *c, size_t k)
{
    return c->h->whole + k * c->n + c->at;
}

// Moves on to the next block of the part; false if there is none.
static bool next_block(struct class_run *c)
{
    c->at += c->rows;
    c->rows = c->n - c->at < c->h->n_block ? c->n - c->at : c->h->n_block;
    return c->cols && c->at < c->n;
}

static void begin_part(struct class_run *c, size_t q)
{
    size_t own = q - c->h->part0;
    c->q = q;
    c->first = c->h->begin[own];
    c->cols = c->h->begin[own + 1] - c->first;
    c->at = c->rows = 0;
}

static void product(const struct class_run *c, const float *x, float scale, float *to)
{
    struct cluster_head *h = c->h;
    h->d->op->gemm(h->d, false, true, c->rows, c->cols, h->dim, scale, x + c->at * h->dim, h->dim,
                   h->unit + c->first * h->dim, h->dim, 0, to, c->cols);
}

// Places of label l in the part.
static void targets(const struct class_run *c, size_t l)
{
    struct cluster_head *h = c->h;
    const int32_t *place = h->target_host + l * c->n + c->at;
    for (size_t i = 0; i < c->rows; i++) {
        size_t at = (size_t)place[i] - h->drawn0 - c->first; // far above, where it is below
        h->block_host[i] = at < c->cols ? (int32_t)at : -1;
    }
    h->d->op->upload(h->d, h->target, h->block_host, c->rows * sizeof *h->block_host);
}

// Computes the logits of the cross entropy for label l.
static void ce_logits(const struct class_run *c, size_t l)
{
    struct cluster_head *h = c->h;
    const struct cluster_set *set = &h->set;
    targets(c, l);
    h->d->op->margin_filter(h->d, c->rows, c->cols, h->cosine, c->cols, h->target, set->sigma,
                            set->margin, set->filter < 1 ? set->filter : 2, h->logits);
    cluster_head_prior(h, c->rows, c->first, c->cols, h->logits);
}

static void student_logits(const struct class_run *c)
{
    struct cluster_head *h = c->h;
    size_t n = c->rows * c->cols;
    h->d->op->copy(h->d, h->logits, h->cosine, n * sizeof(float));
    h->d->op->scale(h->d, n, h->set.sigma, h->logits);
}

static void teacher_logits(const struct class_run *c)
{
    product(c, c->r->b->tv, c->h->set.sigma, c->h->teacher);
}

static void part_sums(struct class_run *c)
{
    struct cluster_head *h = c->h;
    struct dev *d = h->d;
    size_t kl = h->n_label;
    while (next_block(c)) {
        product(c, c->r->b->pv, 1, h->cosine);
        for (size_t l = 0; c->ce > 0 && l < h->n_label; l++) {
            ce_logits(c, l);
            d->op->row_lse(d, c->rows, c->cols, h->logits, c->cols, sums_at(c, l));
        }
        if (c->kl <= 0 && c->soft <= 0)
            continue;
        student_logits(c);
        d->op->row_lse(d, c->rows, c->cols, h->logits, c->cols, sums_at(c, kl));
        if (c->kl <= 0)
            continue;
        teacher_logits(c);
        d->op->row_lse(d, c->rows, c->cols, h->teacher, c->cols, sums_at(c, kl + 1));
    }
}

// A part without a class in the sample adds nothing.
static void no_sums(struct class_run *c)
{
    float *none = c->r->room->host;
    for (size_t i = 0; i < c->n; i++)
        none[i] = -INFINITY;
    c->at = 0;
    for (size_t k = 0; k < c->h->n_label + 2; k++)
        c->h->d->op->upload(c->h->d, sums_at(c, k), none, c->n * sizeof *none);
}

static void make_turn(struct class_run *c)
{
    struct cluster_head *h = c->h;
    if (h->turn_n == c->n)
        return;
    for (size_t i = 0; i < c->n; i++)
        for (size_t q = 0; q < c->parts; q++)
            h->turn_host[i * c->parts + q] = (int32_t)(q * c->n + i);
    h->d->op->upload(h->d, h->turn, h->turn_host, c->n * c->parts * sizeof *h->turn_host);
    h->turn_n = c->n;
}

// Makes the sums over all classes from the parts' sums, in the order of the parts.
static int whole_sums(struct class_run *c, struct err *e)
{
    struct cluster_head *h = c->h;
    struct dev *d = h->d;
    make_turn(c);
    for (size_t k = 0; k < h->n_label + 2; k++) {
        if (k < h->n_label ? c->ce <= 0 : k == h->n_label ? c->kl <= 0 && c->soft <= 0 : c->kl <= 0)
            continue;
        float *sums = h->sums + k * c->parts * c->n;
        if (ranks_gather(d, h->set.comm, "sums of clusters", sums, h->own * c->n * sizeof *sums, e))
            return -1;
        d->op->gather(d, c->n * c->parts, 1, sums, 1, h->turn, h->turned);
        d->op->row_lse(d, c->n, c->parts, h->turned, c->parts, h->whole + k * c->n);
    }
    return 0;
}

static void ce_block(struct class_run *c)
{
    struct cluster_head *h = c->h;
    struct dev *d = h->d;
    struct dev_given j = {.logits = h->logits, .grad = h->logits, .ld = c->cols, .loss = h->loss};
    j.weight = c->ce * h->set.sigma / (float)(c->n * h->n_label);
    j.target = h->target;
    for (size_t l = 0; l < h->n_label; l++) {
        ce_logits(c, l);
        j.lse = whole_at(c, l);
        d->op->given_ce(d, c->rows, c->cols, &j);
        loss_sum_add(c->r, c->ce_sum + l, c->q, !c->at, c->rows, h->loss, NULL);
        d->op->axpy(d, c->rows * c->cols, 1, h->logits, h->grad);
    }
}

static void soft_block(struct class_run *c)
{
    struct cluster_head *h = c->h;
    struct dev *d = h->d;
    struct dev_given j = {.logits = h->logits, .grad = h->logits, .ld = c->cols, .loss = h->loss};
    struct loss_soft_block k = {.at = c->at, .n = c->rows, .first = c->first, .cols = c->cols};
    j.weight = c->soft * h->set.sigma / (float)c->n;
    j.lse = whole_at(c, h->n_label);
    j.target = h->target;
    targets(c, 0);
    student_logits(c);
    loss_soft_pick(c->r, &k);
    d->op->given_ce(d, c->rows, c->cols, &j);
    loss_sum_add(c->r, c->soft_sum[0], c->q, !c->at, c->rows, h->loss, NULL);
    loss_soft_add(c->r, &k, j.weight, c->soft_sum[1], c->q, !c->at);
    d->op->axpy(d, c->rows * c->cols, 1, h->logits, h->grad);
}

static void kl_block(struct class_run *c)
{
    struct cluster_head *h = c->h;
    struct dev *d = h->d;
    struct dev_given j = {.logits = h->logits, .grad = h->logits, .ld = c->cols, .loss = h->loss};
    j.weight = c->kl * h->set.sigma / (float)c->n;
    j.entropy = h->loss2;
    j.lse = whole_at(c, h->n_label);
    j.teacher = h->teacher;
    j.teacher_ld = c->cols;
    j.teacher_lse = whole_at(c, h->n_label + 1);
    student_logits(c);
    teacher_logits(c);
    d->op->given_ce(d, c->rows, c->cols, &j);
    loss_sum_add(c->r, c->kl_sum[0], c->q, !c->at, c->rows, h->loss, NULL);
    loss_sum_add(c->r, c->kl_sum[1], c->q, !c->at, c->rows, h->loss2, NULL);
    d->op->axpy(d, c->rows * c->cols, 1, h->logits, h->grad);
}

// Computes the gradients by the part's classes, and the part's summand of those by the rows.
static void part_gradients(struct class_run *c)
{
    struct cluster_head *h = c->h;
    struct dev *d = h->d;
    size_t dim = h->dim;
    d->op->zero(d, h->part_dv, c->n * dim * sizeof(float));
    while (next_block(c)) {
        const float *v = c->r->b->pv + c->at * dim;
        product(c, c->r->b->pv, 1, h->cosine);
        d->op->zero(d, h->grad, c->rows * c->cols * sizeof(float));
        if (c->ce > 0)
            ce_block(c);
        if (c->kl > 0)
            kl_block(c);
        if (c->soft > 0)
            soft_block(c);
        d->op->gemm(d, false, false, c->rows, dim, c->cols, 1, h->grad, c->cols,
                    h->unit + c->first * dim, dim, 0, h->part_dv + c->at * dim, dim);
        if (!h->set.frozen)
            d->op->gemm(d, true, false, c->cols, dim, c->rows, 1, h->grad, c->cols, v, dim,
                        c->at ? 1 : 0, h->dw + c->first * dim, dim);
    }
}

// Sums of the values, weighted as in loss-cluster.c.
static void values(struct class_run *c, const struct loss_cluster_terms *t)
{
    size_t term = c->r->term, all = c->h->n_label;
    c->r->term = t->ce;
    for (size_t l = 0; c->ce > 0 && l < all; l++) {
        size_t sum = loss_part_sum(c->r, loss_part(c->r, (double)(c->n * all)), 1);
        c->ce_sum = l ? c->ce_sum : sum;
    }
    c->r->term = t->kl;
    if (c->kl > 0) {
        struct loss_part *p = loss_part(c->r, (double)c->n);
        c->kl_sum[0] = loss_part_sum(c->r, p, 1);
        c->kl_sum[1] = loss_part_sum(c->r, p, -1);
    }
    c->r->term = t->soft;
    if (c->soft > 0) {
        struct loss_part *p = loss_part(c->r, (double)c->n);
        c->soft_sum[0] = loss_part_sum(c->r, p, 1);
        c->soft_sum[1] = loss_part_sum(c->r, p, 1);
    }
    c->r->term = term;
}

// The gradient by this rank's rows, summed over all classes.
static int add_rows(struct class_run *c, struct err *e)
{
    struct cluster_head *h = c->h;
    size_t all = c->n * h->dim, size = ranks_size(h->set.comm);
    size_t first = all / size * ranks_rank(h->set.comm);
    if (ranks_sum(h->d, h->set.comm, "gradients of clusters", h->part_dv, all, true, e))
        return -1;
    h->d->op->axpy(h->d, all / size, 1, h->part_dv + first, c->r->g->dpv + first);
    return c->r->room->overrun ? err_set(e, "more sums than their rows of the table have") : 0;
}

int loss_cluster_parts(struct loss_run *r, const struct loss_cluster_terms *t, const float weight[],
                       struct err *e)
{
    struct cluster_head *h = r->b->w;
    struct class_run c = {.r = r, .h = h, .ce = weight[t->ce], .kl = weight[t->kl]};
    c.soft = weight[t->soft];
    c.n = r->b->n;
    c.parts = h->parts;
    if (c.parts != r->room->parts)
        return err_set(e, "classes in %zu parts, losses in %zu", c.parts, r->room->parts);
    size_t end = h->part0 + h->own;
    values(&c, t);
    for (size_t q = h->part0; q < end; q++) {
        begin_part(&c, q);
        if (!c.cols)
            no_sums(&c);
        part_sums(&c);
    }
    if (whole_sums(&c, e))
        return -1;
    for (size_t q = h->part0; q < end; q++) {
        begin_part(&c, q);
        part_gradients(&c);
        part_sum_take(&h->dv, h->part_dv, q + 1 == end);
    }
    return add_rows(&c, e);
}
