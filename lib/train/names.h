// SPDX-License-Identifier: Apache-2.0
// The shards of an epoch by name. Teacher rows, masks and the random numbers of crops are found by
// the name, so two shards of one name would be trained with each other's rows.
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
// Checks the shards that the stream has announced since the last call. 0, or -1 if one has the name
// of a shard of an earlier stream. Two names may be equal where either stream is a part of a run,
// because both may be parts of one shard. Within one stream shard-read has checked the names.
int train_names_check(struct train_names *t, const struct samples_reader *stream, struct err *e);

#endif
