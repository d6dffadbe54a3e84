// SPDX-License-Identifier: Apache-2.0
// affinity = 1/2 [ soft-CE of the rows of s v t^T against softmax rows of s V T^T, and the same
// transposed ]. The teacher's side is a constant, s in it too (open_clip's distillation loss;
// TinyCLIP, ICCV 2023).
#include "losses.h"

static int half(struct loss_run *r, bool transposed, float weight, double *value, struct err *e)
{
    const struct loss_batch *b = r->b;
    struct loss_room *m = r->room;
    struct dev *d = m->d;
    size_t n = b->n;
    const float *x = transposed ? b->t : b->v, *y = transposed ? b->v : b->t;
    const float *tx = transposed ? b->tt : b->tv, *ty = transposed ? b->tv : b->tt;
    float *dx = transposed ? r->g->dt : r->g->dv, *dy = transposed ? r->g->dv : r->g->dt;
    double sum;
    d->op->gemm(d, false, true, n, n, b->dim, b->scale, x, b->dim, y, b->dim, 0, m->logits, n);
    d->op->gemm(d, false, true, n, n, b->dim_t, b->scale, tx, b->dim_t, ty, b->dim_t, 0, m->teacher,
                n);
    d->op->softmax_soft_ce(d, n, n, m->logits, n, m->teacher, n, weight / (2 * (float)n), m->grad,
                           m->row, m->row2);
    if (loss_row_sum(r, m->row, n, &sum, e))
        return -1;
    *value += sum / (2 * (double)n);
    r->g->dscale += d->op->dot(d, n * n, m->grad, m->logits);
    d->op->gemm(d, false, false, n, b->dim, n, b->scale, m->grad, n, y, b->dim, 1, dx, b->dim);
    d->op->gemm(d, true, false, n, b->dim, n, b->scale, m->grad, n, x, b->dim, 1, dy, b->dim);
    return 0;
}

int loss_affinity(struct loss_run *r, float weight, double *value, struct err *e)
{
    return half(r, false, weight, value, e) || half(r, true, weight, value, e) ? -1 : 0;
}
