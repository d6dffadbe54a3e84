// SPDX-License-Identifier: Apache-2.0
// feature = mean over elements (v - V)^2 + mean over elements (t - T)^2 (CLIP-KD, CVPR 2024)
#include "losses/loss-terms.h"

// |x - X|^2 = x.x - 2 x.X + X.X in float64; the gradient of its mean is 2 (x - X) / N.
static void tower(struct loss_run *r, const float *x, const float *target, float *dx, float weight)
{
    struct dev *d = r->room->d;
    size_t dim = r->b->dim_t, n = r->b->n * dim;
    float g = 2 * weight / (float)n;
    struct loss_part *p = loss_part(r, (double)n);
    size_t own = loss_part_sum(r, p, 1), both = loss_part_sum(r, p, -2),
           theirs = loss_part_sum(r, p, 1);
    for (struct loss_span s = {0}; loss_next(r, &s);) {
        const float *a = x + s.at * dim, *b = target + s.at * dim;
        size_t m = s.n * dim;
        loss_sum_add(r, own, s.part, s.begins, m, a, a);
        loss_sum_add(r, both, s.part, s.begins, m, a, b);
        loss_sum_add(r, theirs, s.part, s.begins, m, b, b);
        d->op->axpy(d, m, g, a, dx + s.at * dim);
        d->op->axpy(d, m, -g, b, dx + s.at * dim);
    }
}

int loss_feature(struct loss_run *r, float weight, struct err *e)
{
    const struct loss_batch *b = r->b;
    (void)e;
    if (b->pv)
        tower(r, b->pv, b->tv, r->g->dpv, weight);
    if (b->pt)
        tower(r, b->pt, b->tt, r->g->dpt, weight);
    return 0;
}
