// SPDX-License-Identifier: Apache-2.0
// Number of samples of a shard that the run delivers, from existing files, so that --part need not
// read the headers of all shards.
#ifndef READ_COUNT_H
#define READ_COUNT_H

#include <stdint.h>

#include "base/err.h"
#include "read/read.h"

// Of shard i of o->shards: with a keep mask the ones in it; else the rows of o->counts/STEM.npy
// (any array with a row a sample), or the lines of o->counts/STEM.tsv, its index. 0 or -1.
int read_count(const struct read_options *o, size_t i, uint64_t *n, struct err *e);
// Of each shard of the list, on the heap, and of all together. 0, or -1 with *counts NULL.
int read_counts(const struct read_options *o, uint64_t **counts, uint64_t *total, struct err *e);

#endif
