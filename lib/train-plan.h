// SPDX-License-Identifier: Apache-2.0
// What a run of training is asked to do, and what follows from that alone: which losses need which
// files, the length of the run and its schedule, when checkpoints are due, whether memory is
// enough.
#ifndef TRAIN_PLAN_H
#define TRAIN_PLAN_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clip-config.h"
#include "err.h"
#include "train-step.h"

// The options of distill-train, as given. Names that may be absent are NULL.
struct train_options {
    const char *student, *init; // config of the student; model folder to start from
    const char *tokenizer;      // NULL: beside the config, or in the folder
    const char *output;         // folder of the model, its checkpoints and log
    const char *path, *command; // stream of samples ("-": standard input), or what writes it
    const char *teacher_image, *teacher_text, *labels; // folders, a file a shard
    const char *centroids;                             // NPY
    const char *losses;                                // "instance=1,clip=1"
    const char *every;                                 // checkpoints: N steps, or Nm minutes
    const char *log;                                   // NULL: log.jsonl in the output
    const char *device;
    int dtype; // an enum dev_type
    int threads;
    uint64_t batch, accumulate, seed;
    uint64_t epochs, steps, warmup; // which of them count is told by ..._given
    bool epochs_given, steps_given, warmup_given;
    uint64_t epoch_samples; // 0: the rows of the teacher's files
    double lr, weight_decay, clip_grad;
    double sigma, sample_rate, margin, filter; // of the cluster loss; rate 0: by the clusters
    uint64_t cluster_warmup;
    bool freeze_centroids, project, recompute, resume, skip_bad, export_hf;
};

struct train_plan {
    const struct train_options *o;
    struct losses losses;
    int needs;            // enum loss_need of all of them
    uint64_t every_steps; // a checkpoint is due after so many steps; 0: not by steps
    double every_seconds; // or after so many seconds; 0: not by time
    bool last_checkpoint; // one at the end of the run
    char tokenizer[PATH_MAX];
};

// Refuses options that do not go together (wrong usage); `o` must last as long as the plan. 0 or
// -1.
int train_plan_init(struct train_plan *p, const struct train_options *o, struct err *e);
// The names that the losses need, NULL for the others.
const char *train_plan_centroids(const struct train_plan *p);
// Epochs of the data: for a length given in steps, as many as it takes.
uint64_t train_plan_epochs(const struct train_options *o);
// Optimiser and schedule of a run over epochs of `rows` samples (0: unknown). 0 or -1: the length
// cannot be told, or is nothing.
int train_plan_optim(const struct train_options *o, uint64_t rows, struct optim_set *s,
                     struct err *e);
// The cluster loss for k clusters.
void train_plan_clusters(const struct train_options *o, size_t k, struct cluster_set *c);
// What memory a run takes, as text; with more than there is, an error that names what helps.
// 0 or -1.
enum { TRAIN_PLAN_TEXT = 400 };
int train_plan_memory(const struct train_options *o, const struct clip_config *cfg,
                      const struct train_set *s, struct dev *d, char text[TRAIN_PLAN_TEXT],
                      struct err *e);

#endif
