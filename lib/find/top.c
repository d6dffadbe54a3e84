// SPDX-License-Identifier: Apache-2.0
#include "find/top.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/mem.h"

static bool better(const struct find_hit *a, const struct find_hit *b)
{
    return a->score != b->score ? a->score > b->score : a->row < b->row;
}

int find_top_init(struct find_top *t, size_t cap, struct err *e)
{
    *t = (struct find_top){.cap = cap, .hit = mem_alloc(cap, sizeof *t->hit, e)};
    return t->hit ? 0 : -1;
}

void find_top_release(struct find_top *t)
{
    free(t->hit);
    *t = (struct find_top){0};
}

// The worst is at the top of the heap.
static void sink(struct find_top *t, size_t i)
{
    for (size_t child; (child = 2 * i + 1) < t->n; i = child) {
        if (child + 1 < t->n && better(&t->hit[child], &t->hit[child + 1]))
            child++;
        if (!better(&t->hit[i], &t->hit[child]))
            return;
        struct find_hit h = t->hit[i];
        t->hit[i] = t->hit[child];
        t->hit[child] = h;
    }
}

void find_top_add(struct find_top *t, const struct find_hit *h)
{
    if (isnan(h->score) || !t->cap)
        return;
    if (t->n == t->cap) {
        if (!better(h, &t->hit[0]))
            return;
        t->hit[0] = *h;
        sink(t, 0);
        return;
    }
    size_t i = t->n++;
    for (; i > 0 && better(&t->hit[(i - 1) / 2], h); i = (i - 1) / 2)
        t->hit[i] = t->hit[(i - 1) / 2];
    t->hit[i] = *h;
}

static int in_order(const void *x, const void *y)
{
    const struct find_hit *a = x, *b = y;
    return better(a, b) ? -1 : better(b, a);
}

void find_top_sort(struct find_top *t)
{
    if (t->n)
        qsort(t->hit, t->n, sizeof *t->hit, in_order);
}
