// SPDX-License-Identifier: Apache-2.0
// Batches for training: samples of the stream, tokenised, with their teacher rows and labels. A
// thread prepares one batch ahead. Samples without a picture, caption, teacher row or label that
// the losses need are skipped and counted. A batch may span epochs.
#ifndef RUNS_DATA_H
#define RUNS_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"
#include "text/tokenizer.h"
#include "train/rows.h"
#include "runs/source.h"
#include "train/step.h"

struct train_counts {
    uint64_t read;       // samples of the stream
    uint64_t used;       // put into batches
    uint64_t incomplete; // without picture or caption
    uint64_t no_teacher; // without a teacher row
    uint64_t no_label;
};

struct train_data_set {
    const char *path, *command; // train_source_open
    uint64_t seed, epochs;
    const char *teacher_image, *teacher_text, *labels; // folders, or NULL
    const char *tokenizer;
    size_t batch;
    size_t dim_t, n_label; // columns of the teacher's embeddings and of the labels
};

// One batch, and where the data stand after it.
struct train_made {
    struct train_batch b;
    struct train_pos pos;
    struct train_counts counts;
};

struct train_data;

// Opens stream (at pos) and folders; the tokenizer is opened and the thread starts at
// train_data_start. NULL with e set.
struct train_data *train_data_open(const struct train_data_set *set, const struct train_pos *pos,
                                   const struct train_counts *counts, struct err *e);
const struct samples_header *train_data_header(const struct train_data *d);
bool train_data_skip_unknown(const struct train_data *d);   // what --data left out was not compared
uint64_t train_data_no_sidecar(const struct train_data *d); // files opened that had none
uint64_t train_data_partial(const struct train_data *d);    // files of parts, keys not compared
// For pictures and token rows of this model. 0 or -1: they do not fit each other.
int train_data_start(struct train_data *d, const struct clip_config *c, struct err *e);
// The next batch, whole, good until the next call: 1; 0 at the end of the data; -1; 2 when a signal
// asked for the end while waiting.
int train_data_next(struct train_data *d, const struct train_made **m, struct err *e);
// The number of samples of the last batch that was not filled. Valid after train_data_next has
// returned 0.
size_t train_data_left(const struct train_data *d);
// Ends the thread and frees all. If the thread hangs in a read from standard input, it keeps
// running and its memory is not freed.
void train_data_close(struct train_data *d);
// Bytes of host memory of the two batches.
size_t train_data_bytes(const struct clip_config *c, size_t batch, size_t dim_t, size_t n_label);

#endif
