// SPDX-License-Identifier: Apache-2.0
// clip = 1/2 [ CE(s v t^T) + CE(s t v^T) ] (Radford et al., ICML 2021)
#include "losses/loss-terms.h"

int loss_clip(struct loss_run *r, float weight, struct err *e)
{
    const struct loss_batch *b = r->b;
    return loss_pair(r, b->dim, b->v, b->t, r->g->dv, r->g->dt, 0.5, weight, e);
}
