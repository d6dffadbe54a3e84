// SPDX-License-Identifier: Apache-2.0
// What a run over shards came to, for the last line of shard-read.
#ifndef READ_ACCOUNT_H
#define READ_ACCOUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/samples.h"

struct read_account {
    uint64_t samples, bad;            // handed out; those that are bad
    uint64_t status[SAMPLE_N_STATUS]; // of the bad ones
    uint64_t shared_keys;             // not bad: the key is another shard's too
    uint64_t dropped;                 // by keep masks and --select
    uint64_t damaged;                 // shards
};

// Counts a sample that was handed out; `bad` as struct read_sink has it.
void read_account_add(struct read_account *a, const struct samples_record *r, bool bad);
// "12 samples, 1 bad, 1 no-image; 3 dropped by keep masks; 1 damaged shards"; `left_out`: what
// stands behind the number of those dropped, NULL where none could be. The length.
size_t read_account_text(const struct read_account *a, const char *left_out, char *text,
                         size_t size);

#endif
