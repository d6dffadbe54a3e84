// SPDX-License-Identifier: Apache-2.0
// Whether a run fits into memory: into how many pieces a batch is cut, how much memory that takes,
// and which options would fit if it is too much.
#ifndef RUNS_FIT_H
#define RUNS_FIT_H

#include <stddef.h>
#include <stdint.h>

#include "config/config.h"
#include "base/err.h"
#include "train/step.h"

enum { TRAIN_FIT_TEXT = 500 };

// Reads s->memory. All ranks call it before any of them allocates much, with c->near known: the
// ranks of one host have equal shares of its free memory.
void train_fit_limit(struct train_set *s);
// With s->accumulate 0 sets it to the fewest pieces that fit with a tenth of the memory to spare
// (or without, where nothing does), and prefers pieces of one size where these are at most a
// quarter more. Refuses a run that does not fit, with an option that would make it fit. `text`
// gets the memory in parts. 0 or -1.
int train_fit(const struct clip_config *cfg, struct train_set *s, struct dev *d,
              char text[TRAIN_FIT_TEXT], struct err *e);

#endif
