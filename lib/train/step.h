// SPDX-License-Identifier: Apache-2.0
// One step of training: gradients of the weighted losses for a batch, and the optimiser.
//
// With `accumulate` N the batch is in N pieces, which go through the towers twice: first for the
// embeddings of all of it, from which the losses and their gradients by the embeddings are made,
// then piece by piece with activations kept, forward and backward (Gao et al., GradCache, 2021). So
// the contrastive terms see the whole batch and the result is that of the large batch.
//
// The pieces are in parts (train_parts). What a part does depends on the part alone, and what is
// summed over parts is summed in one binary tree (losses/part-sum.h). So parts can be dealt to
// ranks (comm/comm.h), each as many that stand together: the ranks are the tree's upper levels, and
// the result is the same bytes for any number of ranks that is a power of two and divides the
// parts. Within a part the pieces are summed one after the other, which takes no memory.
#ifndef TRAIN_STEP_H
#define TRAIN_STEP_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/grad.h"
#include "system/memory-limit.h"
#include "losses/cluster-head.h"
#include "losses/losses.h"
#include "losses/optim.h"
#include "train/average.h"
#include "train/project.h"

// The maximum number of parts of a step for up to as many ranks. Each doubling takes the memory of
// the gradients once more.
enum { TRAIN_PARTS_MOST = 8 };

struct train_set {
    struct losses losses; // weights, as losses_parse gives them
    struct optim_set optim;
    struct cluster_set cluster;
    uint64_t epochs, epoch_samples; // what optim.steps was made from; 0: --steps
    size_t batch, accumulate;       // samples of a step, pieces
    size_t parts_most;              // parts at most, but for ranks; 0: TRAIN_PARTS_MOST
    struct comm *comm;              // ranks that have the parts; NULL: one
    double select;                  // share of the samples that are read and not trained on
    size_t select_blocks;           // in which the others are chosen (train/choose.h)
    bool held_out;                  // a second stream of batches, on the host
    size_t aside;                   // bytes on the device for what is no part of a step
    struct memory_limit memory;     // of the host, for this rank; by "": to be read (runs/fit.h)
    bool recompute;                 // activations of a block made again in backward
    struct clip_locks locks;        // what is not trained
    double layer_decay;             // train/groups.h; 0 or 1: none
    double ema;                     // train/average.h; 0: none
    double scale_max;               // of exp(logit_scale); 0: 100
    double patch_dropout;           // train/drop.h; 0: none
    uint64_t dropout_until;         // steps of the optimiser with it; 0: all
    bool project;                   // a map from the student's width to the teacher's
    uint64_t seed;
    size_t dim_t;                      // width of the teacher's embeddings; 0: no teacher
    size_t teachers;                   // of the affinity term; 0: one
    double tau;                        // of the clusters' prior; 0: none
    uint64_t views;                    // of the pictures, by epoch; 0: none
    size_t dim_of[LOSS_TEACHERS_MAX];  // their widths, of which dim_t is the first
    float scale_of[LOSS_TEACHERS_MAX]; // and scales
    size_t k, n_label;                 // centroids, labels a sample; 0: no clusters
};

// A batch on the host: the teacher's rows and labels of all ranks' rows, and pictures and tokens of
// the rows from `first` on, which include this rank's. Members that no loss needs may be NULL.
struct train_batch {
    size_t n;
    const uint8_t *pixels; // [n - first, size, size, 3]
    const int32_t *tokens; // [n - first, context]
    const uint64_t *draw;  // [n - first]: train/drop.h; with patch dropout
    const char *keys;      // the samples that this rank has read: a line each, not ended by NUL
    size_t n_keys;         // bytes
    const float *tv, *tt;  // [n, dim_t]; made unit rows here
    const int32_t *labels; // [n, n_label]
    size_t first;
    const float *others[LOSS_TEACHERS_MAX - 1][2]; // [n, dim_of[1 + i]]: rows of other teachers
};

struct train_choose;
struct train_core {
    struct dev *d;
    struct train_set set;
    struct clip_table table;
    struct clip_grad model;
    struct clip_tape tape[2];
    struct optim optim;
    size_t *cut; // [ranks + 1], with ranks: their shares of the gradients (train/shares.h); owned
    struct train_average average;
    size_t keep;              // patches of a picture with dropout; 0: all
    int32_t *pick;            // [piece, keep], and [patches] to draw them
    bool whole;               // at the moment without dropout
    double limit;             // a step with a loss above it takes no update; 0: none. Costs a wait
    bool over;                // the step at hand is one
    struct cluster_head head; // head.d NULL: none
    struct train_project project;
    struct part_sum sum, map_sum[2];      // of the model's gradients, of the maps'
    size_t dim, piece, part;              // samples of a piece, of a part
    size_t first, own;                    // rows of the batch that this rank has
    float *z[2], *u[2], *norm[2], *du[2]; // device [batch, dim], [batch]: embeddings, unit, their
                                          // norms, gradients; vision, text
    float *teacher[LOSS_TEACHERS_MAX][2]; // device [batch, dim_t], [batch, dim_of[i]]
    float *teacher_norm;                  // device [batch]
    float logit_scale, logit_bias;        // as the last step left them
    struct loss_grads grads;              // of the step on the device
    uint8_t *ahead;                       // device [batch, size, size, 3]: the next pictures; NULL
                                          // where they cannot overlap
    bool has_ahead;
    struct train_choose *choose; // with set.select; owned
};

// Whether a tower (enum clip_tower_id) runs in a step: with losses.towers only the one that is
// trained.
static inline bool train_has_tower(const struct train_set *s, int tower)
{
    enum loss_towers only = s->losses.towers;
    return !only || (only == LOSS_IMAGE_TOWER) == (tower == CLIP_VISION);
}

// Samples that are read for a step.
static inline size_t train_reads(const struct train_set *s)
{
    return s->select > 0 ? (size_t)ceil((double)s->batch / (1 - s->select) - 1e-9) : s->batch;
}

// Parts of a step: the largest power of two that divides the pieces, where these are of one size,
// up to parts_most or the number of ranks; of ranks that are no power of two, a part each.
size_t train_parts(const struct train_set *s);

struct train_memory {
    size_t parameters; // weights, gradients, packed copies
    size_t optimiser;  // moments, the average of the weights
    size_t activations;
    size_t losses; // logits, teacher rows
    size_t clusters;
    size_t own; // the device's
    size_t aside;
    size_t total;
};

// Refuses a number of parts that cannot be divided among the ranks. 0 or -1.
int train_core_dealt(const struct train_set *set, struct err *e);
// Does the same, and refuses a student of `dim` columns whose losses need the teacher's width. 0 or
// -1.
int train_core_check(const struct train_set *set, size_t dim, struct err *e);
// Samples of a piece; the last may be smaller.
size_t train_piece(const struct train_set *s);
// Patches of a picture of c that go through the tower in the steps with dropout; 0: all.
size_t train_keep(const struct train_set *s, const struct clip_config *c);
// Bytes on the device, for captions that use the whole context.
void train_memory(const struct clip_table *t, const struct train_set *s, const struct dev *d,
                  struct train_memory *m);
// A model of config c with zero weights; centroids host [k, dim_t] when set->k, NULL: they are
// given later (cluster_head_set). 0 or -1.
int train_core_open(struct train_core *c, struct dev *d, const struct clip_config *cfg,
                    const struct train_set *set, const float *centroids, struct err *e);
void train_core_close(struct train_core *c);
// Parameters from host flat[table.n_flat]. 0 or -1.
int train_core_load(struct train_core *c, const float *flat, struct err *e);
// Values of the terms into c->set.losses.value, their weighted sum into *loss, gradients into
// c->model.grad and the others' own. 0 or -1.
int train_core_gradient(struct train_core *c, const struct train_batch *b, double *loss,
                        struct err *e);
// The same values, of weights that stay: no gradient is made of the towers, nothing is left behind
// but c->set.losses.value. Between steps.
int train_core_losses(struct train_core *c, const struct train_batch *b, double *loss,
                      struct err *e);
// Exchanges the weights and their average (set->ema), but for locked tensors, which are their own.
// Done twice, all is as it was, to the bit. 0 or -1.
int train_core_swap(struct train_core *c, struct err *e);
// Computes the norm of all gradients into *norm and, if it is finite, takes an optimiser step. 0 or
// -1.
int train_core_update(struct train_core *c, double *norm, struct err *e);
// Does both and waits for the device once, at the end, with c->limit once more. *norm is NaN if the
// loss was the reason that no step was taken. 0 or -1.
int train_core_step(struct train_core *c, const struct train_batch *b, double *loss, double *norm,
                    struct err *e);
// Its two halves. Between them the caller may release `b` and call train_core_ahead() with the next
// batch, which starts its upload; the next train_core_begin() must then get that batch.
int train_core_begin(struct train_core *c, const struct train_batch *b, struct err *e);
void train_core_ahead(struct train_core *c, const struct train_batch *next);
int train_core_end(struct train_core *c, double *loss, double *norm, struct err *e);

// -- inside (choose.c): rows [at, at + n) of b through one tower, to z, device [n, dim].
int train_core_forward(struct train_core *c, const struct train_batch *b, int tower, size_t at,
                       size_t n, float *z, struct err *e);

#endif
