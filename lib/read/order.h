// SPDX-License-Identifier: Apache-2.0
// The random choices of a run, each a function of where it stands: see read.h.
#ifndef READ_ORDER_H
#define READ_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/rng.h"

struct read_order {
    uint64_t order_key;  // from (seed, epoch)
    uint64_t sample_key; // from (seed, view)
};

// view: of the samples' own choices, as if it were the epoch.
void read_order_init(struct read_order *o, uint64_t seed, uint64_t epoch, uint64_t view);
// Which of n shards comes as number i.
uint64_t read_order_shard(const struct read_order *o, uint64_t n, uint64_t i);
// Which of the n samples of window w comes as number i.
uint64_t read_order_window(const struct read_order *o, uint64_t w, uint64_t n, uint64_t i);
// Which of n runs of window w comes as number i, where samples are grouped (read/group.h).
uint64_t read_order_run(const struct read_order *o, uint64_t w, uint64_t n, uint64_t i);
// The generator of a sample's own choices (crop, flip, colours).
void read_order_sample(const struct read_order *o, const char *shard_name, uint64_t ordinal,
                       struct rng *r);
// First place of part i of n of `total` samples: the parts are [start(i), start(i + 1)).
uint64_t read_order_part(uint64_t total, uint64_t i, uint64_t n);

// "A/B", A from 1, of at most 64 bits: *part from 0 and *n_parts. False: anything else.
bool read_order_parse(const char *text, uint64_t *part, uint64_t *n_parts);

#endif
