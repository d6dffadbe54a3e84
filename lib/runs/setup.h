// SPDX-License-Identifier: Apache-2.0
// Set-up before the first step: the student's config, its first weights, the centroids, the memory
// plan.
#ifndef RUNS_SETUP_H
#define RUNS_SETUP_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"
#include "base/err.h"
#include "formats/samples.h"
#include "runs/match.h"
#include "runs/plan.h"
#include "system/log.h"
#include "train/step.h"

// The student's config: o->student, or the config of the folder o->init where that is NULL; its
// preprocessing completed from the stream's header (NULL: none) where the config says nothing; with
// `bias` (siglip) a logit_bias of -10 where it has none. With --towers the tower that is not
// trained has the teacher's shape, and embed_dim must be the teacher's. 0 or -1.
int train_setup_config(struct clip_config *c, const struct train_options *o,
                       const struct samples_header *h, bool bias, struct err *e);
// The parts of the memory plan as text: "4.1 GiB (weights and gradients 1.2, ...)".
void train_setup_memory_text(const struct train_memory *m, char *text, size_t room);
// Number of the centroids (NPY <f4 or <f2) into s->k; they must be as wide as s->dim_t, which is
// set where it is 0. 0 or -1.
int train_setup_centroid_size(const char *path, struct train_set *s, struct err *e);
// Then the centroids themselves, into the open core. 0 or -1.
int train_setup_centroids(struct train_core *c, const char *path, struct err *e);
// First weights: open_clip's initialisation, and over it what the folders of --init, --init-image
// and --init-text give, which is noted. 0 or -1.
int train_setup_weights(struct train_core *c, const struct train_options *o, struct log *log,
                        struct err *e);
// The latter alone, into flat, which has first values; NULL: checked and noted only. 0 or -1.
int train_init_take(const struct clip_table *t, const struct train_options *o, float *flat,
                    struct log *log, struct err *e);
// The options of a run that change its result, which --resume compares (train_options_same). `id`:
// the inputs. A new object, or NULL with e set.
cJSON *train_setup_options(const struct train_core *c, const struct clip_config *cfg,
                           const struct train_identity *id, struct err *e);

#endif
