// SPDX-License-Identifier: Apache-2.0
// affinity = 1/2 [ soft-CE of the rows of s v t^T against softmax rows of s V T^T, and the same
// transposed ]. The teacher's side is a constant, s in it too (open_clip's distillation loss;
// TinyCLIP, ICCV 2023).
#include "losses/loss-terms.h"

static void half(struct loss_run *r, bool transposed, float weight)
{
    const struct loss_batch *b = r->b;
    struct loss_room *m = r->room;
    struct dev *d = m->d;
    size_t n = b->n;
    const float *x = transposed ? b->t : b->v, *y = transposed ? b->v : b->t;
    const float *tx = transposed ? b->tt : b->tv, *ty = transposed ? b->tv : b->tt;
    float *dx = transposed ? r->g->dt : r->g->dv, *dy = transposed ? r->g->dv : r->g->dt;
    size_t by_scale = loss_by_scale(r), dim = b->dim, dim_t = b->dim_t;
    float *row = loss_part_row(r, loss_part(r, 2 * (double)n), 1), s = b->scale;
    for (size_t at = 0; at < n; at += m->n_block) {
        size_t k = n - at < m->n_block ? n - at : m->n_block;
        const float *xs = x + at * dim;
        d->op->gemm(d, false, true, k, n, dim, s, xs, dim, y, dim, 0, m->logits, n);
        d->op->gemm(d, false, true, k, n, dim_t, s, tx + at * dim_t, dim_t, ty, dim_t, 0,
                    m->teacher, n);
        d->op->softmax_soft_ce(d, k, n, m->logits, n, m->teacher, n, weight / (2 * (float)n),
                               m->grad, row + at, NULL);
        loss_sum_add(r, by_scale, !at, k * n, m->grad, m->logits);
        d->op->gemm(d, false, false, k, dim, n, s, m->grad, n, y, dim, 1, dx + at * dim, dim);
        d->op->gemm(d, true, false, n, dim, k, s, m->grad, n, xs, dim, 1, dy, dim);
    }
}

int loss_affinity(struct loss_run *r, float weight, struct err *e)
{
    (void)e;
    half(r, false, weight);
    half(r, true, weight);
    return 0;
}
