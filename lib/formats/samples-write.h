// SPDX-License-Identifier: Apache-2.0
// Writes a samples stream (samples.h).
//
//     struct samples_writer *w = samples_writer_new(&out, &header, &e);
//     samples_skip(w, n, chain, &e)                       with --skip, first of all
//     samples_begin_shard(w, "00000.tar", &id, &e)        before the first sample of it
//     samples_write(w, &record, &e) ...                   record.shard = id; row, shard_name unused
//     samples_end_shard(w, id, whole, rows, keys, &e)     after the last; may come late (shuffle)
//     samples_finish(w, &e)                               the trailer; then out_commit
#ifndef FORMATS_SAMPLES_WRITE_H
#define FORMATS_SAMPLES_WRITE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "system/io.h"
#include "formats/samples.h"

struct samples_writer;

// Writes the header to `out`, which stays the caller's. NULL with e set.
struct samples_writer *samples_writer_new(struct out *out, const struct samples_header *h,
                                          struct err *e);
// Announces a shard; *id counts from 0. The name is cut to its last path part.
int samples_begin_shard(struct samples_writer *w, const char *name, uint32_t *id, struct err *e);
// Before the first shard: how many samples the stream leaves out at its start, and their chained
// digest in its order (samples_chain).
int samples_skip(struct samples_writer *w, uint64_t n, const uint8_t chain[DIGEST_BYTES],
                 struct err *e);
// One sample. The image must be what the header says: size * size * 3 bytes, encoded bytes, or
// none. row and shard_name are not looked at.
int samples_write(struct samples_writer *w, const struct samples_record *s, struct err *e);
enum samples_end {
    SAMPLES_END_PART,  // samples were left out by choice
    SAMPLES_END_WHOLE, // all were written
    SAMPLES_END_DAMAGED,
};
// The shard is done: its number of samples and, when all its keys were read, their digest in the
// order of the tar (NULL otherwise).
int samples_end_shard(struct samples_writer *w, uint32_t id, enum samples_end end, uint64_t rows,
                      const char *keys, struct err *e);
// Writes the trailer. 0 or -1.
int samples_finish(struct samples_writer *w, struct err *e);
void samples_writer_free(struct samples_writer *w);

#endif
