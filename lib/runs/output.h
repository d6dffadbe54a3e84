// SPDX-License-Identifier: Apache-2.0
// The output folder of a run of training. One run at a time owns it, and a later run does not use
// it by mistake.
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

// Creates the folder if it is missing, locks it, and removes unfinished files of runs that were
// killed. 0, or -1 if another run holds the lock.
int train_output_take(struct train_output *o, const char *dir, struct err *e);
// Unlocks the folder; removes it if this run created it and left it empty.
void train_output_release(struct train_output *o);

enum train_start { TRAIN_NEW, TRAIN_RESUME, TRAIN_OVERWRITE };
// Refuses to start where checkpoints or a model are, to resume where only a model is, and to remove
// a model that no run made. 0, 1 if a finished run is there (*done: its state, released by the
// caller), or -1 with the options that would help.
int train_output_check(const struct train_output *o, enum train_start how, struct train_state *done,
                       struct err *e);
// Removes what runs made: model, checkpoints, finished.json, shards.txt. 0 or -1.
int train_output_clear(const struct train_output *o, struct err *e);
// Reads and writes the list of files that the run began with (train_match), one a line in
// checkpoints/shards.txt; reading gives none if there is no such file. 0 or -1.
int train_output_shards(const struct train_output *o, struct lines *shards, struct err *e);
int train_output_keep_shards(const struct train_output *o, const char *names, struct err *e);
// Exports the model, then writes finished.json. 0 or -1.
int train_output_finish(const struct train_output *o, struct train_core *c,
                        const struct train_state *s, const char *tokenizer, bool hf, struct err *e);

// Sets the model's time to now, because its inputs have not changed. 0 or -1.
int train_output_touch(const struct train_output *o, struct err *e);

#endif
