// SPDX-License-Identifier: Apache-2.0
// What a term leaves for its value: parts, rows and sums; and the contrast that several terms
// share.
#include "losses/loss-terms.h"

struct loss_part *loss_part(struct loss_run *r, double den)
{
    struct loss_room *m = r->room;
    if (m->n_parts == m->max_rows + m->max_sums) {
        m->overrun = true;
        m->n_parts--;
    }
    struct loss_part *p = &m->parts[m->n_parts++];
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

void loss_part_dot(struct loss_run *r, struct loss_part *p, double weight, size_t n, const float *x,
                   const float *y)
{
    size_t sum = loss_sum(r);
    loss_sum_add(r, sum, true, n, x, y);
    if (p->n == LOSS_PART_SUMS) {
        r->room->overrun = true;
        return;
    }
    p->s[p->n].weight = weight;
    p->s[p->n].row = false;
    p->s[p->n++].at = sum;
}

size_t loss_sum(struct loss_run *r)
{
    struct loss_room *m = r->room;
    if (m->n_sums < m->max_sums)
        return m->n_sums++;
    m->overrun = true;
    return 0;
}

void loss_sum_add(struct loss_run *r, size_t sum, bool first, size_t n, const float *x,
                  const float *y)
{
    struct loss_room *m = r->room;
    (first ? m->d->op->dot_to : m->d->op->dot_add)(m->d, n, x, y, m->sums + sum);
}

size_t loss_by_scale(struct loss_run *r)
{
    size_t sum = loss_sum(r);
    r->room->by_scale[sum] = 1;
    return sum;
}

void loss_contrast(struct loss_run *r, size_t dim, const float *a, const float *b, float *da,
                   float *db, double part, float weight)
{
    struct loss_room *m = r->room;
    struct dev *d = m->d;
    size_t n = r->b->n, by_scale = loss_by_scale(r);
    float s = r->b->scale, each = (float)(part * (double)weight / (double)n);
    float *row = loss_part_row(r, loss_part(r, (double)n), part);
    for (size_t at = 0; at < n; at += m->n_block) {
        size_t k = n - at < m->n_block ? n - at : m->n_block;
        const float *x = a + at * dim;
        d->op->gemm(d, false, true, k, n, dim, s, x, dim, b, dim, 0, m->logits, n);
        d->op->softmax_ce(d, k, n, m->logits, n, m->diagonal + at, each, m->grad, row + at);
        loss_sum_add(r, by_scale, !at, k * n, m->grad, m->logits);
        if (da)
            d->op->gemm(d, false, false, k, dim, n, s, m->grad, n, b, dim, 1, da + at * dim, dim);
        if (db)
            d->op->gemm(d, true, false, n, dim, k, s, m->grad, n, x, dim, 1, db, dim);
    }
}
