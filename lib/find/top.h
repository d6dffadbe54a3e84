// SPDX-License-Identifier: Apache-2.0
// The best of many rows, in order: the greatest score first, of equal ones the lowest row.
#ifndef FIND_TOP_H
#define FIND_TOP_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct find_hit {
    double score;   // what the order goes by
    double cosine;  // what is shown
    uint64_t row;   // of the set
    uint64_t other; // the row that it is compared with, or FIND_NONE
};
struct find_top {
    struct find_hit *hit; // a heap until find_top_sort
    size_t n, cap;
};

int find_top_init(struct find_top *t, size_t cap, struct err *e);
void find_top_release(struct find_top *t); // safe on a zeroed struct
// A score that is not a number is passed over.
void find_top_add(struct find_top *t, const struct find_hit *h);
void find_top_sort(struct find_top *t);

#endif
