// SPDX-License-Identifier: Apache-2.0
// What teacher-embed does: opens samples or shards and a model, writes embeddings and token ids.
#ifndef EMBED_STAGE_H
#define EMBED_STAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "embed/run.h"
#include "embed/shards.h"
#include "formats/sidecar.h"
#include "model/model.h"
#include "read/augment.h"
#include "read/select.h"
#include "shards/shard-list.h"
#include "shards/shard-remote.h"
#include "system/cli.h"
#include "system/lines.h"
#include "system/log.h"
#include "system/progress.h"

// The options of teacher-embed(1), by their names.
struct embed_stage_options {
    const char *model, *tokenizer, *device;
    const char *image_out, *text_out, *tokens_out; // NULL: not given; so with the next ones
    const char *image_dir, *text_dir, *index_dir, *shards_from, *select, *caption;
    struct cli_list shards;
    struct remote_options remote;
    uint64_t batch, max_pixels;
    uint64_t size; // 0: not given
    int dtype;     // enum dev_type
    int out_dtype; // 1: float32, else float16
    int alpha;     // enum image_alpha
    bool images, normalize, shortcuts, emulate, partial, resume;
    bool batch_given;
    int crop; // 1: random
    uint64_t seed, view;
    struct read_augment augment; // but its `random`
};

// The default of cli_common.output ("-"): -o was not given if output still has this address.
extern const char embed_stage_stdout[];

// One run. Zeroed before embed_stage_prepare. Must not move or be freed before the process ends,
// because a signal handler reads `written`.
struct embed_job {
    const struct embed_stage_options *o;
    const struct cli_common *common;
    struct log *log;
    struct progress progress;
    struct shard_list shards;
    struct lines list; // of --shards-from
    struct read_picture augment;
    bool augmented;
    struct select *select;
    struct clip_weights weights;
    struct dev dev;
    struct clip_model model;
    struct tokenizer *tokenizer;
    struct embed_source source;
    struct embed_output output; // its paths
    bool captions;              // are read
    struct sidecar sidecar;
    struct embed_shards many; // with --image-dir or --text-dir
    struct embed_run run;
    atomic_ullong written; // samples, for the line at a signal
};

// Decides which output goes where, and lists the shards. Opens nothing but --shards-from. o and
// common stay the caller's and outlive s. -1 with e; *usage: the command line is wrong, not a file
// or folder that cannot be read.
int embed_stage_prepare(struct embed_job *s, const struct embed_stage_options *o,
                        const struct cli_common *common, bool *usage, struct err *e);
// Embeds all samples and writes the files, each whole or not at all. argv: the command as it was
// given, for the sidecars. 0 or -1.
int embed_stage_run(struct embed_job *s, int argc, char *const *argv, struct log *l, struct err *e);
void embed_stage_release(struct embed_job *s); // safe on a zeroed struct

// A file for each shard: --image-dir or --text-dir.
static inline bool embed_in_folders(const struct embed_job *s)
{
    return s->o->image_dir || s->o->text_dir;
}

#endif
