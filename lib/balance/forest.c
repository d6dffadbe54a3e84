// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>

#include "balance/run.h"
#include "base/mem.h"

int balance_forest_init(struct balance_forest *f, uint32_t rows, size_t waiting, struct err *e)
{
    *f = (struct balance_forest){.rows = rows, .room = rows + waiting};
    f->edges = mem_alloc(f->room, sizeof *f->edges, e);
    f->parent = f->edges ? mem_alloc(rows, sizeof *f->parent, e) : NULL;
    return f->parent ? 0 : -1;
}

void balance_forest_release(struct balance_forest *f)
{
    free(f->edges);
    free(f->parent);
    *f = (struct balance_forest){0};
}

// Ties by the rows, so that the forest does not depend on the order of arrival.
static int by_distance(const void *x, const void *y)
{
    const struct balance_edge *a = x, *b = y;
    if (a->distance != b->distance)
        return a->distance < b->distance ? -1 : 1;
    if (a->a != b->a)
        return a->a < b->a ? -1 : 1;
    return a->b < b->b ? -1 : a->b > b->b;
}

static uint32_t root(uint32_t *parent, uint32_t i)
{
    for (; parent[i] != i; i = parent[i])
        parent[i] = parent[parent[i]];
    return i;
}

void balance_forest_finish(struct balance_forest *f)
{
    if (f->n == f->n_forest)
        return;
    qsort(f->edges, f->n, sizeof *f->edges, by_distance);
    for (uint32_t i = 0; i < f->rows; i++)
        f->parent[i] = i;
    f->n_forest = 0;
    for (size_t i = 0; i < f->n; i++) {
        uint32_t a = root(f->parent, f->edges[i].a), b = root(f->parent, f->edges[i].b);
        if (a == b)
            continue;
        f->parent[a > b ? a : b] = a > b ? b : a;
        f->edges[f->n_forest++] = f->edges[i];
    }
    f->n = f->n_forest;
}

void balance_forest_add(struct balance_forest *f, const struct balance_edge *edges, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (f->n == f->room)
            balance_forest_finish(f); // leaves fewer than `rows`
        f->edges[f->n++] = edges[i];
    }
}
