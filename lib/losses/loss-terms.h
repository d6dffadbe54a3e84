// SPDX-License-Identifier: Apache-2.0
// Private to lib/losses: the table of terms, and what a term works with.
#ifndef LOSSES_LOSS_TERMS_H
#define LOSSES_LOSS_TERMS_H

#include "losses/losses.h"

struct loss_run {
    struct loss_room *room;
    const struct loss_batch *b;
    struct loss_grads *g;
    size_t term;
    size_t part;  // rows of a part
    size_t at, n; // cluster terms: the batch's rows [at, at + n), at most h->n_block
};

// Rows that are worked on at a time: a block of a part.
struct loss_span {
    size_t at, n; // in the batch
    size_t part;  // of this rank's
    bool begins;  // the first of its part
};
// Moves on to the next span (the first one, if *s is zeroed); false if there is none.
bool loss_next(const struct loss_run *r, struct loss_span *s);
// Matrix k of a span: [s->n, batch].
float *loss_matrix(const struct loss_run *r, const struct loss_span *s, size_t k);
// Computes the logits scale x y^T of a span into matrix k; x and y are [batch, dim].
void loss_logits(const struct loss_run *r, const struct loss_span *s, size_t k, size_t dim,
                 float scale, const float *x, const float *y);
// Computes the same of the scale s, and the sums of their rows into room->lse[k].
void loss_sums(const struct loss_run *r, const struct loss_span *s, size_t k, size_t dim,
               const float *x, const float *y);
// Completes room->lse[0 .. n) for the whole batch; each rank has computed its own rows. 0 or -1.
int loss_gather_sums(const struct loss_run *r, size_t n, struct err *e);

// Adds the value weight x part x (CE(s A B^T) + CE(s B A^T)), where row i has target column i, and
// its gradients to da, db (NULL: not wanted) and to the scale's. The term's value gets the value x
// part.
int loss_pair(struct loss_run *r, size_t dim, const float *a, const float *b, float *da, float *db,
              double part, float weight, struct err *e);
// Returns a new, empty summand of the term's value.
struct loss_part *loss_part(struct loss_run *r, double den);
// Adds weight x the sum, as the host makes it in float64, of the row that it gives (device [n], or
// the run's part of it).
float *loss_part_row(struct loss_run *r, struct loss_part *p, double weight);
// Adds weight x a sum on the device's side, whose number it gives.
size_t loss_part_sum(struct loss_run *r, struct loss_part *p, double weight);
// A sum on the device's side: its number, for by_scale and by_bias.
size_t loss_sum(struct loss_run *r);
// Adds the sum of x y (of x if y is NULL), device [n], to that of a part, or begins it.
void loss_sum_add(struct loss_run *r, size_t sum, size_t part, bool begins, size_t n,
                  const float *x, const float *y);
// Returns the sum that is the scale's gradient of logits L = s a.b: d/d logit_scale = sum G L.
size_t loss_by_scale(struct loss_run *r);

// The cluster terms, rows ce, kl and soft of the table, where the classes are in parts.
struct loss_cluster_terms {
    size_t ce, kl, soft;
};
int loss_cluster_parts(struct loss_run *r, const struct loss_cluster_terms *t, const float weight[],
                       struct err *e);
// loss-cluster-soft.c: once the sample is drawn, the targets of the whole batch, less 1 at the
// first label, into h->soft. 0 or -1.
int loss_soft_targets(struct loss_run *r, struct err *e);
// Of the batch's rows [at, at + n), whose logits stand in h->logits for the sample's classes
// [first, first + cols): takes those of the clusters that are picked. Then adds their part of the
// gradient, times `each`, to h->logits, and of the value to a sum.
struct loss_soft_block {
    size_t at, n, first, cols, m; // m: picked ones, by loss_soft_pick
};
void loss_soft_pick(struct loss_run *r, struct loss_soft_block *b);
void loss_soft_add(struct loss_run *r, const struct loss_soft_block *b, float each, size_t sum,
                   size_t part, bool begins);

// The table: a row a term, LOSS_TERM(name, needs, rows, sums, help). rows: calls of loss_part_row
// at most, with LOSS_LABELS for each label and LOSS_EACH for each teacher; sums: float64 sums at
// most (loss_sum, loss_part_sum, loss_by_scale). The memory of a step is summed from the rows of
// the terms with a weight. The order is that of the log, of --help and of a checkpoint's figures.
#define LOSS_TERMS(LOSS_TERM)                                                                      \
    LOSS_TERM(instance, LOSS_TEACHER_IMAGE | LOSS_TEACHER_TEXT | LOSS_WIDTH | LOSS_CROSS, 2, 2,    \
              "student against teacher, all four pairings")                                        \
    LOSS_TERM(cluster_ce, LOSS_CLUSTERS | LOSS_WIDTH | LOSS_LABELS, 1, 0,                          \
              "cross entropy against the cluster labels")                                          \
    LOSS_TERM(cluster_kl, LOSS_CLUSTERS | LOSS_WIDTH | LOSS_TEACHER_IMAGE, 2, 0,                   \
              "KL from the teacher's clusters")                                                    \
    LOSS_TERM(clip, LOSS_PAIRS, 1, 1, "the student's images against its texts")                    \
    LOSS_TERM(affinity, LOSS_TEACHER_IMAGE | LOSS_TEACHER_TEXT | LOSS_EACH | LOSS_PAIRS, 1, 1,     \
              "the teacher's image-text similarities as targets")                                  \
    LOSS_TERM(feature, LOSS_TEACHER_IMAGE | LOSS_TEACHER_TEXT | LOSS_WIDTH, 0, 6,                  \
              "squared distance to the teacher's embeddings")                                      \
    LOSS_TERM(siglip, LOSS_BIAS | LOSS_PAIRS, 1, 2, "each pair by itself, sigmoid loss")           \
    LOSS_TERM(cluster_soft, LOSS_CLUSTERS | LOSS_WIDTH | LOSS_TEACHER_IMAGE, 1, 1,                 \
              "cross entropy against the teacher's nearest clusters")                              \
    LOSS_TERM(relation, LOSS_TEACHER_IMAGE | LOSS_TEACHER_TEXT, 0, 2,                              \
              "the teacher's similarities within a modality")                                      \
    LOSS_TERM(align, LOSS_PAIRS, 0, 1, "distance of the pairs alone")                              \
    LOSS_TERM(margin, LOSS_GROUPS | LOSS_PAIRS, 2, 0,                                              \
              "samples of a label nearer than those of others")

// A term's function: loss_kind.run.
#define LOSS_DECLARE(name, needs, rows, sums, help)                                                \
    int loss_##name(struct loss_run *r, float weight, struct err *e);
LOSS_TERMS(LOSS_DECLARE)

#endif
