// SPDX-License-Identifier: Apache-2.0
// Counts of a run over shards, for the last line of shard-read.
#ifndef READ_ACCOUNT_H
#define READ_ACCOUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/samples.h"

struct read_account {
    uint64_t samples, bad;            // delivered; those of them that are bad
    uint64_t status[SAMPLE_N_STATUS]; // of the bad ones
    uint64_t shared_keys;             // not bad: the key is another shard's too
    uint64_t dropped;                 // by keep masks and --select
    uint64_t damaged;                 // shards
};

// Counts a delivered sample; `bad`: see struct read_sink.
void read_account_add(struct read_account *a, const struct samples_record *r, bool bad);
// Writes "12 samples, 1 bad, 1 no-image; 3 dropped by keep masks; 1 damaged shards" and returns its
// length. `left_out`: the words after the number of dropped samples; NULL if none can be dropped.
size_t read_account_text(const struct read_account *a, const char *left_out, char *text,
                         size_t size);

#endif
