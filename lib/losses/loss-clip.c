// SPDX-License-Identifier: Apache-2.0
// clip = 1/2 [ CE(s v t^T) + CE(s t v^T) ] (Radford et al., ICML 2021)
#include "losses/loss-terms.h"

int loss_clip(struct loss_run *r, float weight, struct err *e)
{
    const struct loss_batch *b = r->b;
    struct loss_grads *g = r->g;
    (void)e;
    loss_contrast(r, b->dim, b->v, b->t, g->dv, g->dt, 0.5, weight);
    loss_contrast(r, b->dim, b->t, b->v, g->dt, g->dv, 0.5, weight);
    return 0;
}
