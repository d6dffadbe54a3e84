// SPDX-License-Identifier: Apache-2.0
// The groups of parameters: with weight decay, without, and not trained.
#ifndef TRAIN_GROUPS_H
#define TRAIN_GROUPS_H

#include "base/err.h"
#include "system/log.h"
#include "train/step.h"

// Refuses locks that the model has not the blocks for. 0 or -1.
int train_groups_check(const struct clip_config *cfg, const struct train_set *s, struct err *e);
// Tensors and parameters of each group into the log, the maps' and the clusters' among them. 0 or
// -1.
int train_groups_say(const struct clip_config *cfg, const struct train_set *s, struct log *log,
                     struct err *e);

#endif
