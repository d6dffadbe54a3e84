// SPDX-License-Identifier: Apache-2.0
// Which of the student's gradients a rank sums and steps, and of which it keeps moments: a run of
// the vector in which they lie (model/grad.h), as long as those of the others but for half a run of
// the device's sums of squares (dev.h: dot_run). A share begins at a multiple of that in a tensor,
// so a tensor may be of several ranks and its squares are summed as one rank sums them.
#ifndef TRAIN_SHARES_H
#define TRAIN_SHARES_H

#include <stddef.h>

#include "model/lock.h"

// cut[ranks + 1]: rank r has values [cut[r], cut[r + 1]); the last is the vector's length.
void train_shares(const struct clip_table *t, const struct clip_locks *l, size_t ranks, size_t run,
                  size_t *cut);
// The most values of a rank; with one rank the trained ones.
size_t train_share_most(const struct clip_table *t, const struct clip_locks *l, size_t ranks,
                        size_t run);

#endif
