// SPDX-License-Identifier: Apache-2.0
// cluster_soft = -1/B sum_i sum_{k in N_i} q_i(k) log p_S(k | v_i), p_S = softmax(sigma v W^T), N_i
// the sample's labels, its nearest clusters, q_i(k) = exp(sigma_q V_i.W_k) / sum over N_i, no
// gradient through q: k-NN posteriors of the teacher as soft labels (OSAKD's idea, made once). The
// gradient by the logits is sigma (p_S - q) / B. One label: cluster_ce without margin and filter.
// With all clusters: cluster_kl and the entropy of its targets.
//
// It is worked out as the cross entropy against the first label, less D x, D = (1 at the first
// label) - q: only the picked logits are touched twice, and no second product with W is made.
#include <math.h>
#include <string.h>

#include "losses/loss-terms.h"
#include "losses/ranks.h"

// Is label l of a sample one of those before it? Where there are fewer labels than columns.
static bool repeats(const int32_t *label, size_t l)
{
    for (size_t k = 0; k < l; k++)
        if (label[k] == label[l])
            return true;
    return false;
}

static int32_t place_of(const struct cluster_head *h, const struct loss_batch *b, size_t i,
                        size_t l)
{
    return h->target_host[l * b->n + i];
}

int loss_soft_targets(struct loss_run *r, struct err *e)
{
    struct cluster_head *h = r->b->w;
    const struct loss_batch *b = r->b;
    const struct dev_ops *op = h->d->op;
    size_t labels = h->n_label, n = b->n * labels;
    float *host = h->soft_host;
    float sigma = h->set.soft_sigma > 0 ? h->set.soft_sigma : h->set.sigma;
    for (size_t i = 0; i < n; i++) {
        size_t at = (size_t)place_of(h, b, i / labels, i % labels) - h->drawn0;
        h->pick_host[i] = at < h->s ? (int32_t)at : -1; // another rank's
    }
    op->upload(h->d, h->pick, h->pick_host, n * sizeof *h->pick_host);
    op->pick_dots(h->d, b->n, labels, h->dim, sigma, b->tv, h->unit, h->pick, h->soft);
    if (ranks_sum(h->d, h->set.comm, "nearest clusters", h->soft, n, false, e))
        return -1; // one rank has each, the others 0
    for (size_t i = 0; i < n; i++)
        host[i] = repeats(b->label + i / labels * labels, i % labels) ? -INFINITY : 0;
    op->upload(h->d, h->soft_x, host, n * sizeof *host);
    op->axpy(h->d, n, 1, h->soft_x, h->soft);
    // The gradient of a softmax cross entropy whose logits are all 0 is 1 / labels - q.
    op->zero(h->d, h->soft_x, n * sizeof *host);
    op->softmax_soft_ce(h->d, b->n, labels, h->soft_x, labels, h->soft, labels, 1, h->soft_x,
                        h->soft_loss, h->soft_loss + b->n);
    for (size_t i = 0; i < n; i++)
        host[i] = (i % labels ? 0.0f : 1.0f) - 1 / (float)labels;
    op->upload(h->d, h->soft, host, n * sizeof *host);
    op->axpy(h->d, n, 1, h->soft_x, h->soft);
    return 0;
}

void loss_soft_pick(struct loss_run *r, struct loss_soft_block *k)
{
    struct cluster_head *h = r->b->w;
    const struct loss_batch *b = r->b;
    const struct dev_ops *op = h->d->op;
    size_t labels = h->n_label;
    int32_t *flat = h->pick_host, *pick = flat + h->n_max * labels;
    k->m = 0;
    for (size_t i = 0; i < k->n; i++)
        for (size_t l = 0; l < labels; l++) {
            size_t at = (size_t)place_of(h, b, k->at + i, l) - h->drawn0 - k->first;
            if (at >= k->cols || repeats(b->label + (k->at + i) * labels, l))
                continue;
            flat[k->m] = (int32_t)(i * k->cols + at);
            pick[k->m++] = (int32_t)((k->at + i) * labels + l);
        }
    op->upload(h->d, h->pick, flat, k->m * sizeof *flat);
    op->gather(h->d, k->m, 1, h->logits, 1, h->pick, h->soft_x);
    op->upload(h->d, h->pick2, pick, k->m * sizeof *pick);
    op->gather(h->d, k->m, 1, h->soft, 1, h->pick2, h->soft_d);
}

void loss_soft_add(struct loss_run *r, const struct loss_soft_block *k, float each, size_t sum,
                   size_t part, bool begins)
{
    struct cluster_head *h = r->b->w;
    const struct dev_ops *op = h->d->op;
    loss_sum_add(r, sum, part, begins, k->m, h->soft_d, h->soft_x);
    op->scale(h->d, k->m, each, h->soft_d);
    op->scatter_add(h->d, k->m, 1, h->soft_d, h->pick, h->logits, 1);
}

int loss_cluster_soft(struct loss_run *r, float weight, struct err *e)
{
    struct cluster_head *h = r->b->w;
    struct dev *d = r->room->d;
    size_t all = r->b->n, n = r->n;
    float each = weight * h->set.sigma / (float)all;
    struct loss_part *p = loss_part(r, (double)all);
    float *row = loss_part_row(r, p, 1);
    size_t sum = loss_part_sum(r, p, 1);
    struct loss_soft_block k = {.at = r->at, .n = n, .cols = h->s};
    (void)e;
    d->op->upload(d, h->target, h->target_host + r->at, n * sizeof *h->target_host);
    d->op->margin_filter(d, n, h->s, h->cosine, h->s, h->target, h->set.sigma, 0, 2, h->logits);
    loss_soft_pick(r, &k);
    d->op->softmax_ce(d, n, h->s, h->logits, h->s, h->target, each, h->logits, row);
    loss_soft_add(r, &k, each, sum, 0, !r->at);
    d->op->axpy(d, n * h->s, 1, h->logits, h->grad);
    return 0;
}
