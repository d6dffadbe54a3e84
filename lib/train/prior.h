// SPDX-License-Identifier: Apache-2.0
// --cluster-prior: the share of each label among the samples that are trained on, for the logit
// adjustment of cluster_ce.
#ifndef TRAIN_PRIOR_H
#define TRAIN_PRIOR_H

#include <stddef.h>

#include "base/err.h"

// The files DIR/NAME of one data set that a run trains on; names: one a line.
struct prior_set {
    const char *labels, *keep; // folders; keep: masks, or NULL
    const char *names;
    double weight; // of the set in a mixture
};

// prior[i] = tau log p_i, p_i the share of label i among the labels of all rows that the masks
// leave; over the sets of a mixture the mean of their shares by weight, since a batch has rows of
// each by weight. A label that no row has counts as half of one. Labels below 0 do not count.
// 0 or -1.
int train_prior(const struct prior_set *sets, size_t n, double tau, size_t k, float *prior,
                struct err *e);

#endif
