// SPDX-License-Identifier: Apache-2.0
// Checkpoints: OUT/checkpoints/step-00001234/, a model folder with optimizer.safetensors (moments
// "m.NAME" and "v.NAME", averages "ema.NAME"; centroids and projections, which are no part of the
// model), state.json and time.json (runs/state.h). A checkpoint appears whole or not at all.
#ifndef RUNS_CHECKPOINT_H
#define RUNS_CHECKPOINT_H

#include <limits.h>
#include <stddef.h>

#include "base/err.h"
#include "model/folder.h"
#include "runs/checkpoint-dir.h"
#include "runs/state.h"
#include "train/step.h"

// Writes OUT/checkpoints/step-N, in place of one that is there, then removes those up to step N
// that `keep` does not name. The tokenizer's files are copied from `tokenizer`. `path` gets its
// name. On failure nothing of it is left. With ranks (train_set.comm) all of them call it, rank 0
// writes, and the result is the same on all; the bytes do not depend on their number. 0 or -1.
int train_checkpoint_write(const char *out, struct train_core *c, const struct train_state *s,
                           const char *tokenizer, const struct checkpoint_keep *keep,
                           char path[PATH_MAX], struct err *e);
// Weights, moments, centroids, projections into an open core. 0 or -1.
int train_checkpoint_load(const char *path, struct train_core *c, const struct train_state *s,
                          struct err *e);
// The weights of this moment and their average (model_get_fn; user: struct train_core *).
model_get_fn train_get_trained, train_get_averaged;
// The trained model into folder `out`, and its average into out/ema, in the layouts of
// model_layouts_of.
int train_export(const char *out, struct train_core *c, const char *tokenizer, bool hf,
                 struct err *e);

#endif
