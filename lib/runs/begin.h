// SPDX-License-Identifier: Apache-2.0
// A run of training up to its first step: the output folder and the checkpoint that it goes on
// from, data, device, model, log.
#ifndef RUNS_BEGIN_H
#define RUNS_BEGIN_H

#include <stdbool.h>

#include "base/err.h"
#include "runs/output.h"
#include "runs/plan.h"
#include "runs/run.h"

// What the options ask of the output folder.
enum train_start train_begin_how(const struct train_options *o);
// Everything that r->plan needs is opened, checked and read; nothing that was there is changed
// before all of it is known to be right. 0 or -1.
int train_begin(struct train_run *r, struct err *e);
// After train_begin: the run that was found has no step left to do, and was not begun again.
bool train_begin_finished(const struct train_run *r);

#endif
