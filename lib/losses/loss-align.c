// SPDX-License-Identifier: Apache-2.0
// align = 1 - 1/B sum_i v_i.t_i: positives alone (Chen et al., arXiv 2310.00927, regularise the
// similarity of pairs). dv_i = -t_i / B. By itself it draws all rows to one point: it goes with a
// term that keeps others apart.
#include "losses/loss-terms.h"

int loss_align(struct loss_run *r, float weight, struct err *e)
{
    const struct loss_batch *b = r->b;
    struct dev *d = r->room->d;
    size_t dim = b->dim;
    struct loss_part *p = loss_part(r, (double)b->n);
    size_t sum = loss_part_sum(r, p, -1);
    float each = -weight / (float)b->n;
    (void)e;
    p->plus = 1;
    for (struct loss_span s = {0}; loss_next(r, &s);) {
        size_t at = s.at * dim, m = s.n * dim;
        loss_sum_add(r, sum, s.part, s.begins, m, b->v + at, b->t + at);
        d->op->axpy(d, m, each, b->t + at, r->g->dv + at);
        d->op->axpy(d, m, each, b->v + at, r->g->dt + at);
    }
    return 0;
}
