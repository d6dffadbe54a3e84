// SPDX-License-Identifier: Apache-2.0
// What a term leaves for its value: parts, rows and sums; and the contrast that several terms
// share.
#include "losses/loss-terms.h"
#include "losses/ranks.h"

bool loss_next(const struct loss_run *r, struct loss_span *s)
{
    const struct loss_room *m = r->room;
    size_t at = s->n ? s->at + s->n : m->part0 * r->part, part = at / r->part, end = r->b->n;
    if (at >= end || part >= m->part0 + m->own)
        return false;
    end = end < (part + 1) * r->part ? end : (part + 1) * r->part;
    s->begins = at % r->part == 0;
    s->part = part;
    s->at = at;
    s->n = end - at < m->n_block ? end - at : m->n_block;
    return true;
}

int loss_gather_sums(const struct loss_run *r, size_t n, struct err *e)
{
    const struct loss_room *m = r->room;
    for (size_t k = 0; k < n; k++)
        if (ranks_gather(m->d, m->comm, "sums of rows", m->lse[k], m->own * r->part * sizeof(float),
                         e))
            return -1;
    return 0;
}

float *loss_matrix(const struct loss_run *r, const struct loss_span *s, size_t k)
{
    const struct loss_room *m = r->room;
    return m->mat[k % m->n_mat] + (m->kept ? (s->at - m->part0 * r->part) * r->b->n : 0);
}

void loss_logits(const struct loss_run *r, const struct loss_span *s, size_t k, size_t dim,
                 float scale, const float *x, const float *y)
{
    struct dev *d = r->room->d;
    size_t n = r->b->n;
    d->op->gemm(d, false, true, s->n, n, dim, scale, x + s->at * dim, dim, y, dim, 0,
                loss_matrix(r, s, k), n);
}

void loss_sums(const struct loss_run *r, const struct loss_span *s, size_t k, size_t dim,
               const float *x, const float *y)
{
    struct dev *d = r->room->d;
    loss_logits(r, s, k, dim, r->b->scale, x, y);
    d->op->row_lse(d, s->n, r->b->n, loss_matrix(r, s, k), r->b->n, r->room->lse[k] + s->at);
}

struct loss_part *loss_part(struct loss_run *r, double den)
{
    struct loss_room *m = r->room;
    if (m->n_of == m->max_rows + m->max_sums) {
        m->overrun = true;
        m->n_of--;
    }
    struct loss_part *p = &m->of[m->n_of++];
    *p = (struct loss_part){.term = r->term, .den = den};
    return p;
}

float *loss_part_row(struct loss_run *r, struct loss_part *p, double weight)
{
    struct loss_room *m = r->room;
    if (m->n_rows == m->max_rows || p->n == LOSS_PART_SUMS) {
        m->overrun = true;
        return m->row;
    }
    p->s[p->n].weight = weight;
    p->s[p->n].row = true;
    p->s[p->n++].at = m->n_rows;
    return m->rows + m->n_rows++ * m->batch + r->at;
}

size_t loss_part_sum(struct loss_run *r, struct loss_part *p, double weight)
{
    size_t sum = loss_sum(r);
    if (p->n == LOSS_PART_SUMS) {
        r->room->overrun = true;
        return sum;
    }
    p->s[p->n].weight = weight;
    p->s[p->n].row = false;
    p->s[p->n++].at = sum;
    return sum;
}

size_t loss_sum(struct loss_run *r)
{
    struct loss_room *m = r->room;
    if (m->n_sums < m->max_sums)
        return m->n_sums++;
    m->overrun = true;
    return 0;
}

void loss_sum_add(struct loss_run *r, size_t sum, size_t part, bool begins, size_t n,
                  const float *x, const float *y)
{
    struct loss_room *m = r->room;
    double *to = m->sums + part * m->max_sums + sum;
    (begins ? m->d->op->dot_to : m->d->op->dot_add)(m->d, n, x, y, to);
}

size_t loss_by_scale(struct loss_run *r)
{
    size_t sum = loss_sum(r);
    r->room->by_scale[sum] = 1;
    return sum;
}

// With the sums of all rows of both products known, x_i meets its own row of s X Y^T and the
// columns of s Y X^T: da_i = s sum_j G_ij y_j, G_ij = w (exp(x_ij - lse_i) + exp(x_ij - other_j) -
// 2 [i = j]). Products: 4 for both sides, 3 for one.
struct pair_side {
    size_t k; // number of its matrix and its sums
    const float *x, *y;
    float *dx;
};

static void pair_gradients(struct loss_run *r, const struct pair_side *p, size_t dim, float weight,
                           float *row, size_t by_scale)
{
    struct loss_room *m = r->room;
    struct dev *d = m->d;
    size_t n = r->b->n;
    for (struct loss_span s = {0}; loss_next(r, &s);) {
        if (!m->kept)
            loss_logits(r, &s, p->k, dim, r->b->scale, p->x, p->y);
        float *g = loss_matrix(r, &s, p->k);
        struct dev_given j = {.logits = g, .grad = g, .ld = n, .weight = weight};
        j.lse = m->lse[p->k] + s.at;
        j.other = m->lse[!p->k];
        j.target = m->diagonal + s.at;
        j.loss = row ? row + s.at : NULL;
        j.slope = row ? m->row + s.at : NULL;
        d->op->given_ce(d, s.n, n, &j);
        if (row)
            loss_sum_add(r, by_scale, s.part, s.begins, s.n, j.slope, NULL);
        d->op->gemm(d, false, false, s.n, dim, n, r->b->scale, g, n, p->y, dim, 1,
                    p->dx + s.at * dim, dim);
    }
}

int loss_pair(struct loss_run *r, size_t dim, const float *a, const float *b, float *da, float *db,
              double part, float weight, struct err *e)
{
    size_t n = r->b->n, by_scale = loss_by_scale(r);
    float *row = loss_part_row(r, loss_part(r, (double)n), part);
    float each = (float)(part * (double)weight / (double)n);
    for (struct loss_span s = {0}; loss_next(r, &s);) {
        loss_sums(r, &s, 1, dim, b, a);
        loss_sums(r, &s, 0, dim, a, b);
    }
    if (loss_gather_sums(r, 2, e))
        return -1;
    pair_gradients(r, &(struct pair_side){0, a, b, da}, dim, each, row, by_scale);
    if (db)
        pair_gradients(r, &(struct pair_side){1, b, a, db}, dim, each, NULL, 0);
    return 0;
}
