// SPDX-License-Identifier: Apache-2.0
// What zs-eval does: opens a model, evaluates it on each set, writes a line of JSON for each.
#ifndef EVAL_STAGE_H
#define EVAL_STAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "system/cli.h"
#include "system/log.h"

// The choices of --task and --features.
enum {
    EVAL_TASK_AUTO,
    EVAL_TASK_ZEROSHOT,
    EVAL_TASK_RETRIEVAL,
    EVAL_TASK_PROBE,
    EVAL_TASK_NEIGHBOURS,
    EVAL_TASK_INSTANCE
};
enum { EVAL_FEATURES_EMBEDDING, EVAL_FEATURES_TOWER };

// The options of zs-eval(1), by their names.
struct eval_stage_options {
    const char *model, *split, *tokenizer, *classnames, *templates, *cache, *predictions, *csv,
        *device;
    const char *teacher_image; // folder; NULL: no neighbours
    int task, features;        // as above
    int dtype;                 // enum dev_type
    uint64_t batch, confusions, seed, iterations;
    double c, min_acc1;
    bool shortcuts, min_given; // min_given: --min-acc1
    struct cli_count max_bad;
};

// Options that do not go together, or are missing: -1 with wrong usage in e.
int eval_stage_check(const struct eval_stage_options *o, const struct cli_common *common,
                     struct err *e);
// Evaluates every set. Failed sets are named, and the results of the others are kept. *missed: a
// set stays below --min-acc1, as the log says. 0, or -1 if any set failed.
int eval_stage_run(const struct eval_stage_options *o, const struct cli_common *common,
                   struct log *l, bool *missed, struct err *e);

#endif
