// SPDX-License-Identifier: Apache-2.0
// What of a model is not trained: a tower, but for its last blocks and what follows them (LiT: Zhai
// et al., 2022), or the norms.
#ifndef MODEL_LOCK_H
#define MODEL_LOCK_H

#include <stdbool.h>
#include <stddef.h>

#include "model/table.h"

struct clip_locks {
    bool tower[2]; // by enum clip_tower_id
    int unlock;    // last blocks of a locked tower that are trained, its pool, last norm and
                   // projection with them; 0: none of it is trained
    bool norms;    // gains and biases of all norms, in both towers
};

// The lowest block that backward reaches: -1: the whole tower with its stem; clip_tower_blocks():
// none of it.
int clip_locks_lowest(const struct clip_locks *l, const struct clip_config *c,
                      enum clip_tower_id id);
// Whether backward computes a gradient for tensor i. That of a norm may be computed and not used.
bool clip_locks_graded(const struct clip_locks *l, const struct clip_table *t, size_t i);
// Whether tensor i stays unchanged.
bool clip_locked(const struct clip_locks *l, const struct clip_table *t, size_t i);
// Elements of the tensors with a gradient, and of those that are trained, in one array with gaps
// like the table's; without locks n_flat.
size_t clip_locks_n_grad(const struct clip_locks *l, const struct clip_table *t);
size_t clip_locks_n_trained(const struct clip_locks *l, const struct clip_table *t);
// Elements of tensor i in such an array, including the gap after it.
size_t clip_table_room(const struct clip_table *t, size_t i);

#endif
