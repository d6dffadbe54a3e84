// SPDX-License-Identifier: Apache-2.0
// cluster_ce = CE of softmax(sigma v W^T) against the labels; with several labels a sample, the
// mean of the losses for each. cluster_kl = mean of KL( softmax(sigma V W^T) || softmax(sigma v
// W^T) ), the teacher's side a constant. Both over the classes of the step's sample; margin and
// filter act on the cross entropy only.
#include "losses.h"

static int need(struct loss_run *r, struct err *e)
{
    const struct loss_batch *b = r->b;
    return cluster_head_need(b->w, b->n, b->pv, b->label, b->seed, b->step, e);
}

int loss_cluster_ce(struct loss_run *r, float weight, struct err *e)
{
    struct cluster_head *h = r->b->w;
    struct dev *d = r->room->d;
    size_t n = r->b->n;
    float each = weight * h->set.sigma / (float)(n * h->n_label), filter = h->set.filter;
    if (need(r, e))
        return -1;
    for (size_t l = 0; l < h->n_label; l++) {
        float *row = loss_part_row(r, loss_part(r, (double)(n * h->n_label)), 1);
        d->op->upload(d, h->target, h->target_host + l * n, n * sizeof *h->target_host);
        d->op->margin_filter(d, n, h->s, h->cosine, h->s, h->target, h->set.sigma, h->set.margin,
                             filter < 1 ? filter : 2, h->logits);
        d->op->softmax_ce(d, n, h->s, h->logits, h->s, h->target, each, h->logits, row);
        d->op->axpy(d, n * h->s, 1, h->logits, h->grad);
    }
    return 0;
}

int loss_cluster_kl(struct loss_run *r, float weight, struct err *e)
{
    struct cluster_head *h = r->b->w;
    struct dev *d = r->room->d;
    size_t n = r->b->n;
    float sigma = h->set.sigma;
    if (need(r, e))
        return -1;
    struct loss_part *p = loss_part(r, (double)n);
    float *cross = loss_part_row(r, p, 1), *entropy = loss_part_row(r, p, -1);
    d->op->gemm(d, false, true, n, h->s, h->dim, sigma, r->b->tv, h->dim, h->unit, h->dim, 0,
                h->teacher, h->s);
    d->op->copy(d, h->logits, h->cosine, n * h->s * sizeof(float));
    d->op->scale(d, n * h->s, sigma, h->logits);
    d->op->softmax_soft_ce(d, n, h->s, h->logits, h->s, h->teacher, h->s, weight * sigma / (float)n,
                           h->logits, cross, entropy);
    d->op->axpy(d, n * h->s, 1, h->logits, h->grad);
    return 0;
}
