// SPDX-License-Identifier: Apache-2.0
// siglip = -1/B sum_ij log sigmoid( z_ij (s v_i.t_j + b) ), z = +1 on the diagonal, -1 off it (Zhai
// et al., ICCV 2023)
#include "losses.h"

int loss_siglip(struct loss_run *r, float weight, struct err *e)
{
    const struct loss_batch *b = r->b;
    struct loss_room *m = r->room;
    struct dev *d = m->d;
    size_t n = b->n, dim = b->dim;
    float *row = loss_part_row(r, loss_part(r, (double)n), 1);
    (void)e;
    // Every logit starts as b: the product of a column of b and a row of ones, then s v t^T.
    for (size_t i = 0; i < n; i++)
        m->host[i] = b->bias;
    d->op->upload(d, m->row, m->host, n * sizeof *m->host);
    for (size_t i = 0; i < n; i++)
        m->host[i] = 1;
    d->op->upload(d, m->row2, m->host, n * sizeof *m->host);
    d->op->gemm(d, false, true, n, n, 1, 1, m->row, 1, m->row2, 1, 0, m->logits, n);
    d->op->gemm(d, false, true, n, n, dim, b->scale, b->v, dim, b->t, dim, 1, m->logits, n);
    d->op->sigmoid_ce(d, n, n, m->logits, n, weight / (float)n, m->grad, row);
    // The logits are s v.t + b: d/d logit_scale = sum G (L - b)
    size_t db = loss_sum(r, n * n, m->grad, NULL);
    m->by_bias[db] = 1;
    m->by_scale[db] = -(double)b->bias;
    loss_by_scale(r, m->grad, m->logits);
    d->op->gemm(d, false, false, n, dim, n, b->scale, m->grad, n, b->t, dim, 1, r->g->dv, dim);
    d->op->gemm(d, true, false, n, dim, n, b->scale, m->grad, n, b->v, dim, 1, r->g->dt, dim);
    return 0;
}
