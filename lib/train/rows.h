// SPDX-License-Identifier: Apache-2.0
// Rows of a folder of NPY files, one file a shard, found by the shard's name and the sample's
// ordinal in it: stored teacher embeddings, labels. Files are opened when their shard comes and
// closed when it has ended; then the key digest of their sidecar is compared with the shard's.
#ifndef TRAIN_ROWS_H
#define TRAIN_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "formats/npy.h"
#include "formats/samples.h"
#include "formats/sidecar.h"

struct train_file {
    bool open;
    struct npy npy;
    struct sidecar side;
};

struct train_rows {
    const char *dir;
    bool labels;              // <i4; otherwise <f2 or <f4
    size_t dim;               // columns
    struct train_file *files; // by the number of the shard in the stream
    size_t n, cap;
    _Atomic uint64_t no_sidecar; // files that had none
    _Atomic uint64_t
        partial; // opened, of a part of a shard (sidecar.h), and keys not compared (yet)
};

// Files of `dim` columns in `dir` (train/count.h).
void train_rows_open(struct train_rows *r, const char *dir, bool labels, size_t dim);
void train_rows_close(struct train_rows *r);
// Begins a new epoch: shards are counted from 0 again. Closes and checks the open files.
void train_rows_restart(struct train_rows *r);
// Copies the row of a sample into out, float32 [dim] (labels: int32 [dim]). 1, 0 if the row marks a
// failed sample (zeros; label -1), -1 if there is no such file or row.
int train_rows_get(struct train_rows *r, const struct samples_record *s, void *out, struct err *e);
// Closes the files of shards that have ended, and compares rows and key digests where all keys of
// the shard are known: with masks and slices too.
int train_rows_sweep(struct train_rows *r, const struct samples_reader *stream, struct err *e);

#endif
