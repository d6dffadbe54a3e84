// SPDX-License-Identifier: Apache-2.0
// instance = 1/4 [ CE(s t V^T) + CE(s V t^T) + CE(s v T^T) + CE(s T v^T) ]
#include "losses/loss-terms.h"

int loss_instance(struct loss_run *r, float weight, struct err *e)
{
    const struct loss_batch *b = r->b;
    struct loss_grads *g = r->g;
    size_t dim = b->dim_t;
    return (b->pt && loss_pair(r, dim, b->pt, b->tv, g->dpt, NULL, 0.25, weight, e)) ||
                   (b->pv && loss_pair(r, dim, b->pv, b->tt, g->dpv, NULL, 0.25, weight, e))
               ? -1
               : 0;
}
