// SPDX-License-Identifier: Apache-2.0
// Counts the training data from the files beside the shards: the width of the teacher's embeddings,
// the number of labels of a sample, and the number of samples of an epoch. A sample counts if its
// keep mask is 1, none of its teacher rows is all zeros (a failed picture or caption), and none of
// its labels is below 0.
#ifndef TRAIN_COUNT_H
#define TRAIN_COUNT_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "losses/losses.h"

// Folders with one NPY a shard, NAME.npy for NAME.tar; NULL: not used.
struct train_folders {
    const char *image, *text; // the teacher's embeddings: <f2 or <f4, (rows, dim)
    // The same of other teachers, whose widths may differ; both of one, then none.
    const char *others[LOSS_TEACHERS_MAX - 1][2];
    const char *labels; // <i4, (rows,) or (rows, labels)
    const char *keep;   // |u1, (rows,)
    const char *shards; // file with a line a shard (its path), of those that will be read;
                        // NULL: each shard for which every folder has a file
    bool partial;       // files and folders may be missing: they are not made yet
};

struct train_count {
    size_t dim_t; // columns of the embeddings; 0: no folder of them
    size_t dim_others[LOSS_TEACHERS_MAX - 1];
    size_t n_label; // labels a sample; 0: no folder
    bool missing;   // `partial`, and something is not there yet
    bool counted;   // what follows is known
    uint64_t shards, rows;
    uint64_t dropped, no_teacher, no_label; // of rows; the first that applies
    uint64_t samples;                       // the others: an epoch
    uint64_t foreign;                       // NPY files that are no part of the data
    char foreign_name[PATH_MAX];            // the first of them
};

// Fills in dim_t and n_label, with `count` also the counts. Counting reads the masks, the labels
// and, if the sidecars of the embeddings do not list the failed rows, the remaining rows of the
// embeddings. Every folder must have a file for each shard named in f->shards. 0 or -1.
int train_count_read(const struct train_folders *f, bool count, int threads, struct train_count *c,
                     struct err *e);

#endif
