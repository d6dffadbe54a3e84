// SPDX-License-Identifier: Apache-2.0
// Connected components of up to 2^32 - 1 items, joined from many threads at once. The root of a
// component is its lowest item, so the result does not depend on the order of the unions.
#ifndef BALANCE_UNION_FIND_H
#define BALANCE_UNION_FIND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct union_find {
    _Atomic uint32_t *parent;
    uint32_t n;
};

int union_find_init(struct union_find *u, uint32_t n, struct err *e); // every item alone
void union_find_release(struct union_find *u);
uint32_t union_find_root(struct union_find *u, uint32_t i);
// True when a and b were apart before.
bool union_find_join(struct union_find *u, uint32_t a, uint32_t b);

#endif
