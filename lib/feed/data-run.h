// SPDX-License-Identifier: Apache-2.0
// Private to data.c and fill.c: batches under construction.
#ifndef FEED_DATA_RUN_H
#define FEED_DATA_RUN_H

#include <pthread.h>

#include "feed/data.h"
#include "train/names.h"
#include "train/usable.h"

// Folders with rows: images and texts of each teacher, then labels.
enum { ROWS_LABELS = 2 * LOSS_TEACHERS_MAX, ROWS_FOLDERS };
enum { SLOTS = 2 };

struct batch_slot {
    struct train_batch b;
    struct train_place *places; // of this rank's streams, after the batch
    uint8_t *pixels;            // of this rank's rows
    int32_t *tokens;            // the same, and one row more
    int32_t *labels;            // of all rows
    uint64_t *draw;             // of this rank's rows: train/drop.h
    char *keys;                 // of the samples read
    size_t n_keys, cap_keys;
    float *teacher[ROWS_LABELS];
    bool full;
};

// A stream of samples and the rows of the batch that it fills.
struct data_stream {
    struct train_source source;
    struct train_rows rows[ROWS_FOLDERS];
    bool has[ROWS_FOLDERS];
    struct train_names names;
    size_t row, end;
    struct train_counts counts;
    struct train_usable usable; // of the epoch
    uint64_t epoch;             // which it is
    char epoch_name[96];        // for messages
};

struct train_data {
    struct train_data_set set;
    struct data_stream *streams;    // of this rank
    size_t n_streams, first_stream; // streams; of all ranks' streams, the first of these
    size_t first, own;              // rows of the batch that this rank has
    bool has[ROWS_FOLDERS];
    struct tokenizer *tok;
    struct clip_config cfg;
    size_t dim[ROWS_FOLDERS], picture; // columns of the rows; 0: there are none

    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    bool started, stop, done; // done: the thread has ended
    int rc;                   // 0 at the end of the data, -1 with `failure`
    struct err failure;
    size_t left;
    struct batch_slot slots[SLOTS];
    size_t in, out; // batches made, taken
};

// Folder k of stream i; NULL: it is not used. Pictures of another epoch may be seen otherwise by
// the teacher too.
const char *data_folder(const struct train_data *d, size_t i, int k, uint64_t epoch);
// Sets of a mixture; 0: none.
size_t data_mixed(const struct train_data *d);
// Compares the shards that have ended with their files; ctx: struct data_stream. 0 or -1.
int data_sweep(void *ctx, const struct samples_reader *stream, struct err *e);
// The next batch of this rank: 1, 0 at the end of the data, -1.
// Whether samples are read for a tower (enum clip_tower_id).
bool data_takes(const struct train_data *d, int tower);
int data_fill(struct train_data *d, struct batch_slot *s, struct err *e);

#endif
