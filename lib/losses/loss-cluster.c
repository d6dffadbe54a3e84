// SPDX-License-Identifier: Apache-2.0
// cluster_ce = CE of softmax(sigma v W^T) against the labels; with several labels a sample, the
// mean of the losses for each. cluster_kl = mean of KL( softmax(sigma V W^T) || softmax(sigma v
// W^T) ), the teacher's side a constant. Both over the classes of the step's sample; margin and
// filter act on the cross entropy only.
// With a prior tau log p, where p is the share of each label, it is added to the logits of
// cluster_ce: logit adjustment for long tails (ECL, arXiv 2305.03378).
#include "losses/loss-terms.h"

int loss_cluster_ce(struct loss_run *r, float weight, struct err *e)
{
    struct cluster_head *h = r->b->w;
    struct dev *d = r->room->d;
    size_t all = r->b->n, n = r->n;
    float each = weight * h->set.sigma / (float)(all * h->n_label), filter = h->set.filter;
    (void)e;
    for (size_t l = 0; l < h->n_label; l++) {
        float *row = loss_part_row(r, loss_part(r, (double)(all * h->n_label)), 1);
        d->op->upload(d, h->target, h->target_host + l * all + r->at, n * sizeof *h->target_host);
        d->op->margin_filter(d, n, h->s, h->cosine, h->s, h->target, h->set.sigma, h->set.margin,
                             filter < 1 ? filter : 2, h->logits);
        cluster_head_prior(h, n, 0, h->s, h->logits);
        d->op->softmax_ce(d, n, h->s, h->logits, h->s, h->target, each, h->logits, row);
        d->op->axpy(d, n * h->s, 1, h->logits, h->grad);
    }
    return 0;
}

int loss_cluster_kl(struct loss_run *r, float weight, struct err *e)
{
    struct cluster_head *h = r->b->w;
    struct dev *d = r->room->d;
    size_t all = r->b->n, n = r->n;
    float sigma = h->set.sigma;
    struct loss_part *p = loss_part(r, (double)all);
    float *cross = loss_part_row(r, p, 1), *entropy = loss_part_row(r, p, -1);
    (void)e;
    d->op->gemm(d, false, true, n, h->s, h->dim, sigma, r->b->tv + r->at * h->dim, h->dim, h->unit,
                h->dim, 0, h->teacher, h->s);
    d->op->copy(d, h->logits, h->cosine, n * h->s * sizeof(float));
    d->op->scale(d, n * h->s, sigma, h->logits);
    d->op->softmax_soft_ce(d, n, h->s, h->logits, h->s, h->teacher, h->s,
                           weight * sigma / (float)all, h->logits, cross, entropy);
    d->op->axpy(d, n * h->s, 1, h->logits, h->grad);
    return 0;
}
