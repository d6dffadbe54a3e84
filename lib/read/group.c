// SPDX-License-Identifier: Apache-2.0
#include "read/group.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/path.h"
#include "formats/sidecar.h"

int read_group_open(struct read_group *g, const char *dir, const char *shard_name, struct err *e)
{
    size_t room = strlen(dir) + strlen(shard_name) + 8;
    struct sidecar s = {0};
    *g = (struct read_group){0};
    if (!(g->path = mem_alloc(room, 1, e)))
        return -1;
    snprintf(g->path, room, "%s/%.*s.npy", dir, (int)path_stem(shard_name), shard_name);
    int rc = npy_open(&g->labels, g->path, e);
    g->open = !rc;
    if (!rc && (g->labels.h.type != NPY_I4 || g->labels.h.n_dims < 1 || g->labels.h.n_dims > 2))
        rc = err_set(e, "%s: labels are <i4", g->path);
    if (!rc)
        rc = sidecar_open(g->path, g->labels.h.rows, &s, e) < 0 ? -1 : 0;
    memcpy(g->keys, s.keys, sizeof g->keys);
    sidecar_release(&s);
    if (rc)
        read_group_close(g);
    return rc;
}

int read_group_label(const struct read_group *g, uint64_t row, int32_t *label, struct err *e)
{
    const struct npy *a = &g->labels;
    if (row >= a->h.rows)
        return err_set(e, "labels '%s' have %llu rows, the shard has more", g->path,
                       (unsigned long long)a->h.rows);
    *label = ((const int32_t *)a->data)[row * (a->h.dim ? a->h.dim : 1)];
    return 0;
}

int read_group_check(const struct read_group *g, uint64_t rows, const char *keys, struct err *e)
{
    if (rows != g->labels.h.rows)
        return err_set(e, "labels '%s' have %llu rows, the shard has %llu", g->path,
                       (unsigned long long)g->labels.h.rows, (unsigned long long)rows);
    if (*g->keys && strcmp(g->keys, keys) != 0)
        return err_set(e, "labels '%s' were made for other keys than those of the shard", g->path);
    return 0;
}

void read_group_close(struct read_group *g)
{
    if (g->open)
        npy_close(&g->labels);
    free(g->path);
    *g = (struct read_group){0};
}

struct grouped {
    int32_t label;
    uint32_t place; // in the window's random order
};

static int by_label(const void *x, const void *y)
{
    const struct grouped *a = x, *b = y;
    if (a->label != b->label)
        return a->label < b->label ? -1 : 1;
    return a->place < b->place ? -1 : 1;
}

// Where the runs begin, and the end: start[0 .. *n].
static void find_runs(const struct grouped *s, size_t n, size_t most, uint32_t *start, size_t *runs)
{
    *runs = 0;
    for (size_t i = 0; i < n; i++) {
        size_t first = *runs ? start[*runs - 1] : 0;
        bool more = i && s[i].label == s[i - 1].label && s[i].label >= 0 && i - first < most;
        if (!more)
            start[(*runs)++] = (uint32_t)i;
    }
    start[*runs] = (uint32_t)n;
}

int read_group_order(const struct read_order *o, uint64_t window, const int32_t *label, size_t n,
                     size_t most, uint32_t *turn, struct err *e)
{
    struct grouped *s = mem_alloc(n, sizeof *s, e);
    uint32_t *start = s ? mem_alloc(n + 1, sizeof *start, e) : NULL, *of = NULL;
    size_t runs, at = 0;
    for (size_t i = 0; start && i < n; i++) {
        uint32_t which = (uint32_t)(n > 1 ? read_order_window(o, window, n, i) : 0);
        turn[i] = which;
        s[i] = (struct grouped){label[which], (uint32_t)i};
    }
    if (start && n) {
        qsort(s, n, sizeof *s, by_label);
        find_runs(s, n, most, start, &runs);
        of = mem_alloc(n, sizeof *of, e);
    }
    for (size_t i = 0; of && i < n; i++)
        of[i] = turn[s[i].place];
    for (size_t r = 0; of && r < runs; r++) {
        size_t run = runs > 1 ? read_order_run(o, window, runs, r) : 0;
        for (size_t i = start[run]; i < start[run + 1]; i++)
            turn[at++] = of[i];
    }
    bool good = start && (of || !n);
    free(s);
    free(start);
    free(of);
    return good ? 0 : -1;
}
