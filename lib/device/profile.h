// SPDX-License-Identifier: Apache-2.0
// Where a run's time goes: a device whose operations are timed by kind, and by the part of the
// model that the caller names. Each operation is waited for, so a device that computes
// asynchronously is slower while it is profiled, and its times are its own.
//
// FLOP are those of matrix products and of attention, 2 a multiplication with its addition; under a
// causal mask half of the pairs count, and texts count as if all had the longest one's length.
// Other kinds have none.
#ifndef DEVICE_PROFILE_H
#define DEVICE_PROFILE_H

#include <stddef.h>
#include <stdint.h>

#include "device/dev.h"
#include "base/err.h"

enum dev_kind {
    DEV_KIND_LINEAR,    // x W^T
    DEV_KIND_DX,        // dy W
    DEV_KIND_DW,        // dy^T x
    DEV_KIND_GEMM,      // of the losses
    DEV_KIND_ATTENTION, //
    DEV_KIND_ATTENTION_BWD,
    DEV_KIND_NORM, // layer norms, and their backward
    DEV_KIND_NORM_BWD,
    DEV_KIND_ADAMW,
    DEV_KIND_OTHER, // the time of a part that is none of these
    DEV_KINDS
};
extern const char *const dev_kind_names[DEV_KINDS];

struct dev_cost {
    double seconds, flop;
    uint64_t calls;
};

// A part of the work: a block of a tower, forward or back, or a stage of a step.
enum { DEV_PARTS_MOST = 512, DEV_PART_NAME = 32 };
struct dev_part {
    char name[DEV_PART_NAME];
    struct dev_cost cost[2]; // forward, backward
};

struct dev_profile {
    struct dev_ops op;         // in place of the device's
    const struct dev_ops *was; // these
    struct dev_cost kind[DEV_KINDS];
    struct dev_part part[DEV_PARTS_MOST];
    size_t n_parts, at; // the one at work
    int way;            // 0 forward, 1 backward
    double since;       // of the mark
    double began;
};

// From now on d's operations are timed into *p, until dev_profile_end.
void dev_profile_begin(struct dev *d, struct dev_profile *p);
// Forgets what was counted.
void dev_profile_reset(struct dev *d);
// What follows is part `name`, block `layer` (-1: none), forward or backward. Nothing where d is
// not profiled.
void dev_profile_at(struct dev *d, const char *name, int layer, bool back);
// Ends the part at work and gives d its own operations back: the sums are whole.
void dev_profile_end(struct dev *d);

#endif
