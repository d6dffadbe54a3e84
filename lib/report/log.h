// SPDX-License-Identifier: Apache-2.0
// Figures from the logs of a pipeline: time and memory by stage, and the curves of a training log.
#ifndef REPORT_LOG_H
#define REPORT_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { REPORT_STAGES_MAX = 64, REPORT_TERMS_MAX = 16, REPORT_LOOKS_MAX = 64, REPORT_MORE = 5 };

struct report_cost {
    char stage[48];
    uint64_t runs, failed, cut_off; // cut_off: begun, without an end
    double seconds;                 // of the runs with the last command of their log
    double earlier_seconds;         // of those before, with other commands
    double memory_mb;               // largest peak of one tool
};
// Reads work/log/**.log (scripts/logged, and the tools' footers; a log without marks of runs, made
// by hand, counts its footers). *n stages, by name. 0 or -1.
int report_costs(const char *work, struct report_cost cost[REPORT_STAGES_MAX], size_t *n,
                 struct err *e);

// The first figure of a set at each evaluation in training, of the weights or of their average.
struct report_look {
    char name[96];        // "cifar10 acc1", "ema/cifar10 acc1"
    bool loss;            // of held-out samples: lower is better
    double *step, *value; // [n]; owned
    size_t n, cap;
};

// A training log, distill-train's JSON lines, as columns.
struct report_training {
    size_t n, cap;                 // lines of steps
    size_t parts;                  // runs that made them, 1 or more
    double samples;                // of all steps
    double seconds, timed_samples; // of the steps with a rate, one by one, so of all parts
    double wall;                   // seconds of all parts as the log gives them; 0: it does not
    size_t n_terms;
    char term[REPORT_TERMS_MAX][32]; // "loss", "instance", ...
    double *step;                    // [n]
    double *value[REPORT_TERMS_MAX]; // [n]; NaN where a line has none
    double *more[REPORT_MORE];       // the same of lr, logit_scale, grad_norm, samples_per_second
                                     // and memory in GB
    size_t n_looks;
    struct report_look look[REPORT_LOOKS_MAX];
    double look_seconds; // of all evaluations
};
int report_training_read(struct report_training *t, const char *path, struct err *e);
void report_training_free(struct report_training *t);

#endif
