// SPDX-License-Identifier: Apache-2.0
// Private to stage*.c.
#ifndef EVAL_STAGE_RUN_H
#define EVAL_STAGE_RUN_H

#include "eval/table.h"
#include "eval/results.h"
#include "eval/stage.h"
#include "eval/tasks.h"
#include "system/io.h"
#include "system/progress.h"

struct eval_job {
    const struct eval_stage_options *o;
    const struct cli_common *common;
    struct log *log;
    struct progress progress;
    struct eval_table table; // with --csv
    struct eval_results results;
    struct out predictions;
    struct eval_model model;
    bool missed;    // --min-acc1
    bool cut_short; // an output failed: no further set
};

// stage-set.c: the set in `folder`, its line taken from an earlier run or made. 0 or -1.
int eval_stage_set(struct eval_job *job, const char *folder, struct err *e);

#endif
