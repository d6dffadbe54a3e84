// SPDX-License-Identifier: Apache-2.0
// The options of a run of training and what follows from them alone: the files that the losses
// need, the length of the run and its schedule, when checkpoints are due.
#ifndef RUNS_PLAN_H
#define RUNS_PLAN_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"
#include "base/err.h"
#include "feed/data.h"
#include "feed/mix.h"
#include "runs/match.h"
#include "runs/checkpoint-dir.h"
#include "train/teachers.h"
#include "runs/watch.h"
#include "system/cli.h"
#include "train/step.h"

// The options of distill-train, as given. Names that may be absent are NULL.
struct train_options {
    const char *student, *init;         // config of the student; model folder to start from
    const char *init_image, *init_text; // folders that give one tower each
    const char *tokenizer;              // NULL: beside the config, or in the folder
    const char *output;                 // folder of the model, its checkpoints and log
    struct cli_list data;               // --data, each a command or NAME=WEIGHT:CMD
    const char *path, *command; // stream of samples ("-": standard input), or what writes it
    const char *teacher_image, *teacher_text; // folders, a file a shard (train/teachers.h)
    const char *labels;                       // folder, a file a shard
    const char *teacher_scale;                // NULL: as the sidecars say
    bool inherit;                             // of a larger --init
    uint64_t views;                           // of the pictures, by epoch; 0: none
    const char *keep, *shards; // masks that CMD uses, and the list of shards that it reads
    int towers;                // that are trained, an enum loss_towers
    const char *teacher;       // model folder: the width of embeddings that are not made yet
    uint64_t clusters;         // of centroids that are not made yet; 0: not said
    const char *centroids;     // NPY
    const char *losses;        // "instance=1,clip=1"
    const char *every;         // checkpoints: N steps, or Nm minutes
    const char *keep_newest;   // of them: a number, or "all"
    uint64_t keep_every;       // those of these steps for good; 0: none
    uint64_t resume_from;      // step of the checkpoint to go on from
    bool resume_from_given;
    const char *log; // NULL: log.jsonl in the output
    const char *device;
    const char *comm; // comm/open.h
    int dtype;        // an enum dev_type
    int threads;
    const char *accumulate; // "auto" or a number
    uint64_t batch, seed;
    uint64_t epochs, steps, warmup; // which of them count is told by ..._given
    bool epochs_given, steps_given, warmup_given;
    uint64_t epoch_samples; // 0: the rows of the teacher's files
    double lr, weight_decay, clip_grad, beta1, beta2, eps;
    int schedule; // an enum optim_schedule
    double lr_end, cooldown_power;
    uint64_t cooldown;
    bool lr_end_given, cooldown_power_given;
    double soft_sigma, cluster_prior;          // 0: sigma; 0: none
    double sigma, sample_rate, margin, filter; // of the cluster loss; rate 0: by the clusters
    uint64_t cluster_warmup;
    bool freeze_centroids, project, recompute, resume, skip_bad, export_hf, dry_run;
    bool overwrite; // start again in a folder that was used
    bool extend;    // resume, with another length of the run
    bool project_given;
    int lock; // 0: no tower; else 1 + an enum clip_tower_id
    uint64_t unlock;
    bool lock_norms;
    double layer_decay; // 1: none
    double ema;         // 0: none
    double select;      // share of the samples that are read and not trained on; 0: none
    uint64_t select_blocks;
    bool select_blocks_given;
    uint64_t profile; // steps; 0: none
    double spike;     // times the mean loss; 0: none
    int on_spike;     // an enum spike_action
    bool on_spike_given;
    double scale_max; // of exp(logit_scale)
    double patch_dropout;
    uint64_t patch_dropout_until; // steps; 0: all
    bool patch_dropout_given;     // else the config's
    struct cli_list eval_sets;
    const char *val_data;   // command that writes held-out samples
    const char *eval_every; // N steps, or Ne epochs
    struct cli_count eval_share;
    const char *keep_best; // SET:METRIC, or ema/SET:METRIC; NULL: none
    bool eval_every_given, eval_share_given;
};

struct plan_sub;
struct train_plan {
    const struct train_options *o;
    struct losses losses;
    int needs;            // enum loss_need of all of them
    size_t accumulate;    // pieces; 0: the fewest that fit
    uint64_t every_steps; // a checkpoint is due after so many steps; 0: not by steps
    double every_seconds; // or after so many seconds; 0: not by time
    struct checkpoint_keep keep_checkpoints;
    bool last_checkpoint;        // one at the end of the run
    struct teacher_dirs dirs[2]; // image, text: those that the losses need
    struct watch_plan watch;
    struct mix mix;
    struct plan_sub *sub;         // [mix.n]: the plan of each set, and one of held-out samples
    struct train_stream *streams; // [mix.n + 1]: the same for their data
    char tokenizer[PATH_MAX];
};

// A set of a mixture: the options with its name in place of {set}, and their plan.
enum { PLAN_NAMES = 5 };
struct plan_sub {
    struct train_options o;
    char *own[PLAN_NAMES];
    struct train_plan plan;
};
// The plan of set i of a mixture (mix.n: of held-out samples); without one p itself.
const struct train_plan *train_plan_of(const struct train_plan *p, size_t i);

// Refuses options that do not go together (wrong usage); `o` must last as long as the plan. 0 or
// -1.
int train_plan_init(struct train_plan *p, const struct train_options *o, struct err *e);
void train_plan_release(struct train_plan *p);
// The files that must belong together (runs/match.h).
void train_plan_inputs(const struct train_plan *p, struct train_inputs *in);
// The number of steps as far as the options alone determine it.
void train_plan_set(const struct train_plan *p, struct train_set *s);
// The names that the losses need, NULL for the others.
const char *train_plan_centroids(const struct train_plan *p);
// Epochs of the data: for a length given in steps, as many as it takes.
uint64_t train_plan_epochs(const struct train_options *o);
// Optimiser and schedule of a run over epochs of `samples` (0: unknown) into s->optim, s->epochs
// and s->epoch_samples. 0 or -1: the length is unknown or 0.
int train_plan_optim(const struct train_options *o, uint64_t samples, struct train_set *s,
                     struct err *e);
// Whether the student's rows go through a linear map to the teacher's width, which is dim_t (0: no
// teacher) where the student's is dim.
bool train_plan_project(const struct train_plan *p, size_t dim, size_t dim_t);
// The cluster loss for k clusters.
void train_plan_clusters(const struct train_options *o, size_t k, struct cluster_set *c);

#endif
