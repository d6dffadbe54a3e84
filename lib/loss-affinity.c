// SPDX-License-Identifier: Apache-2.0
// affinity = 1/2 [ soft-CE of the rows of s v t^T against softmax rows of s V T^T, and the same
// transposed ]. The teacher's side is a constant, s in it too (open_clip's distillation loss;
// TinyCLIP, ICCV 2023).
#include "losses.h"

static void half(struct loss_run *r, bool transposed, float weight)
{
    const struct loss_batch *b = r->b;
    struct loss_room *m = r->room;
    struct dev *d = m->d;
    size_t n = b->n;
    const float *x = transposed ? b->t : b->v, *y = transposed ? b->v : b->t;
    const float *tx = transposed ? b->tt : b->tv, *ty = transposed ? b->tv : b->tt;
    float *dx = transposed ? r->g->dt : r->g->dv, *dy = transposed ? r->g->dv : r->g->dt;
    float *row = loss_part_row(r, loss_part(r, 2 * (double)n), 1);
    d->op->gemm(d, false, true, n, n, b->dim, b->scale, x, b->dim, y, b->dim, 0, m->logits, n);
    d->op->gemm(d, false, true, n, n, b->dim_t, b->scale, tx, b->dim_t, ty, b->dim_t, 0, m->teacher,
                n);
    d->op->softmax_soft_ce(d, n, n, m->logits, n, m->teacher, n, weight / (2 * (float)n), m->grad,
                           row, NULL);
    loss_by_scale(r, m->grad, m->logits);
    d->op->gemm(d, false, false, n, b->dim, n, b->scale, m->grad, n, y, b->dim, 1, dx, b->dim);
    d->op->gemm(d, true, false, n, b->dim, n, b->scale, m->grad, n, x, b->dim, 1, dy, b->dim);
}

int loss_affinity(struct loss_run *r, float weight, struct err *e)
{
    (void)e;
    half(r, false, weight);
    half(r, true, weight);
    return 0;
}
