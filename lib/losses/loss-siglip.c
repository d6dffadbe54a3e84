// SPDX-License-Identifier: Apache-2.0
// siglip = -1/B sum_ij log sigmoid( z_ij (s v_i.t_j + b) ), z = +1 on the diagonal, -1 off it (Zhai
// et al., ICCV 2023)
#include "losses/loss-terms.h"

// The pair of a row stands on the diagonal for sigmoid_ce. So a block of rows from `at` has its
// columns in the order at, at + 1 ... n - 1, 0 ... at - 1: two products each.
static void block(struct loss_run *r, size_t at, size_t k, float weight, float *row)
{
    const struct loss_batch *b = r->b;
    struct loss_room *m = r->room;
    struct dev *d = m->d;
    size_t n = b->n, dim = b->dim;
    const float *v = b->v + at * dim;
    const size_t first[2] = {at, 0}, count[2] = {n - at, at}, col[2] = {0, n - at};
    // Every logit starts as b: the product of a column of b and a row of ones, then s v t^T.
    d->op->gemm(d, false, true, k, n, 1, 1, m->row, 1, m->row2, 1, 0, m->logits, n);
    for (int i = 0; i < 2 && count[i]; i++)
        d->op->gemm(d, false, true, k, count[i], dim, b->scale, v, dim, b->t + first[i] * dim, dim,
                    1, m->logits + col[i], n);
    d->op->sigmoid_ce(d, k, n, m->logits, n, weight / (float)n, m->grad, row + at);
    for (int i = 0; i < 2 && count[i]; i++) {
        d->op->gemm(d, false, false, k, dim, count[i], b->scale, m->grad + col[i], n,
                    b->t + first[i] * dim, dim, 1, r->g->dv + at * dim, dim);
        d->op->gemm(d, true, false, count[i], dim, k, b->scale, m->grad + col[i], n, v, dim, 1,
                    r->g->dt + first[i] * dim, dim);
    }
}

int loss_siglip(struct loss_run *r, float weight, struct err *e)
{
    const struct loss_batch *b = r->b;
    struct loss_room *m = r->room;
    struct dev *d = m->d;
    size_t n = b->n;
    float *row = loss_part_row(r, loss_part(r, (double)n), 1);
    (void)e;
    for (size_t i = 0; i < n; i++)
        m->host[i] = b->bias;
    d->op->upload(d, m->row, m->host, n * sizeof *m->host);
    for (size_t i = 0; i < n; i++)
        m->host[i] = 1;
    d->op->upload(d, m->row2, m->host, n * sizeof *m->host);
    // The logits are s v.t + b: d/d logit_scale = sum G (L - b)
    size_t by_bias = loss_sum(r), by_scale = loss_by_scale(r);
    m->by_bias[by_bias] = 1;
    m->by_scale[by_bias] = -(double)b->bias;
    for (size_t at = 0; at < n; at += m->n_block) {
        size_t k = n - at < m->n_block ? n - at : m->n_block;
        block(r, at, k, weight, row);
        loss_sum_add(r, by_bias, !at, k * n, m->grad, NULL);
        loss_sum_add(r, by_scale, !at, k * n, m->grad, m->logits);
    }
    return 0;
}
