// SPDX-License-Identifier: Apache-2.0
// Batches for training: samples of the stream, tokenised, with their teacher rows and labels. A
// thread prepares one batch ahead. Samples without a picture, caption, teacher row or label that
// the losses need are skipped and counted. A batch may span epochs.
//
// With `dealt` D the batch is in D pieces of as many rows, those of --accumulate, and each has a
// stream of its own: the command with {part} of {parts}, as shard-read --part has them. (What the
// code else calls parts are those of the gradients' sum, train/step.h.) A rank reads its pieces
// alone, one after another; teacher rows and labels of the others come from their ranks. So the
// batch is the same for any number of ranks. A stream whose samples have ended goes on into its
// next epoch by itself and never ends the data. A piece of a mixture is a mixture itself, by the
// same weights; its streams are those of its sets, one after another.
#ifndef FEED_DATA_H
#define FEED_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "comm/comm.h"
#include "config/config.h"
#include "text/tokenizer.h"
#include "train/rows.h"
#include "feed/mix.h"
#include "feed/source.h"
#include "train/teachers.h"
#include "train/step.h"

struct train_counts {
    uint64_t read;       // samples of the stream
    uint64_t used;       // put into batches
    uint64_t incomplete; // without picture or caption
    uint64_t no_teacher; // without a teacher row
    uint64_t no_label;
};

// Where a stream stands, and what came of it.
struct train_place {
    struct train_pos pos;
    struct train_counts counts;
};

// A set of a mixture, with what its samples need.
struct train_stream {
    const char *command, *labels;
    const struct teacher_dirs *dirs[2];
};

struct train_data_set {
    const struct mix *mix; // NULL: one command; else a stream a set, of each piece that is dealt
    const struct train_stream *streams; // [mix->n]
    const char *path, *command;         // train_source_open
    uint64_t seed, epochs;
    uint64_t views; // of the pictures; 0: none
    size_t dealt;   // pieces that the ranks divide; 0: every rank reads all samples
    size_t rank, ranks;
    const struct teacher_dirs *dirs[2]; // image, text; or NULL
    const char *labels;                 // folder, or NULL
    const char *tokenizer;
    size_t batch;
    const size_t *dim_of;    // columns of the teachers' embeddings
    size_t n_label;          // columns of the labels
    enum loss_towers towers; // a sample needs only what these take: its picture, its caption
};

struct train_data;

// Opens the streams of this rank at their places (of all ranks) and the folders;
// the tokenizer is opened and the thread starts at train_data_start. NULL with e set.
struct train_data *train_data_open(const struct train_data_set *set,
                                   const struct train_place *places, struct err *e);
const struct samples_header *train_data_header(const struct train_data *d);
bool train_data_skip_unknown(const struct train_data *d);   // what --data left out was not compared
uint64_t train_data_no_sidecar(const struct train_data *d); // files opened that had none
uint64_t train_data_partial(const struct train_data *d);    // files of parts, keys not compared
// For pictures and token rows of this model. 0 or -1: they do not fit each other.
int train_data_start(struct train_data *d, const struct clip_config *c, struct err *e);
// The next batch, whole, good until the next call: 1; 0 at the end of the data; -1; 2 when a signal
// asked for the end while waiting. Of dealt pieces, teacher rows and labels are this rank's only.
int train_data_next(struct train_data *d, struct train_batch *b, struct err *e);
// All ranks, before they use the batch that train_data_next gave each: of dealt pieces, teacher
// rows and labels of the others. places[of all streams]: where the streams stand after this batch.
// 0 or -1.
int train_data_share(struct train_data *d, struct comm *comm, struct train_place *places,
                     struct err *e);
// The number of samples of the last batch that was not filled. Valid after train_data_next has
// returned 0.
size_t train_data_left(const struct train_data *d);
// Ends the thread and frees all. If the thread hangs in a read from standard input, it keeps
// running and its memory is not freed.
void train_data_close(struct train_data *d);
// Bytes of host memory of the two batches on one of so many ranks; dim_t: columns of all teachers.
size_t train_data_bytes(const struct clip_config *c, size_t batch, size_t ranks, size_t dim_t,
                        size_t n_label, enum loss_towers towers);

#endif
