// SPDX-License-Identifier: Apache-2.0
// The shards of an epoch by name: rows, masks and crops go by the name, so two shards of one name
// would be trained on each other's rows.
#ifndef TRAIN_NAMES_H
#define TRAIN_NAMES_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "formats/samples.h"

struct train_names {
    uint32_t *slots; // number of a shard + 1, by hash of the name; 0: empty
    size_t n, mask;  // shards looked at; number of slots - 1, 0: none
};

void train_names_release(struct train_names *t);
void train_names_restart(struct train_names *t); // a new epoch
// Looks at the shards of the stream that came since the last call. 0, or -1: a shard of another
// stream has the name of one before. Where either stream is a part of a run they may be one shard;
// within a stream shard-read has seen to it.
int train_names_check(struct train_names *t, const struct samples_reader *stream, struct err *e);

#endif
