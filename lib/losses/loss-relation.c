// SPDX-License-Identifier: Apache-2.0
// relation = 1/(2B) [ sum_ij (v_i.v_j - V_i.V_j)^2 + sum_ij (t_i.t_j - T_i.T_j)^2 ]: the student's
// similarities within each modality are the teacher's (CyCLIP, NeurIPS 2022, and CLIP-RD relate
// within a modality; this form is ours). Of any two widths; 0 for a teacher that is only rotated.
// dv = 2/B (v v^T - V V^T) v.
#include "losses/loss-terms.h"

static void tower(struct loss_run *r, const float *x, const float *target, float *dx, float weight)
{
    const struct loss_batch *b = r->b;
    struct dev *d = r->room->d;
    size_t n = b->n, dim = b->dim, dim_t = b->dim_t;
    size_t sum = loss_part_sum(r, loss_part(r, 2 * (double)n), 1);
    for (struct loss_span s = {0}; loss_next(r, &s);) {
        float *g = loss_matrix(r, &s, 0);
        d->op->gemm(d, false, true, s.n, n, dim, 1, x + s.at * dim, dim, x, dim, 0, g, n);
        d->op->gemm(d, false, true, s.n, n, dim_t, -1, target + s.at * dim_t, dim_t, target, dim_t,
                    1, g, n);
        loss_sum_add(r, sum, s.part, s.begins, s.n * n, g, g);
        d->op->gemm(d, false, false, s.n, dim, n, 2 * weight / (float)n, g, n, x, dim, 1,
                    dx + s.at * dim, dim);
    }
}

int loss_relation(struct loss_run *r, float weight, struct err *e)
{
    const struct loss_batch *b = r->b;
    (void)e;
    if (b->v)
        tower(r, b->v, b->tv, r->g->dv, weight);
    if (b->t)
        tower(r, b->t, b->tt, r->g->dt, weight);
    return 0;
}
