// SPDX-License-Identifier: Apache-2.0
// Prepares a run of training up to its first step: output folder, checkpoint to resume from, data,
// device, model, log.
#ifndef RUNS_BEGIN_H
#define RUNS_BEGIN_H

#include <stdbool.h>

#include "base/err.h"
#include "runs/output.h"
#include "runs/plan.h"
#include "runs/run.h"

// What the options demand of the output folder.
enum train_start train_begin_how(const struct train_options *o);
// The stream of the run and what its samples need.
void train_begin_data_set(const struct train_run *r, struct train_data_set *s);
// Opens, checks and reads everything that r->plan needs. Existing files are changed only after all
// checks have passed. 0 or -1.
int train_begin(struct train_run *r, struct err *e);
// After train_begin: true if the run to resume has no step left, so that there is nothing to do.
bool train_begin_finished(const struct train_run *r);

#endif
