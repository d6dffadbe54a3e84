// SPDX-License-Identifier: Apache-2.0
// --cluster-prior: the share of each label among the samples that are trained on, for the logit
// adjustment of cluster_ce.
#ifndef TRAIN_PRIOR_H
#define TRAIN_PRIOR_H

#include <stddef.h>

#include "base/err.h"

// prior[i] = tau log p_i, p_i the share of label i among the labels of all rows of the
// files DIR/NAME that the masks KEEP/NAME (NULL: none) leave; `names`: a name a line. A label
// that no row has counts as half of one. Labels below 0 do not count. 0 or -1.
int train_prior(const char *labels, const char *keep, const char *names, double tau, size_t k,
                float *prior, struct err *e);

#endif
