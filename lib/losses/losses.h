// SPDX-License-Identifier: Apache-2.0
// The terms of the training loss, their values and their gradients, for a whole batch of embeddings
// (docs/method.md 3). A term is one file, loss-NAME.c, and one row of the table in loss-terms.h;
// the sum of weight x term is what is trained.
//
// Notation: v, t are the student's image and text embeddings, V, T the teacher's, all unit rows;
// s = exp(logit_scale). Where the student's width is not the teacher's, the terms that set one
// against the other use pv, pt, the student's rows after a linear map (train/project.h); otherwise
// pv = v and pt = t.
#ifndef LOSSES_LOSSES_H
#define LOSSES_LOSSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "comm/comm.h"
#include "losses/cluster-head.h"
#include "device/dev.h"
#include "base/err.h"

enum { LOSS_MAX = 16, LOSS_NAME_MAX = 24, LOSS_TEACHERS_MAX = 8 };

// A teacher of the affinity term; each has its own width and its own scale.
struct loss_teacher {
    size_t dim;
    const float *v, *t; // device [n, dim]
    float scale;        // s_T, a constant
};

// A batch is in parts of rows, and a rank (comm/comm.h) has parts that stand together. It has the
// embeddings of all rows and makes the gradients of its own, each of them whole: of a softmax over
// a column of logits, which goes over the rows of other parts, it needs only the sum, and that was
// made where the row that the column stands for is. So no gradient of an embedding is ever summed
// over parts, and its bytes depend on the parts alone.
struct loss_batch {
    size_t n;                           // rows of the whole batch
    size_t part;                        // rows of a part, the last may have fewer; 0: all in one
    size_t dim, dim_t;                  // of the student's and the teacher's embeddings
    const float *v, *t;                 // device [n, dim]; NULL: that tower is not trained
    const float *pv, *pt;               // device [n, dim_t]; likewise
    const float *tv, *tt;               // device [n, dim_t]: V, T; NULL when no term needs them
    const struct loss_teacher *teacher; // those of the affinity term, of which V, T is the first
    size_t n_teacher;                   // as many as losses.teachers
    const int32_t *label;               // host [n, n_label], each >= 0; NULL when no term needs it
    size_t n_label;                     //
    float scale, bias;                  // s, and SigLIP's b
    uint64_t seed, step;                // of the sampled softmax: which classes are drawn
    struct cluster_head *w;             // the cluster head, NULL when no term needs it
};

// Gradients of the weighted sum. The buffers are added to; the rows of other ranks stay unchanged.
struct loss_grads {
    float *dv, *dt;   // device [n, dim]
    float *dpv, *dpt; // device [n, dim_t]; dv and dt themselves without projection
    double dscale;    // by logit_scale (the logarithm of s); from losses_values
    double dbias;     // by b; likewise
};

// A summand of a term's value: (sum of weight x (a row's sum, or a float64 sum)) / den.
enum { LOSS_PART_SUMS = 3 };
struct loss_part {
    size_t term; // row of the table
    double den;
    double plus; // added to it
    size_t n;
    struct {
        double weight;
        bool row;
        size_t at; // row, or float64 sum
    } s[LOSS_PART_SUMS];
};

// Device memory that the terms share, and what they record for the values. The values need results
// from the device, so they are computed after the whole step is queued.
struct loss_room {
    struct dev *d;
    size_t n; // rows of the batch at most
    struct comm *comm;
    size_t parts, part;       // of a step; rows of the largest
    size_t part0, own;        // this rank's parts: the first, their number
    size_t n_block;           // rows that are worked on at a time (loss-block.h)
    bool kept;                // mat has all rows of this rank, else a block of them
    size_t n_mat;             // matrices
    float *mat[4];            // device [rows or n_block, n]: logits, gradients
    float *lse[4];            // device [n]: sums of the rows of a term's softmaxes
    float *row, *row2;        // device [n]
    int32_t *diagonal;        // device [n]: 0, 1, 2 ...
    int32_t *at[2];           // device [n], with LOSS_GROUPS: columns
    float *host;              // [n]
    float *rows, *host_rows;  // [max_rows, batch's n]: losses of samples, a row a part
    double *sums, *host_sums; // [parts, max_sums]: a part's sums; device, host
    double by_scale[DEV_WEIGH_MAX], by_bias[DEV_WEIGH_MAX]; // dscale, dbias: weights of the sums
    struct loss_part *of;                                   // [max_rows + max_sums]
    size_t max_rows, max_sums;                              // what the terms declare, and one more
    size_t n_rows, n_sums, n_of, batch;
    bool overrun; // a term used more rows or sums than its table row declares
};

// What a term needs.
enum {
    LOSS_TEACHER_IMAGE = 1,
    LOSS_TEACHER_TEXT = 2,
    LOSS_CLUSTERS = 4, // labels and centroids
    LOSS_BIAS = 8,     // a learned logit_bias
    LOSS_LABELS = 32,  // its rows are counted for each label
    LOSS_EACH = 64,    // its rows are counted for each teacher
    LOSS_GROUPS = 128, // labels, of which the first is a sample's group
    LOSS_BY_LABEL = LOSS_CLUSTERS | LOSS_GROUPS,
    // How it takes one tower alone (losses.towers): with LOSS_PAIRS not at all, cluster terms the
    // image tower's. The others have a half for each, which needs the teacher's rows of the same
    // side, or with LOSS_CROSS those of the other.
    LOSS_PAIRS = 256,
    LOSS_CROSS = 512,
    LOSS_WIDTH = 16, // the student's rows are set against the teacher's: one width
};

// Which towers of the student are trained.
enum loss_towers { LOSS_BOTH_TOWERS, LOSS_IMAGE_TOWER, LOSS_TEXT_TOWER };

struct loss_run; // loss-terms.h
struct loss_kind {
    const char *name;
    int needs;
    size_t rows; // loss_part_row at most; with LOSS_LABELS for each label, LOSS_EACH teacher
    size_t sums; // loss_sum at most, those of loss_part_dot and loss_by_scale among them
    // Writes the summands of its value (unweighted) and adds the gradients of weight x term to
    // r->g. A cluster term runs for each block of the batch, with the same summands.
    int (*run)(struct loss_run *r, float weight, struct err *e);
    const char *help;
};

// The table, ended by a NULL name.
extern const struct loss_kind loss_kinds[];
size_t loss_count(void);

struct losses {
    float weight[LOSS_MAX];    // by row of the table; 0 = off
    uint64_t cluster_warmup;   // steps over which the cluster terms' weights grow to that
    float effective[LOSS_MAX]; // weights of the last run
    double value[LOSS_MAX];    // of the last run
    size_t block;              // values of an [n, n] matrix; 0: loss-block.h's
    size_t parts;              // of a step; 0: one
    size_t teachers;           // of the affinity term; 0: one
    enum loss_towers towers;   // whose halves of the terms there are
    struct comm *comm;         // ranks that have the parts, each as many; NULL: one
    struct loss_room room;
};

// Parses "instance=1,cluster=1,clip=0.5"; a name without "=" has weight 1; `cluster` stands for
// cluster_ce and cluster_kl. Names that are not given have weight 0. 0 or -1.
int losses_parse(struct losses *l, const char *list, struct err *e);
// Writes the list in a form that losses_parse reads, "instance=1,cluster=0.1": the terms with a
// weight in the order of the table, each weight with the fewest digits that read back as the same
// number.
enum { LOSS_TEXT = LOSS_MAX * (LOSS_NAME_MAX + 24) };
void losses_text(const struct losses *l, char text[LOSS_TEXT]);
// The union of what the terms with a weight need of l->towers; LOSS_PAIRS and LOSS_CROSS left out.
int losses_needs(const struct losses *l);
// Refuses terms that l->towers have no half of, by name. 0 or -1.
int losses_check_towers(const struct losses *l, struct err *e);
// Does cluster_soft have a weight? For cluster_set.soft.
bool losses_soft(const struct losses *l);
// Memory for batches of at most n rows with n_label labels each, in l->parts parts. 0 or -1.
int losses_open(struct losses *l, struct dev *d, size_t n, size_t n_label, struct err *e);
void losses_close(struct losses *l);
size_t losses_bytes(const struct losses *l, size_t n, size_t n_label);
// Queues on the device everything that computes gradients and values, and does not wait. 0 or -1.
int losses_queue(struct losses *l, const struct loss_batch *b, struct loss_grads *g, struct err *e);
// A part's gradients by logit_scale and the bias, once queued, to device floats; NULL: not wanted.
void losses_scalars(struct losses *l, size_t part, float *dscale, float *dbias);
// After losses_queue: returns numbers on the device, and their count, that are all finite if and
// only if the losses are.
size_t losses_checks(const struct losses *l, const double **check);
// After the device has been waited for: fills in l->value, g->dscale and g->dbias; returns the
// weighted sum.
double losses_values(struct losses *l, struct loss_grads *g);
// Does all of this, and waits. 0 or -1.
int losses_run(struct losses *l, const struct loss_batch *b, struct loss_grads *g, double *total,
               struct err *e);

#endif
