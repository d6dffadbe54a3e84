// SPDX-License-Identifier: Apache-2.0
// The training log: a file of one JSON object a step, appended as it happens. A resumed run first
// drops the lines after its checkpoint, so that no step is there twice.
#ifndef TRAIN_LOG_H
#define TRAIN_LOG_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#include "err.h"

struct train_log {
    int fd; // -1: closed
    const char *path;
};

// A new file, or with `resume` the one that is there, without lines of steps after `step` and
// without a last line that was cut off. 0 or -1.
int train_log_open(struct train_log *l, const char *path, bool resume, uint64_t step,
                   struct err *e);
// Writes the object as a line. 0 or -1.
int train_log_line(struct train_log *l, const cJSON *o, struct err *e);
void train_log_close(struct train_log *l);

#endif
