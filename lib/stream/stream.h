// SPDX-License-Identifier: Apache-2.0
// What shard-read does: shards in, a stream of samples out, an index and the bare pixels beside it;
// or an index for each shard.
#ifndef STREAM_STREAM_H
#define STREAM_STREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "formats/npy-write.h"
#include "formats/samples-write.h"
#include "config/config.h"
#include "read/index-shards.h"
#include "read/account.h"
#include "read/read.h"
#include "read/select.h"
#include "shards/shard-link.h"
#include "shards/shard-list.h"
#include "shards/shard-remote.h"
#include "system/cli.h"
#include "system/io.h"
#include "system/log.h"
#include "system/progress.h"

// The options of shard-read(1), by their names.
struct stream_options {
    uint64_t size, shuffle, seed, epoch, view, skip;
    uint64_t limit; // UINT64_MAX: none
    uint64_t max_pixels;
    int resize, crop, alpha, images, captions; // places in the choices of the option table
    const char *scale, *ratio, *part;
    const char *jitter; // NULL: not given
    double jitter_prob, gray;
    const char *group_labels;
    uint64_t group;      // 0: not given
    const char *caption; // NULL: not given
    const char *model, *keep, *select, *index, *pixels, *files_from, *index_dir,
        *counts; // NULL: not given
    bool flip, fast, resume;
    struct remote_options remote;
    struct cli_count max_bad;
    bool size_given, resize_given, scale_given, ratio_given, jitter_prob_given, max_bad_given;
    bool view_given;
};

// One run. Zeroed before stream_prepare. Must not move or be freed before the process ends, because
// a signal handler reads `written`.
struct stream {
    const struct stream_options *o;
    const struct cli_common *common;
    struct shard_list shards;
    struct read_options read;
    struct clip_config cfg; // of --model
    struct select *select;  // of --select
    struct log *log;
    struct progress progress;
    struct out out, index;
    struct samples_writer *writer;
    struct npy_writer pixels;
    bool has_index, has_pixels;
    struct index_shards many; // with --index-dir
    uint64_t described;       // bad samples
    struct read_account account;
    atomic_ullong bytes;   // read of the shards
    uint64_t byte_unit;    // of the progress: 1000 or 1000000 bytes; 0: it counts samples
    atomic_ullong written; // samples, for the line at a signal
};

// Checks the options against each other, reads --model and --files-from, lists the shards. Writes
// nothing. o and common stay the caller's and outlive t. -1 with e; *usage: the command line is
// wrong, not a file that cannot be read.
int stream_prepare(struct stream *t, const struct stream_options *o,
                   const struct cli_common *common, bool *usage, struct err *e);
// Reads all shards and writes the outputs, whole or not at all; logs what was read. 0, or -1;
// e->text is empty if the log has the cause already (damaged shards).
int stream_run(struct stream *t, struct log *l, struct err *e);
void stream_release(struct stream *t); // safe on a zeroed struct

#endif
