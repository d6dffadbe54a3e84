// SPDX-License-Identifier: Apache-2.0
// Private to watch.c and held-out.c: one look at the student.
#ifndef RUNS_WATCH_RUN_H
#define RUNS_WATCH_RUN_H

#include <cjson/cJSON.h>
#include <stdbool.h>

#include "base/err.h"
#include "runs/run.h"

struct look {
    struct train_run *r;
    bool better;  // --keep-best
    bool stopped; // a signal ended it
};

// Compares a figure with the best so far; `less`: a lower one is better.
void look_compare(struct look *k, const char *name, bool ema, const char *metric, double value,
                  bool less);
// Begins and ends a line of the log (runs/watch.h). 0 or -1.
int look_begin_line(cJSON *j, const struct train_run *r, const char *name, bool ema,
                    const char *task, struct err *e);
int look_end_line(cJSON *j, struct train_run *r, double took, struct err *e);
// A note, and the text of the progress line.
void look_say(struct train_run *r, const char *name, bool ema, const char *metric, double value);

// held-out.c: the losses of --val-data, of the trained weights and of their average. All ranks call
// it; rank 0 writes. 0, or -1: the run cannot go on. What fails otherwise is in *why, with *failed.
int look_held_out(struct look *k, bool *failed, struct err *why, struct err *e);

#endif
