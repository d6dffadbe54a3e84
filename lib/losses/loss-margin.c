// SPDX-License-Identifier: Apache-2.0
// margin = 1/(2B) sum_i mean_{j in N_i} max(0, A_ij - min_{j' in H_i} A_ij'), of A = v t^T and of
// its transpose: H_i are the batch's samples of i's label, i among them, N_i the others (HELIP,
// Wang et al., arXiv 2305.05208, has a margin loss for hard pairs; this form is ours). It is 0 once
// the samples of a label are nearer than all others.
//
// A row of A is compared by the rank that has it, and a column by the rank that has it as a row of
// the transpose. Of each only the least, its place, and how many are above it go to the others, so
// gradients are whole as in losses.h.
#include <stdlib.h>

#include "base/mem.h"
#include "losses/loss-terms.h"
#include "losses/ranks.h"

struct margin_side {
    size_t k; // number of its matrix and of what was found: the other's is !k
    const float *x, *y;
    float *dx, *row;
};

static int by_label(const void *x, const void *y)
{
    int32_t a = *(const int32_t *)x, b = *(const int32_t *)y;
    return a < b ? -1 : a > b;
}

// The number of samples of a label, in the ascending labels of all.
static size_t count_of(const int32_t *sorted, size_t n, int32_t label)
{
    size_t bound[2];
    for (int i = 0; i < 2; i++) {
        size_t low = 0, high = n;
        while (low < high) {
            size_t mid = low + (high - low) / 2;
            if (sorted[mid] < label || (i && sorted[mid] == label))
                low = mid + 1;
            else
                high = mid;
        }
        bound[i] = low;
    }
    return bound[1] - bound[0];
}

// The labels and shares (struct dev_margin) of the batch, into row2 and row.
static int send_labels(struct loss_run *r, struct err *e)
{
    const struct loss_batch *b = r->b;
    struct loss_room *m = r->room;
    struct dev *d = m->d;
    size_t n = b->n;
    int32_t *label = mem_alloc(2 * n, sizeof *label, e), *sorted = label + n;
    if (!label)
        return -1;
    for (size_t i = 0; i < n; i++)
        label[i] = sorted[i] = b->label[i * b->n_label];
    qsort(sorted, n, sizeof *sorted, by_label);
    for (size_t i = 0; i < n; i++) {
        size_t others = n - count_of(sorted, n, label[i]);
        m->host[i] = others ? 1 / (float)others : 0;
    }
    d->op->upload(d, m->row, m->host, n * sizeof *m->host);
    d->op->upload(d, m->row2, label, n * sizeof *label);
    free(label);
    return 0;
}

static struct dev_margin margin_of(const struct loss_run *r, const struct margin_side *p,
                                   const struct loss_span *s)
{
    struct loss_room *m = r->room;
    float *sims = loss_matrix(r, s, p->k);
    const int32_t *label = (const int32_t *)(const void *)m->row2;
    return (struct dev_margin){.sims = sims,
                               .ld = r->b->n,
                               .row_label = label + s->at,
                               .label = label,
                               .row_share = m->row + s->at,
                               .share = m->row,
                               .least = m->lse[p->k] + s->at,
                               .back = m->lse[2 + p->k] + s->at,
                               .at = m->at[p->k] + s->at,
                               .other_least = m->lse[!p->k],
                               .other_back = m->lse[2 + !p->k],
                               .other_at = m->at[!p->k],
                               .row0 = s->at,
                               .loss = p->row + s->at,
                               .grad = sims};
}

static void find_least(struct loss_run *r, const struct margin_side *p)
{
    struct dev *d = r->room->d;
    for (struct loss_span s = {0}; loss_next(r, &s);) {
        loss_logits(r, &s, p->k, r->b->dim, 1, p->x, p->y);
        struct dev_margin m = margin_of(r, p, &s);
        d->op->label_least(d, s.n, r->b->n, &m);
    }
}

static void gradients(struct loss_run *r, const struct margin_side *p, float weight)
{
    struct dev *d = r->room->d;
    size_t n = r->b->n, dim = r->b->dim;
    for (struct loss_span s = {0}; loss_next(r, &s);) {
        if (!r->room->kept)
            loss_logits(r, &s, p->k, dim, 1, p->x, p->y);
        struct dev_margin m = margin_of(r, p, &s);
        m.weight = weight / (2 * (float)n);
        d->op->label_margin(d, s.n, n, &m);
        d->op->gemm(d, false, false, s.n, dim, n, 1, m.grad, n, p->y, dim, 1, p->dx + s.at * dim,
                    dim);
    }
}

int loss_margin(struct loss_run *r, float weight, struct err *e)
{
    const struct loss_batch *b = r->b;
    struct loss_room *m = r->room;
    struct loss_part *part = loss_part(r, 2 * (double)b->n);
    struct margin_side side[2] = {{0, b->v, b->t, r->g->dv, loss_part_row(r, part, 1)},
                                  {1, b->t, b->v, r->g->dt, loss_part_row(r, part, 1)}};
    if (send_labels(r, e))
        return -1;
    find_least(r, &side[0]);
    find_least(r, &side[1]);
    if (loss_gather_sums(r, 4, e))
        return -1;
    for (int k = 0; k < 2; k++)
        if (ranks_gather(m->d, m->comm, "places of the least", m->at[k],
                         m->own * r->part * sizeof **m->at, e))
            return -1;
    gradients(r, &side[0], weight);
    gradients(r, &side[1], weight);
    return 0;
}
