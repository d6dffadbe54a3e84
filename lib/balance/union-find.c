// SPDX-License-Identifier: Apache-2.0
#include "balance/union-find.h"

#include <stdlib.h>

#include "base/mem.h"

int union_find_init(struct union_find *u, uint32_t n, struct err *e)
{
    *u = (struct union_find){.n = n};
    u->parent = mem_alloc(n, sizeof *u->parent, e);
    if (!u->parent)
        return -1;
    for (uint32_t i = 0; i < n; i++)
        atomic_init(&u->parent[i], i);
    return 0;
}

void union_find_release(struct union_find *u)
{
    free(u->parent);
    *u = (struct union_find){0};
}

// Path halving. A parent is always lower than its child, and a lost race only leaves a longer path.
uint32_t union_find_root(struct union_find *u, uint32_t i)
{
    for (;;) {
        uint32_t p = atomic_load_explicit(&u->parent[i], memory_order_relaxed);
        if (p == i)
            return i;
        uint32_t g = atomic_load_explicit(&u->parent[p], memory_order_relaxed);
        if (g == p)
            return p;
        atomic_compare_exchange_weak_explicit(&u->parent[i], &p, g, memory_order_relaxed,
                                              memory_order_relaxed);
        i = g;
    }
}

bool union_find_join(struct union_find *u, uint32_t a, uint32_t b)
{
    for (;;) {
        a = union_find_root(u, a);
        b = union_find_root(u, b);
        if (a == b)
            return false;
        uint32_t high = a > b ? a : b, low = a > b ? b : a, want = high;
        if (atomic_compare_exchange_strong_explicit(&u->parent[high], &want, low,
                                                    memory_order_relaxed, memory_order_relaxed))
            return true; // `high` was still a root
    }
}
