// SPDX-License-Identifier: Apache-2.0
// The optimiser: AdamW over a list of tensors, gradient clipping by the norm of all of them, and
// the learning rate's schedule (docs/method.md 3).
//
// Every tensor takes a full step, token embeddings included, so the result is the dense definition.
// The one exception is a cluster head with sampling: rows outside the step's sample are left alone
// (no decay, no moment), as in PartialFC; with every class in the sample it is dense as well.
#ifndef LOSSES_OPTIM_H
#define LOSSES_OPTIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "comm/comm.h"
#include "device/dev.h"
#include "base/err.h"

enum { OPTIM_NAME_MAX = 80 };

enum optim_schedule { OPTIM_COSINE, OPTIM_CONST, OPTIM_COOLDOWN }; // after the warm-up
const char *optim_schedule_name(enum optim_schedule s);            // "cosine", "const", "cooldown"

struct optim_set {
    float lr;           // peak
    float beta1, beta2; // 0.9, 0.98
    float eps;          // 1e-6
    float weight_decay; // 0.2, on tensors that have `decay`
    float clip;         // largest norm of the gradient; 0: no clipping
    uint64_t steps;     // n of the schedule
    uint64_t warmup;    // w
    enum optim_schedule schedule;
    float lr_end;      // of a cosine and a cooldown
    uint64_t cooldown; // last steps, c, in which OPTIM_COOLDOWN falls
    double power;      // in what curve: 1 is a line
};

// One tensor. All pointers are the device's, float32 [n].
struct optim_slot {
    char name[OPTIM_NAME_MAX];
    size_t n;
    float *param, *grad, *m, *v; // m and v belong to the optimiser
    bool decay;                  // weight decay applies
    double rate;                 // the learning rate is times this; 1
    // Where ranks have a share of the vector of gradients (optim.cut): the tensor's place in it,
    // and this rank's values of it, [first, first + count); first is a multiple of the device's
    // dot_run. m and v are [count] then. Else all of it: first 0, count n.
    bool dealt;
    size_t at, first, count;
    // A tensor of rows of `cols` of which this step changes n_rows: their numbers are on the
    // device, and grad is [n_rows, cols]. rows NULL: all rows.
    size_t cols, n_rows;
    const int32_t *rows;
    // Such a tensor in parts, of which this rank has `own`, beginning with part0: the rows of its
    // gradient at which the parts begin, [own + 1]. The squares of each part are summed separately.
    // NULL: one part.
    const size_t *begin;
    size_t parts, part0, own;
};

struct optim {
    struct dev *d;
    struct comm *comm; // ranks that have the parts; NULL: one
    struct optim_set set;
    struct optim_slot *slots;
    size_t n, cap;
    uint64_t step; // steps taken
    double *sums;  // device [n_sums]: squares of a tensor, or a part of one
    size_t n_sums;
    // Ranks' shares of one vector of gradients, device [cut[ranks]], in which all tensors lie that
    // optim_add_dealt adds: rank r has [cut[r], cut[r + 1]) of the sum and takes the step of those
    // values alone; then the values are gathered, by way of the vector. NULL: none.
    const size_t *cut;
    float *vector;
    double *runs;          // device: squares of their runs, of all ranks
    size_t *run_cut;       // [ranks + 1]: which of them are whose
    struct dev_clip *clip; // device
    struct dev_clip found; // of the last step
};

void optim_set_default(struct optim_set *s);
// lr of step i, counted from 0: lr (i + 1) / w while i < w. Then, with x from 0 to 1 over the steps
// that fall, end + (lr - end) f(x): a cosine, f = (1 + cos(pi x)) / 2 from step w on; a cooldown,
// f = (1 - x)^power from step n - c on; lr before. These are open_clip's, whose cosine ends at 0.
double optim_lr(const struct optim_set *s, uint64_t i);

void optim_init(struct optim *o, struct dev *d, const struct optim_set *s);
void optim_release(struct optim *o);
// Adds a tensor, its moments zero. The pointer is good until the next call. NULL with e set.
struct optim_slot *optim_add(struct optim *o, const char *name, size_t n, float *param, float *grad,
                             bool decay, struct err *e);
// The same of a tensor at `at` of the vector, which must come before others are added; in the order
// of their places. Without cuts it is the same as optim_add.
struct optim_slot *optim_add_dealt(struct optim *o, const char *name, size_t at, size_t n,
                                   float *param, bool decay, struct err *e);
// What rank r has of a tensor that is dealt: values [*first, *first + *count).
void optim_share(const struct optim *o, const struct optim_slot *s, size_t r, size_t *first,
                 size_t *count);
struct optim_slot *optim_find(const struct optim *o, const char *name);
// Queues one step on the device, with gradients scaled down to norm `clip` if theirs is larger;
// does not wait. If the norm or one of check[n_check] (device) is not finite, nothing changes. 0 or
// -1.
int optim_queue(struct optim *o, size_t n_check, const double *check, struct err *e);
// After the device has been waited for: counts the step; o->found.norm is the gradients' norm.
// False if the step was not taken.
bool optim_taken(struct optim *o);
// Does both, and waits: *norm tells whether the step was taken. 0 or -1.
int optim_step(struct optim *o, double *norm, struct err *e);

#endif
