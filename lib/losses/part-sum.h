// SPDX-License-Identifier: Apache-2.0
// The sum of arrays that come one after the other, a part each, in a binary tree: (0 + 1) + (2 + 3)
// ... A run of 2^k parts that begins at a multiple of 2^k is summed alike wherever its first part
// is, so ranks that have such runs can be the tree's upper levels (comm/tree.h).
#ifndef LOSSES_PART_SUM_H
#define LOSSES_PART_SUM_H

#include <stdbool.h>
#include <stddef.h>

#include "device/dev.h"
#include "base/err.h"

enum { PART_LEVELS = 24 };

struct part_sum {
    struct dev *d;
    size_t n;                  // values of an array
    float *level[PART_LEVELS]; // device [n]: the sum of 2^i parts, where bit i of `full` is set
    unsigned full;
};

// Number of arrays kept for this many parts, besides the caller's.
size_t part_sum_levels(size_t parts);
// 0 or -1.
int part_sum_open(struct part_sum *s, struct dev *d, size_t n, size_t parts, struct err *e);
void part_sum_close(struct part_sum *s);
// Adds the next part, x (device [n]), whose contents are lost. After the last part x holds the sum,
// and the next call begins a new one.
void part_sum_take(struct part_sum *s, float *x, bool last);

#endif
