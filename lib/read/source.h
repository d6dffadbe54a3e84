// SPDX-License-Identifier: Apache-2.0
// The first step of the pipeline: brings samples out of the shards in the order of the run. See
// read.h for the order.
#ifndef READ_SOURCE_H
#define READ_SOURCE_H

#include "read/skip.h"
#include "read/read.h"

enum read_kind { READ_BEGIN, READ_SAMPLE, READ_DROPPED, READ_END, READ_SKIPPED };

// The bytes of one sample: a block of its own.
struct read_sample {
    char *key; // start of the block; NULL when there is none
    uint64_t ordinal;
    unsigned flags;                        // of shard.h
    bool has_image, has_caption, has_json; // the member was there
    const uint8_t *image, *caption, *json; // in the block, a NUL behind each; NULL: not wanted
    size_t image_size, caption_size, json_size;
};

struct read_event {
    enum read_kind kind;
    struct read_shard *shard;     // NULL for READ_SKIPPED
    struct read_sample sample;    // of READ_SAMPLE; of READ_DROPPED the key and the ordinal
    enum sample_status dropped;   // of READ_DROPPED: why, with a reason behind the key
    const char *reason;           // in the sample's block
    const struct read_skip *skip; // of READ_SKIPPED, which comes first; the source's
};

struct read_source;
struct read_source *read_source_new(const struct read_options *o, struct err *e);
void read_source_free(struct read_source *s); // frees the shards too
// 1: *out is the next event, its sample's block now the caller's. 0: the end. -1: error.
int read_source_next(struct read_source *s, struct read_event *out, struct err *e);

#endif
