// SPDX-License-Identifier: Apache-2.0
// Where teacher-embed's samples come from: a samples(5) stream, or shards read directly.
#ifndef EMBED_SOURCE_H
#define EMBED_SOURCE_H

#include <stdbool.h>

#include "config/config.h"
#include "base/err.h"
#include "image/picture.h"
#include "formats/samples.h"
#include "remote/remote.h"
#include "shards/shard-list.h"

struct embed_source {
    struct samples_reader *stream;   // or
    const struct shard_list *shards; // read with `threads` threads; neither: no samples
    struct remote *remote;           // reads URLs among them, or NULL
    const struct clip_config *cfg;
    bool partial;           // take shards that end in damage
    bool images, captions;  // wanted
    const char *caption;    // of shards: the member of a sample's json that it is, or NULL
    enum image_alpha alpha; // of shards' pictures
    uint64_t max_pixels;
    const struct select *select; // shards' samples that it does not take have no picture; or NULL
    const struct read_picture *augment; // of shards: its random choices; NULL: none
    uint64_t seed, view;
    int threads;
};

// Checks that a stream's pictures are as the model needs them: size, resize, interpolation, mean
// and std. 0, or -1 naming what differs. *warning: one line for the user, or "".
int embed_source_check(const struct embed_source *s, struct err *warning, struct err *e);

// Calls `put` for every sample, in order; a 1 from it stops. Calls `shard` with the name of each
// shard, in order, also of those without samples; `part`: not all of its samples came. Refuses a
// damaged shard unless s->partial, because the rows of a part would be taken for the whole. 0 or
// -1.
struct embed_sink {
    void *ctx;
    int (*put)(void *ctx, const struct samples_record *r, struct err *e);
    int (*shard)(void *ctx, const char *name, bool part, struct err *e);
};
int embed_source_run(const struct embed_source *s, const struct embed_sink *to, struct err *e);

#endif
