// SPDX-License-Identifier: Apache-2.0
// The index of each of many shards, DIR/STEM.tsv (read/index.h), made by one process. Each appears
// whole or not at all. A shard that is not there has an empty index and DIR/STEM.missing, a damaged
// one the index of what could be read and DIR/STEM.damaged; both files say why.
#ifndef READ_INDEX_SHARDS_H
#define READ_INDEX_SHARDS_H

#include "read/read.h"

enum index_told {
    INDEX_DAMAGED, // the index has what could be read
    INDEX_MISSING, // the index is empty
    INDEX_FAILED   // no index: an error of the machine
};

struct index_shards {
    const struct read_options *read; // its shards; each is a run of its own
    const char *dir;
    bool resume; // pass over a shard whose index is there and not older
    // Called for each sample like struct read_sink's. 0, or -1 to end the run.
    int (*sample)(void *ctx, struct read_shard *s, const struct samples_record *r, bool bad,
                  struct err *e);
    // Called for each shard that is damaged, missing or unreadable; `why` names it.
    void (*tell)(void *ctx, enum index_told what, const struct err *why);
    void *ctx;

    size_t made, passed, missing, damaged, failed; // shards; made counts missing and damaged ones
    uint64_t passed_bytes;                         // of the shards passed over
    struct err first;                              // of the failures
};

// 0, or -1 where the index cannot be written or a shard has failed.
int index_shards_run(struct index_shards *s, struct err *e);

#endif
