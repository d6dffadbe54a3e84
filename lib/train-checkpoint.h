// SPDX-License-Identifier: Apache-2.0
// Checkpoints: OUT/checkpoints/step-00001234/, a model folder with optimizer.safetensors (moments
// "m.NAME" and "v.NAME"; centroids and projections, which are no part of the model) and state.json.
// A checkpoint appears whole or not at all.
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H

#include <cjson/cJSON.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "train-data.h"
#include "train-step.h"

enum { TRAIN_CHECKPOINTS = 2 }; // kept

struct train_state {
    uint64_t step;    // steps done, skipped ones among them
    uint64_t taken;   // steps of the optimiser
    uint64_t samples; // trained on
    struct train_pos pos;
    struct train_counts counts;
    cJSON *options; // what the run was started with, as far as it changes the result; owned
};

void train_state_release(struct train_state *s);

// Writes OUT/checkpoints/step-N (nothing to do when it is there), then removes all but the newest
// `keep` of them. The tokenizer's files are copied from `tokenizer`. `path` gets its name. 0 or -1.
int train_checkpoint_write(const char *out, struct train_core *c, const struct train_state *s,
                           const char *tokenizer, size_t keep, char path[PATH_MAX], struct err *e);
// The newest checkpoint of OUT: 1 with its path, 0 there is none, -1. Removes what a killed run
// left half written.
int train_checkpoint_latest(const char *out, char path[PATH_MAX], struct err *e);
// state.json. 0 or -1.
int train_checkpoint_state(const char *path, struct train_state *s, struct err *e);
// Weights, moments, centroids, projections into an open core. 0 or -1.
int train_checkpoint_load(const char *path, struct train_core *c, const struct train_state *s,
                          struct err *e);
// 0 when both are equal, else -1 with the first option that differs and its values.
int train_options_same(const cJSON *was, const cJSON *is, struct err *e);
// The trained model into folder `out`, in open_clip's layout, and Hugging Face's with `hf`.
int train_export(const char *out, struct train_core *c, const char *tokenizer, bool hf,
                 struct err *e);

#endif
