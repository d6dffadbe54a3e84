// SPDX-License-Identifier: Apache-2.0
// affinity = 1/2 [ soft-CE of the rows of s v t^T against softmax rows of s_T V T^T, and the same
// transposed ]. The teacher's side is a constant, with the teacher's own scale s_T (open_clip's
// distillation loss; TinyCLIP, ICCV 2023; CLIP-KD, CVPR 2024). Of several teachers the targets are
// averaged after the softmax (MobileCLIP, CVPR 2024), which is the mean of the terms of each, as a
// cross entropy is linear in its target.
#include "losses/loss-terms.h"

// There are two sides, images against texts and texts against images; each has a matrix of the
// student's and one of the teacher's. Where matrices are not kept, both sides share the same
// buffers.
struct affinity_side {
    size_t student, teacher; // numbers of matrices and of sums
    const struct loss_teacher *of;
    const float *x, *y, *tx, *ty;
    float *dx;
};

static void logits(struct loss_run *r, const struct loss_span *s, const struct affinity_side *side)
{
    loss_logits(r, s, side->student, r->b->dim, r->b->scale, side->x, side->y);
    loss_logits(r, s, side->teacher, side->of->dim, side->of->scale, side->tx, side->ty);
}

static void sums(struct loss_run *r, const struct affinity_side *side)
{
    struct loss_room *m = r->room;
    const struct loss_batch *b = r->b;
    for (struct loss_span s = {0}; loss_next(r, &s);) {
        logits(r, &s, side);
        for (size_t k = side->student; k <= side->teacher; k++)
            m->d->op->row_lse(m->d, s.n, b->n, loss_matrix(r, &s, k), b->n, m->lse[k] + s.at);
    }
}

// Computes the value, into `row`, and the scale's gradient from the first side (row not NULL).
static void gradients(struct loss_run *r, const struct affinity_side *side,
                      const struct affinity_side *other, size_t by_scale, bool first, float *row,
                      float weight)
{
    struct loss_room *m = r->room;
    const struct loss_batch *b = r->b;
    struct dev *d = m->d;
    size_t n = b->n, dim = b->dim;
    for (struct loss_span s = {0}; loss_next(r, &s);) {
        if (!m->kept)
            logits(r, &s, side);
        float *g = loss_matrix(r, &s, side->student);
        struct dev_given j = {.logits = g, .grad = g, .ld = n, .weight = weight / (2 * (float)n)};
        j.lse = m->lse[side->student] + s.at;
        j.other = m->lse[other->student];
        j.teacher = loss_matrix(r, &s, side->teacher);
        j.teacher_ld = n;
        j.teacher_lse = m->lse[side->teacher] + s.at;
        j.teacher_other = m->lse[other->teacher];
        j.loss = row ? row + s.at : NULL;
        j.slope = row ? m->row + s.at : NULL;
        d->op->given_ce(d, s.n, n, &j);
        if (row)
            loss_sum_add(r, by_scale, s.part, first && s.begins, s.n, j.slope, NULL);
        d->op->gemm(d, false, false, s.n, dim, n, b->scale, g, n, side->y, dim, 1,
                    side->dx + s.at * dim, dim);
    }
}

static int one_teacher(struct loss_run *r, const struct loss_teacher *of, size_t by_scale,
                       float weight, struct err *e)
{
    const struct loss_batch *b = r->b;
    struct affinity_side images = {0, 1, of, b->v, b->t, of->v, of->t, r->g->dv};
    struct affinity_side texts = {2, 3, of, b->t, b->v, of->t, of->v, r->g->dt};
    bool first = of == b->teacher;
    float *row = loss_part_row(r, loss_part(r, 2 * (double)b->n * (double)b->n_teacher), 1);
    sums(r, &images);
    sums(r, &texts);
    if (loss_gather_sums(r, 4, e))
        return -1;
    gradients(r, &images, &texts, by_scale, first, row, weight);
    gradients(r, &texts, &images, by_scale, first, NULL, weight);
    return 0;
}

int loss_affinity(struct loss_run *r, float weight, struct err *e)
{
    const struct loss_batch *b = r->b;
    size_t by_scale = loss_by_scale(r);
    for (size_t i = 0; i < b->n_teacher; i++)
        if (one_teacher(r, b->teacher + i, by_scale, weight / (float)b->n_teacher, e))
            return -1;
    return 0;
}
