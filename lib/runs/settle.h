// SPDX-License-Identifier: Apache-2.0
// Settings that depend on a run's files, its model and the machine's memory: the length of the
// schedule, the projection, the pieces of a batch. Each is reported in a line of the log. A resumed
// run takes them from its checkpoint, so that the result stays the same to the bit.
#ifndef RUNS_SETTLE_H
#define RUNS_SETTLE_H

#include <cjson/cJSON.h>

#include "config/config.h"
#include "base/err.h"
#include "system/log.h"
#include "train/count.h"
#include "runs/plan.h"
#include "train/step.h"

// From the files beside the shards, and --teacher: s->dim_t, s->n_label, and the schedule. `was`:
// options of the checkpoint that the run goes on from (train_setup_options), or NULL. 0 or -1.
int train_settle_data(const struct train_plan *p, const cJSON *was, struct train_set *s,
                      struct log *log, struct err *e);
// *dealt: the pieces of a batch, each of which has streams of its own, where the command of --data
// has {part}; else 0. s->accumulate is then set: as given, of the checkpoint, else one of
// each rank. 0 or -1: they are not of one size.
int train_settle_dealt(const struct train_plan *p, const cJSON *was, struct train_set *s,
                       size_t *dealt, struct err *e);
// From the student's config and the centroids (s->k of s->dim_t columns): the losses, projection,
// pieces; refuses what does not fit into memory. 0 or -1.
int train_settle_core(const struct train_plan *p, const struct clip_config *cfg, const cJSON *was,
                      struct train_set *s, struct dev *d, struct log *log, struct err *e);
// A number of the checkpoint's options; 0: it has none.
uint64_t train_settle_was(const cJSON *was, const char *name);
// --dry-run: reads the files that exist, logs the plan line by line, writes nothing. 0 or -1.
int train_dry_run(const struct train_plan *p, struct log *log, struct err *e);

#endif
