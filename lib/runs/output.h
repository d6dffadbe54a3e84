// SPDX-License-Identifier: Apache-2.0
// The folder that a run of training makes: owned by one run at a time, never used twice by mistake.
//
// A finished run leaves checkpoints/finished.json: what the run was (options, steps, samples,
// seconds) and the files of the model with their digests. So --overwrite removes what a run made
// and nothing else.
#ifndef RUNS_OUTPUT_H
#define RUNS_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "system/folder-lock.h"
#include "system/lines.h"
#include "runs/checkpoint.h"

struct train_output {
    const char *dir;
    struct folder_lock lock;
    bool made; // by this run
};

// Makes the folder where it is missing, becomes its owner, and removes what killed runs left half
// made. 0, or -1: another run is at work there.
int train_output_take(struct train_output *o, const char *dir, struct err *e);
// Gives the folder back; one that this run made and left empty is removed.
void train_output_release(struct train_output *o);

enum train_start { TRAIN_NEW, TRAIN_RESUME, TRAIN_OVERWRITE };
// Refuses what must not be done there: starting where checkpoints or a model are; going on where
// only a model is (1 with *done set when a finished run tells of itself, released by the caller);
// removing a model that no run made. 0, 1, or -1 with the ways out.
int train_output_check(const struct train_output *o, enum train_start how, struct train_state *done,
                       struct err *e);
// Removes what runs made: model, checkpoints, finished.json, shards.txt. 0 or -1.
int train_output_clear(const struct train_output *o, struct err *e);
// The files that the run began with (train_match), one a line in checkpoints/shards.txt: read, none
// where there is no such file; and written. 0 or -1.
int train_output_shards(const struct train_output *o, struct lines *shards, struct err *e);
int train_output_keep_shards(const struct train_output *o, const char *names, struct err *e);
// Exports the model, then writes finished.json. 0 or -1.
int train_output_finish(const struct train_output *o, struct train_core *c,
                        const struct train_state *s, const char *tokenizer, bool hf, struct err *e);

// Marks the model as new: what it was made from has not changed. 0 or -1.
int train_output_touch(const struct train_output *o, struct err *e);

#endif
