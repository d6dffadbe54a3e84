// SPDX-License-Identifier: Apache-2.0
// Samples through a model into files: what teacher-embed does once the model is open. One thread
// reads and tokenises, the caller's computes, one writes.
#ifndef EMBED_RUN_H
#define EMBED_RUN_H

#include "model/model.h"
#include "embed/output.h"
#include "embed/source.h"
#include "formats/sidecar.h"
#include "shards/shard-list.h"
#include "system/digest.h"
#include "text/tokenizer.h"

// One set of files and the samples that it is made from.
struct embed_item {
    struct embed_source source;
    struct embed_output output; // its paths; the rest is the run's
    char *paths[2];             // freed by the run, where they are the item's
    struct sidecar sidecar;     // keys, inputs and rows are filled in; released by the run
    struct shard_list shard;    // for the source, where it is one shard; nothing owned
    size_t number;              // the caller's

    // Counted by the run
    uint64_t samples, no_image, no_text; // without a usable picture, caption (where wanted)
    bool failed;                         // reading ended with err; no file is written
    struct err err;
    struct digest *keys, *index; // of the keys: digest.h, read_index_key
    bool open;                   // the output is
};

// Items come one after another; reading goes on to the next while the last batches of the one
// before are computed and written. A batch is of one item, so the files of an item do not depend on
// its neighbours.
struct embed_run {
    struct clip_model *model;          // NULL: tokens only
    const struct tokenizer *tokenizer; // NULL: no captions
    enum npy_type type;                // of the embeddings written
    size_t batch;                      // samples
    bool image, text;                  // embeddings wanted
    bool unit;                         // unit rows
    size_t context;                    // of a row of tokens
    void *ctx;                         // of the functions
    // Fills in source, output's paths and sidecar of the next item (zeroed). From the reading
    // thread. 1, 0: there are no more, -1: the run fails.
    int (*next)(void *ctx, struct embed_item *item, struct err *e);
    // All samples are read and computed. 0: the files may get their names; -1: the item has failed.
    // From the writing thread; may be NULL.
    int (*check)(void *ctx, struct embed_item *item, struct err *e);
    // The item's files are there, or with item->failed are not. From the writing thread. 0, or -1:
    // the run fails.
    int (*done)(void *ctx, struct embed_item *item, struct err *e);
    // Called with the progress, from the writing thread; may be NULL.
    void (*progress)(void *ctx, uint64_t samples);
    void *progress_ctx;

    // Counted by embed_run_all, of items whose files are there
    uint64_t samples, no_image, no_text;
    double read_wait; // seconds that computing waited for samples
};

// Runs to the end of the items. An error in reading an item fails that item alone; an error of the
// device or in writing fails the run, and the unfinished items get no files. 0 or -1.
int embed_run_all(struct embed_run *r, struct err *e);

#endif
