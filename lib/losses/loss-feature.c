// SPDX-License-Identifier: Apache-2.0
// feature = mean over elements (v - V)^2 + mean over elements (t - T)^2 (CLIP-KD, CVPR 2024)
#include "losses/loss-terms.h"

// |x - X|^2 = x.x - 2 x.X + X.X in float64; the gradient of its mean is 2 (x - X) / N.
static void tower(struct loss_run *r, const float *x, const float *target, float *dx, float weight)
{
    struct dev *d = r->room->d;
    size_t n = r->b->n * r->b->dim_t;
    float g = 2 * weight / (float)n;
    struct loss_part *p = loss_part(r, (double)n);
    loss_part_dot(r, p, 1, n, x, x);
    loss_part_dot(r, p, -2, n, x, target);
    loss_part_dot(r, p, 1, n, target, target);
    d->op->axpy(d, n, g, x, dx);
    d->op->axpy(d, n, -g, target, dx);
}

int loss_feature(struct loss_run *r, float weight, struct err *e)
{
    const struct loss_batch *b = r->b;
    (void)e;
    tower(r, b->pv, b->tv, r->g->dpv, weight);
    tower(r, b->pt, b->tt, r->g->dpt, weight);
    return 0;
}
