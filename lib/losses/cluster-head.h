// SPDX-License-Identifier: Apache-2.0
// The cluster head: K class rows that start as centroids of the teacher's embeddings, used as unit
// rows, and for large K a fresh sample of them at each step (An et al., PartialFC, ICCVW 2021: the
// batch's own classes and random others). Only rows in the sample get a gradient and a step of the
// optimiser; time and memory of a step go with the sample, not with K.
#ifndef LOSSES_CLUSTER_HEAD_H
#define LOSSES_CLUSTER_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "comm/comm.h"
#include "device/dev.h"
#include "losses/part-sum.h"
#include "base/err.h"

struct cluster_set {
    float sigma;        // scale of the cosines
    double rate;        // share r of the classes in the sample; >= 1: all
    float margin;       // taken off the target's cosine in the cross entropy
    float filter;       // classes with a cosine above it, not the target, are left out of the cross
                        // entropy; >= 1: off
    float soft_sigma;   // scale of the teacher's cosines in cluster_soft; 0: sigma
    const float *prior; // host [k]: added to the logits of the cross entropy, or NULL
    bool soft;          // cluster_soft has a weight
    bool frozen;        // the rows keep their first values
    size_t block;       // values of a [rows, sample] matrix; 0: loss-block.h's
    size_t parts;       // of the classes, as many as of a step; 0: one
    struct comm *comm;  // ranks that have the parts, each as many; NULL: one
};

struct cluster_head {
    struct dev *d;
    struct cluster_set set;
    size_t k, dim, n_max;    // classes, columns, rows of the largest batch
    size_t k0, k_own;        // this rank's classes: the first, their number
    size_t s_max;            // of them in a sample at most
    bool all;                // the sample is every class
    float *w;                // device [k_own, dim]
    int32_t *slot;           // host [k]: place in the sample, -1 when not in it (not with `all`)
    int32_t *drawn;          // host: the sample, ascending; its part from drawn0 is this rank's
    size_t n_drawn, drawn0;  //
    int32_t *ids;            // host [s_max]: this rank's of it, counted from k0
    int32_t *ids_dev;        // device
    float *rows, *unit;      // device [s_max, dim]: the sample's rows, and made unit
    float *norm;             // device [s_max]
    float *dw;               // device [s_max, dim]: gradient by the sample's rows
    size_t n_block;          // rows of a batch that are worked on at a time
    float *cosine, *grad;    // device [n_block, s_max]: v W^T, and the gradient by it
    float *logits, *teacher; // device [n_block, s_max]
    int32_t *target;         // device [n_block]
    int32_t *target_host;    // [n_max * n_label]
    size_t n_label;
    size_t s; // this rank's rows of this step's sample
    // With set.soft, of the whole batch [n_max, n_label] (loss-cluster-soft.c).
    float *soft, *soft_x, *soft_d, *soft_loss; // device; soft_loss [2, n_max]
    int32_t *pick, *pick2, *pick_host;         // device; host [2, n_max, n_label]
    float *soft_host;                          // host
    float *prior, *prior_sample, *ones;        // device [k_own], [s_max], [n_block]: with set.prior

    // With several parts, part q has classes [q k / parts, (q + 1) k / parts), and the sums of a
    // row of logits are computed part by part (loss-cluster-parts.c).
    size_t parts, part0, own;      // this rank's: the first, their number
    size_t *begin;                 // [own + 1]: places of the sample where the parts begin
    int32_t *block_host;           // [n_block]: target columns
    float *sums;                   // device [n_label + 2, parts, n_max]: of a part's logits
    float *turned, *whole;         // device [n_max, parts], [n_label + 2, n_max]: of all logits
    int32_t *turn, *turn_host;     // [n_max, parts]: from one order to the other, for turn_n rows
    size_t turn_n;                 //
    float *part_dv, *loss, *loss2; // device [n_max, dim], [n_max]
    struct part_sum dv;
};

// For k classes of `dim` columns; `centroids` host [k, dim], made unit rows; NULL:
// cluster_head_set gives them. 0 or -1.
int cluster_head_open(struct cluster_head *h, struct dev *d, const struct cluster_set *set,
                      const float *centroids, size_t k, size_t dim, size_t n_max, size_t n_label,
                      struct err *e);
// Rows first .. first + n - 1 of the centroids (host [n, dim]), n at most h->s_max; those of other
// ranks are passed over. 0 or -1.
int cluster_head_set(struct cluster_head *h, size_t first, size_t n, const float *rows,
                     struct err *e);
void cluster_head_close(struct cluster_head *h);
// Bytes it takes, the optimiser's two moments of w included.
size_t cluster_head_bytes(const struct cluster_set *set, size_t k, size_t dim, size_t n_max,
                          size_t n_label);

// At the start of a step: forgets the last sample.
void cluster_head_begin(struct cluster_head *h);
// Draws the sample for labels[n * n_label] (host) from (seed, step). 0 or -1: a label is not below
// k.
int cluster_head_draw(struct cluster_head *h, size_t n, const int32_t *labels, uint64_t seed,
                      uint64_t step, struct err *e);
// For n rows of v, at most h->n_block, one block after the other: makes cosine = v W^T and a grad
// of zeros, to which the terms add.
void cluster_head_block(struct cluster_head *h, size_t n, const float *v);
// Then: dv += grad W, and the gradient by the sample's rows into h->dw; `first`: it is the batch's
// first block.
void cluster_head_block_end(struct cluster_head *h, bool first, size_t n, const float *v,
                            float *dv);
// Adds the prior to n rows of logits, of the sample's classes [first, first + cols).
void cluster_head_prior(const struct cluster_head *h, size_t n, size_t first, size_t cols,
                        float *logits);
// First class of part q.
size_t cluster_head_class(const struct cluster_head *h, size_t q);
// After the last block: h->dw is the gradient by the rows before they were made unit.
void cluster_head_finish(struct cluster_head *h);

#endif
