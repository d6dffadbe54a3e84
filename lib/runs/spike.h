// SPDX-License-Identifier: Apache-2.0
// Steps that go wrong: a loss or gradient that is not finite, and with --spike X a loss above X
// times its running mean. Their update is not taken, the samples of their batch are written into
//     OUT/spikes/step-00001234.tsv     "# loss 8.1, mean 3.2", then shard, ordinal, key
// and --on-spike says what then: stop with an error; skip the batch; or rewind, go back to the
// weights of the last checkpoint and on with the samples behind the batch, as PaLM was trained
// (Chowdhery et al., 2022, 5.1).
//
// The mean is over the good losses so far, or exponential over some SPIKE_WINDOW of them; nothing
// is above it before SPIKE_FROM. It is part of the checkpoints, so a resumed run decides alike.
#ifndef RUNS_SPIKE_H
#define RUNS_SPIKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct train_options;
struct train_run;
struct train_batch;

enum { SPIKE_FROM = 10, SPIKE_WINDOW = 100 };
enum spike_action { SPIKE_STOP, SPIKE_SKIP, SPIKE_REWIND }; // the choices of --on-spike

// What a run keeps of the batch on the device.
struct train_spike {
    char *keys; // lines of its samples; owned
    size_t n, cap;
    uint64_t rewound, at; // times it went back to the checkpoint of step `at`
};

// Wrong usage: -1.
int train_spike_check(const struct train_options *o, struct err *e);
// Before a step: keeps the keys of its batch, and sets the loss above which no update is taken. 0
// or -1.
int train_spike_before(struct train_run *r, const struct train_batch *b, struct err *e);
// After it. Whether the step went wrong.
bool train_spike_seen(const struct train_run *r, double loss, double norm);
// All ranks, of a step that went wrong: 0 skipped, 1 rewound, -1.
int train_spike_act(struct train_run *r, double loss, double norm, struct err *e);
// Takes a good step's loss into the mean.
void train_spike_take(struct train_run *r, double loss);
void train_spike_release(struct train_spike *s);

#endif
