// SPDX-License-Identifier: Apache-2.0
// A run of training from its plan to the exported model: what distill-train does once its options
// are known to go together.
#ifndef RUNS_RUN_H
#define RUNS_RUN_H

#include <limits.h>
#include <stdint.h>

#include "comm/comm.h"
#include "config/config.h"
#include "device/dev.h"
#include "device/profile.h"
#include "base/err.h"
#include "system/log.h"
#include "system/progress.h"
#include "runs/checkpoint-dir.h"
#include "runs/checkpoint.h"
#include "feed/data.h"
#include "runs/log.h"
#include "runs/match.h"
#include "runs/output.h"
#include "runs/plan.h"
#include "runs/spike.h"
#include "runs/watch.h"
#include "train/step.h"

struct train_run {
    const struct train_plan *plan;
    struct comm *comm; // ranks that train together; rank 0 owns the output and logs
    struct log *log;   // warnings, notes and progress go there
    struct progress progress;
    struct dev dev;
    struct train_set set;
    struct clip_config cfg;
    struct train_core core;
    struct train_data *data;
    struct train_log lines;
    struct train_watch watch; // on rank 0
    struct train_state state;
    size_t dealt;   // pieces with streams of their own; 0: all ranks read all (feed/data.h)
    size_t streams; // streams: one of each set of each such piece; 0: one, without a place
    struct train_place *places; // of the streams after the batch at hand; owned
    struct train_identity inputs;
    float *prior;              // of the clusters, with --cluster-prior; owned
    char *shards;              // names of their files, a line each; owned
    char *shards_of[MIX_MOST]; // of a mixture, those of each set; owned
    char checkpoint[PATH_MAX]; // the last good one, "" = none
    char log_path[PATH_MAX];
    double last_checkpoint; // seconds, monotonic
    uint64_t saved;         // step of the last good checkpoint, or where this start began
    struct train_output output;
    struct checkpoint_list found; // with --resume; the first n_damaged cannot be used
    size_t n_damaged;
    bool only_model; // with --resume: a finished model, and no checkpoint
    uint64_t bad_steps;
    struct train_spike spike;
    struct dev_profile *profile; // of the steps at hand; NULL: none
    uint64_t profiled;           // step after which it began
    uint64_t begun, sent; // step that this start began with; bytes to other ranks in its steps
    bool stopping;        // a signal to some rank asked for the end
};

// Trains to the end and exports: 0. A signal asked for the end (signals_catch_stop): 1, with a
// checkpoint. -1. Ranks of `comm` stop at the same step, by a signal to any of them. `r` must
// outlive the process where standard input may hang (feed/data.h).
int train_run_all(struct train_run *r, const struct train_plan *plan, struct comm *comm,
                  struct log *log, struct err *e);
// Opens the ranks of plan->o->comm into *c (closed by the caller), and runs all of the above;
// reports errors itself.
int train_run_ranks(struct train_run *r, const struct train_plan *plan, struct comm *c,
                    struct log *log);
static inline bool train_run_first(const struct train_run *r)
{
    return r->comm->rank == 0;
}
void train_run_release(struct train_run *r);

#endif
