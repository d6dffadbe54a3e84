// SPDX-License-Identifier: Apache-2.0
// Which rows of a large batch are worth a step: those whose contrastive loss the teacher has made
// small and the student has not (JEST: Evans et al., arXiv 2406.17711; ACID: Udandarao et al.,
// arXiv 2411.18674). They are chosen in blocks; the first by the losses in the whole batch, each
// later one by the losses beside the rows that were chosen before it.
//
//     l_i(S) = 1/2 [ log(e^a_ii + sum_{j in S} e^a_ij) - a_ii + the same of the columns ],
//              a = scale x y^T
//     score_i(S) = l_i(S) of the student - l_i(S) of the teacher
//
// The papers draw with probabilities that grow with the score, and JEST's first block has the
// pairs' own terms of a sigmoid loss; the greatest scores, softmax losses and the first block are
// ours.
#ifndef LOSSES_LEARNABLE_H
#define LOSSES_LEARNABLE_H

#include <stddef.h>
#include <stdint.h>

#include "device/dev.h"
#include "base/err.h"

struct learnable_set {
    size_t n, keep, blocks; // rows, of which `keep` are chosen in `blocks` <= keep
    size_t dim[2];          // of the student's and the teacher's rows
};

struct learnable {
    struct dev *d;
    struct learnable_set set;
    size_t cols;     // of the matrix
    float *mat;      // device [n, cols]
    float *part;     // device [cols, the wider dim]
    float *sum;      // device [n]
    int32_t *number; // device [n]: 0, 1 ...
    int32_t *index;  // device [cols]
    float *host;     // [n]
    double *own[2];  // [n]: a_ii of student and teacher
    double *lse[4];  // [n]: sums beside those chosen; student's rows and columns, teacher's
    void *order;     // [n]
    int32_t *chosen; // [keep], owned: the result, ascending
    double *first;   // [n]: scores in the whole batch
    double mean, mean_chosen; // of all rows, and of those chosen
};

// 0 or -1; release a zeroed one too.
int learnable_open(struct learnable *l, struct dev *d, const struct learnable_set *s,
                   struct err *e);
void learnable_close(struct learnable *l);
size_t learnable_bytes(const struct learnable_set *s); // on the device
// Chooses from unit rows x[side][0], x[side][1], device [n, dim[side]]: pictures and texts of the
// student (side 0) and the teacher (1), with their logit scales. Waits for the device. 0 or -1.
int learnable_choose(struct learnable *l, const float *const x[2][2], const float scale[2],
                     struct err *e);

#endif
