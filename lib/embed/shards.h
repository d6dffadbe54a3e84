// SPDX-License-Identifier: Apache-2.0
// A file of embeddings for each of many shards, DIR/STEM.npy, made by one process. Each appears
// whole or not at all, so a run that was killed goes on at the first shard whose files are missing.
// The functions are those of struct embed_run.
#ifndef EMBED_SHARDS_H
#define EMBED_SHARDS_H

#include <stdatomic.h>
#include <stdbool.h>

#include "embed/run.h"

struct embed_shards {
    const struct shard_list *list;     // no two of one stem: shard_list_check_names
    const char *image_dir, *text_dir;  // folders; NULL: not wanted
    const char *index_dir;             // of DIR/STEM.tsv that the keys have to be those of, or NULL
    const struct embed_source *source; // how to read; its shards are set for each
    const struct sidecar *like;        // tool, version, arguments and model of each sidecar
    bool resume;                       // pass over files that are there and belong
    void (*tell)(void *ctx, const char *path, const struct err *failed); // NULL: files are there
    void *ctx;

    size_t at;                   // the next of the list
    size_t made, passed, failed; // shards
    atomic_ullong passed_rows;   // samples of the shards passed over
    struct err first;            // of the failures
};

// Files belong when image and text are of the same samples, tool, version, arguments and model are
// those of `like`, the keys are those of the index, and none is older than the shard.
int embed_shards_next(void *shards, struct embed_item *item, struct err *e);
// Refuses keys that are not those of the index.
int embed_shards_check(void *shards, struct embed_item *item, struct err *e);
int embed_shards_done(void *shards, struct embed_item *item, struct err *e);

#endif
