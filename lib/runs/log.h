// SPDX-License-Identifier: Apache-2.0
// The training log: a file with one JSON object a step, appended after each step. A resumed run
// first removes the lines after its checkpoint, so that no step is listed twice.
#ifndef RUNS_LOG_H
#define RUNS_LOG_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "runs/checkpoint.h"
#include "train/step.h"

struct train_log {
    int fd; // -1: closed
    const char *path;
};

// Opens a new file, or with `resume` the existing one, without lines of steps after `step`, without
// evaluations of that step unless `looked` (runs/watch.h), without what a rewind to it says
// (runs/spike.h), and without an incomplete last line. 0 or -1.
int train_log_open(struct train_log *l, const char *path, bool resume, uint64_t step, bool looked,
                   struct err *e);
// Writes the object as a line. 0 or -1.
int train_log_line(struct train_log *l, const cJSON *o, struct err *e);
// Figures of a step that are not part of the run's state.
struct train_line {
    const struct train_core *core;
    const struct train_state *state;
    double loss, norm, lr;
    double seconds, wait; // the step took, of that waiting for data
    uint64_t memory;      // peak, bytes
    const struct mix *mix;
    bool skipped; // not finite, passed over
};
// Writes step, epoch, samples, loss, each term, lr, logit_scale, grad_norm, samples_per_second,
// data_wait, memory, and the part of the run (1 before it was first resumed) with the seconds that
// all parts took up to here. 0 or -1.
int train_log_step(struct train_log *l, const struct train_line *s, struct err *e);
void train_log_close(struct train_log *l);

#endif
