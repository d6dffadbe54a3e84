// SPDX-License-Identifier: Apache-2.0
// The bytes of one shard, read through libarchive: a file, a URL, standard input or memory. Tells
// two failures apart: a read that the system refused and lack of memory are errors of the machine
// (err.machine); all others are damage of the archive.
#ifndef SHARDS_SHARD_INPUT_H
#define SHARDS_SHARD_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "remote/remote.h"

struct archive;
struct archive_entry;

struct shard_input {
    struct archive *a;
    int fd;               // -1: memory
    bool own_fd;          // to be closed
    bool can_seek;        // a plain file
    int error;            // errno of a read that failed, or 0
    off_t size;           // bytes of a plain file from where reading began, or -1
    const uint8_t *block; // the last bytes read, n_block of them
    uint8_t *own_block;
    size_t block_bytes, n_block;
    struct remote_object *object; // a file on another machine, or NULL
    struct err why;               // of `error` there
    uint64_t n_read;              // bytes of all blocks and of what was skipped, so far
};

// Opens a file, or standard input when path is "-"; with `scan` in small blocks, for a reader that
// skips most members. A URL, or a link (shard-link.h), is read by `r`, which outlives the input. 0;
// -1 with e set. What is not a tar shows at the first header.
int shard_input_open(struct shard_input *in, const char *path, bool scan, struct remote *r,
                     struct err *e);
// The same over memory, the caller's until shard_input_close.
int shard_input_open_memory(struct shard_input *in, const void *data, size_t n, struct err *e);
void shard_input_close(struct shard_input *in); // safe on a zeroed one

// The next member: 1 and *entry, 0 at the end of all archives in the file, -1 with e set.
int shard_input_next(struct shard_input *in, struct archive_entry **entry, struct err *e);
// Up to n bytes of the current member; holes of a sparse one are zeros. 0 at its end; -1 with e
// set.
ssize_t shard_input_read(struct shard_input *in, void *to, size_t n, struct err *e);

#endif
