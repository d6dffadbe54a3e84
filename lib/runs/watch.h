// SPDX-License-Identifier: Apache-2.0
// Looks at the student while it trains: --eval-set, --val-data, --eval-every, --eval-share,
// --keep-best.
//
// A look is made of the weights of the moment and of their average, on the device of the run, and
// changes nothing of it. Its figures are zs-eval's for the checkpoint of that step, to the last
// digit: the same code (eval/tasks.h), the same weights. Each is a line of the training log:
//     {"step":500,"epoch":0,"samples":128000,"eval":"cifar10","weights":"trained",
//      "task":"zeroshot_classification","metrics":{"acc1":0.61,...},"intervals":{...},
//      "n":10000,...,"took":4.1,"eval_seconds":20.5,"seconds":812.0}
// weights: "trained" or "ema". took: seconds of this one; eval_seconds: of all; seconds: of the
// run.
#ifndef RUNS_WATCH_H
#define RUNS_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "config/config.h"
#include "eval/set.h"
#include "text/tokenizer.h"

// The name of --val-data's figures.
#define WATCH_HELD_OUT "val"

struct train_options;
struct train_plan;
struct train_run;
struct dev;

// What the options ask for.
struct watch_plan {
    uint64_t steps, epochs; // a look every so many of either; the other is 0
    double share;           // of the run's time at most; 1: any
    // --keep-best; set "": none
    char set[256], metric[64];
    bool ema; // of the average
};

// Reads and checks the options. 0 or -1: wrong usage.
int watch_plan_init(struct watch_plan *w, const struct train_options *o, struct err *e);

struct train_watch {
    struct eval_set *sets;
    size_t n;
    struct tokenizer *tokenizer;
    char last[64]; // "cifar10 acc1 0.6100", for the progress line; "" before the first
};

// Opens the sets of the run's options. 0 or -1: one cannot be used.
int train_watch_open(struct train_watch *w, const struct train_plan *p,
                     const struct clip_config *cfg, struct err *e);
void train_watch_close(struct train_watch *w);
// Bytes on the device beside the training's. 0 or -1: too many to count.
int train_watch_bytes(const struct train_options *o, const struct clip_config *cfg,
                      const struct dev *d, size_t *bytes, struct err *e);
// Whether the weights are to be looked at: the same on all ranks.
bool train_watch_due(const struct train_run *r);
// After a step: makes a look where one is due, and saves a checkpoint that is the best (run.c's
// `save`). All ranks call it; rank 0 evaluates
// the sets. A look that fails is told of, and training goes on; one
// that a signal ends is made when the run is resumed. 0 or -1.
int train_watch_look(struct train_run *r, int (*save)(struct train_run *r, struct err *e),
                     struct err *e);
// Says how often the run was looked at and what share of its time that took.
void train_watch_say(const struct train_run *r);

#endif
