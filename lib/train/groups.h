// SPDX-License-Identifier: Apache-2.0
// The groups of parameters: with weight decay, without, and not trained.
#ifndef TRAIN_GROUPS_H
#define TRAIN_GROUPS_H

#include "base/err.h"
#include "system/log.h"
#include "train/step.h"

// Refuses locks for which the model has too few blocks. 0 or -1.
int train_groups_check(const struct clip_config *cfg, const struct train_set *s, struct err *e);
// What the learning rate of tensor i is times, with layer decay X: X to the power of its depth from
// the top of its tower. Depth 0: what follows the blocks (pool, last norm, projection), logit_scale
// and logit_bias; 1: the last block; layers + 1: what comes before the first. The numbers are
// BEiT's (Bao et al., 2021; get_num_layer_for_vit), which EVA-CLIP's fork of open_clip takes for
// both towers; the norm before the blocks is counted with the embeddings.
double train_groups_rate(const struct clip_table *t, size_t i, double decay);
// Adds the trained tensors of the model to the optimiser. 0 or -1.
int train_groups_slots(struct train_core *c, struct err *e);
// Logs the tensors and parameters of each group, also of the projections and the clusters. 0 or -1.
int train_groups_say(const struct clip_config *cfg, const struct train_set *s, struct log *log,
                     struct err *e);

#endif
