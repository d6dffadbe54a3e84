// SPDX-License-Identifier: Apache-2.0
// siglip = -1/B sum_ij log sigmoid( z_ij (s v_i.t_j + b) ), z = +1 on the diagonal, -1 off it (Zhai
// et al., ICCV 2023)
#include "losses/loss-terms.h"

// sigmoid_ce expects the pair of a row on the diagonal. So a block of rows from `at` has its
// columns in the order at, at + 1 ... n - 1, 0 ... at - 1, which takes two products.
struct siglip_turn {
    size_t first[2], count[2], col[2];
};

// Puts the logits of a span into matrix 0, their gradient into matrix 1, and adds the rows'
// gradients to dx.
static struct siglip_turn side(struct loss_run *r, const struct loss_span *s, const float *x,
                               const float *y, float *dx, float weight, float *row)
{
    const struct loss_batch *b = r->b;
    struct dev *d = r->room->d;
    size_t n = b->n, dim = b->dim, at = s->at;
    float *logits = loss_matrix(r, s, 0), *grad = loss_matrix(r, s, 1);
    struct siglip_turn t = {{at, 0}, {n - at, at}, {0, n - at}};
    // Every logit starts as b: the product of a column of b and a row of ones, then s v t^T.
    d->op->gemm(d, false, true, s->n, n, 1, 1, r->room->row, 1, r->room->row2, 1, 0, logits, n);
    for (int i = 0; i < 2 && t.count[i]; i++)
        d->op->gemm(d, false, true, s->n, t.count[i], dim, b->scale, x + at * dim, dim,
                    y + t.first[i] * dim, dim, 1, logits + t.col[i], n);
    d->op->sigmoid_ce(d, s->n, n, logits, n, weight / (float)n, grad, row + at);
    for (int i = 0; i < 2 && t.count[i]; i++)
        d->op->gemm(d, false, false, s->n, dim, t.count[i], b->scale, grad + t.col[i], n,
                    y + t.first[i] * dim, dim, 1, dx + at * dim, dim);
    return t;
}

// If a batch is one part, the texts' gradients follow from the images' matrix, which saves a
// product.
static void texts_too(struct loss_run *r, const struct loss_span *s, const struct siglip_turn *t)
{
    const struct loss_batch *b = r->b;
    struct dev *d = r->room->d;
    for (int i = 0; i < 2 && t->count[i]; i++)
        d->op->gemm(d, true, false, t->count[i], b->dim, s->n, b->scale,
                    loss_matrix(r, s, 1) + t->col[i], b->n, b->v + s->at * b->dim, b->dim, 1,
                    r->g->dt + t->first[i] * b->dim, b->dim);
}

static void fill(struct loss_room *m, float *to, float x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        m->host[i] = x;
    m->d->op->upload(m->d, to, m->host, n * sizeof *m->host);
}

int loss_siglip(struct loss_run *r, float weight, struct err *e)
{
    const struct loss_batch *b = r->b;
    struct loss_room *m = r->room;
    float *row = loss_part_row(r, loss_part(r, (double)b->n), 1);
    (void)e;
    fill(m, m->row, b->bias, b->n);
    fill(m, m->row2, 1, b->n);
    // The logits are s v.t + b: d/d logit_scale = sum G (L - b)
    size_t by_bias = loss_sum(r), by_scale = loss_by_scale(r);
    m->by_bias[by_bias] = 1;
    m->by_scale[by_bias] = -(double)b->bias;
    for (struct loss_span s = {0}; loss_next(r, &s);) {
        struct siglip_turn t = side(r, &s, b->v, b->t, r->g->dv, weight, row);
        const float *grad = loss_matrix(r, &s, 1);
        loss_sum_add(r, by_bias, s.part, s.begins, s.n * b->n, grad, NULL);
        loss_sum_add(r, by_scale, s.part, s.begins, s.n * b->n, grad, loss_matrix(r, &s, 0));
        if (m->parts == 1)
            texts_too(r, &s, &t);
    }
    for (struct loss_span s = {0}; m->parts > 1 && loss_next(r, &s);)
        side(r, &s, b->t, b->v, r->g->dt, weight, m->lse[0]);
    return 0;
}
