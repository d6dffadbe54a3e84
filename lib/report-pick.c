// SPDX-License-Identifier: Apache-2.0
// Which samples the page shows: members of the largest groups of near duplicates, and of some
// clusters.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mem.h"
#include "npy.h"
#include "report.h"

enum { PATH_ROOM = 4096 };

// The files of one kind, one number a row, as one sequence over all shards.
struct column {
    const char *work, *kind;
    const struct report_names *names;
};

// Calls fn for each row of each shard in order; a shard without a file has no rows.
static int column_each(const struct column *c,
                       int (*fn)(void *user, uint32_t shard, uint64_t ordinal, uint64_t row,
                                 int64_t value, struct err *e),
                       void *user, struct err *e)
{
    uint64_t row = 0;
    int rc = 0;
    for (size_t s = 0; rc == 0 && s < c->names->n; s++) {
        char path[PATH_ROOM];
        struct npy a;
        snprintf(path, sizeof path, "%s/%s/%s.npy", c->work, c->kind, c->names->names[s]);
        if (access(path, F_OK))
            continue;
        if (npy_open(&a, path, e))
            return -1;
        for (uint64_t i = 0; rc == 0 && i < a.h.rows; i++, row++)
            rc = fn(user, (uint32_t)s, i, row, npy_item_i64(&a, i * a.h.dim), e);
        npy_close(&a);
    }
    return rc;
}

struct work {
    uint32_t *count; // by value
    size_t cap, n;
    int *set_of; // by value: the set it belongs to, -1 = none
    size_t each;
    size_t *have; // by set
    struct report_picks *picks;
};

static int count_value(void *user, uint32_t shard, uint64_t ordinal, uint64_t row, int64_t value,
                       struct err *e)
{
    struct work *w = user;
    (void)shard, (void)ordinal, (void)row;
    if (value < 0)
        return 0;
    if ((uint64_t)value >= w->n) {
        void *p = w->count;
        size_t before = w->cap;
        if (mem_grow(&p, &w->cap, (size_t)value + 1, sizeof *w->count, e))
            return -1;
        w->count = p;
        memset(w->count + before, 0, (w->cap - before) * sizeof *w->count);
        w->n = (size_t)value + 1;
    }
    w->count[value]++;
    return 0;
}

static int pick_value(void *user, uint32_t shard, uint64_t ordinal, uint64_t row, int64_t value,
                      struct err *e)
{
    struct work *w = user;
    (void)row;
    int set = value >= 0 && (uint64_t)value < w->n ? w->set_of[value] : -1;
    if (set < 0 || w->have[set] == w->each)
        return 0;
    struct report_picks *p = w->picks;
    void *grown = p->pick;
    if (mem_grow(&grown, &p->cap, p->n + 1, sizeof *p->pick, e))
        return -1;
    p->pick = grown;
    p->pick[p->n++] = (struct report_pick){.shard = shard, .ordinal = ordinal, .set = set};
    w->have[set]++;
    return 0;
}

struct sized {
    uint32_t count;
    size_t value;
};

static int by_size(const void *a, const void *b)
{
    const struct sized *x = a, *y = b;
    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    return (x->value > y->value) - (x->value < y->value);
}

// The values with at least `least` rows, most frequent first. NULL with e set on error.
static struct sized *ranking(const struct work *w, uint32_t least, size_t *n, struct err *e)
{
    size_t have = 0;
    *n = 0;
    for (size_t v = 0; v < w->n; v++)
        have += w->count[v] >= least;
    struct sized *r = mem_alloc(have, sizeof *r, e);
    if (!r)
        return NULL;
    for (size_t v = 0; v < w->n; v++)
        if (w->count[v] >= least)
            r[(*n)++] = (struct sized){w->count[v], v};
    qsort(r, *n, sizeof *r, by_size);
    return r;
}

static int by_set(const void *a, const void *b)
{
    const struct report_pick *x = a, *y = b;
    if (x->set != y->set)
        return x->set - y->set;
    if (x->shard != y->shard)
        return x->shard < y->shard ? -1 : 1;
    return (x->ordinal > y->ordinal) - (x->ordinal < y->ordinal);
}

// Chooses sets among the ranking (the first ones, or evenly spread) and picks their first members.
static int pick(const struct column *c, uint32_t least, bool spread, size_t sets, size_t each,
                struct report_picks *p, struct err *e)
{
    struct work w = {.each = each, .picks = p};
    size_t n = 0;
    *p = (struct report_picks){0};
    int rc = column_each(c, count_value, &w, e);
    struct sized *rank = rc == 0 ? ranking(&w, least, &n, e) : NULL;
    rc = rank ? 0 : -1;
    if (rc == 0) {
        p->n_sets = n < sets ? n : sets;
        p->set_size = mem_alloc(p->n_sets, sizeof *p->set_size, e);
        w.have = mem_alloc(p->n_sets, sizeof *w.have, e);
        w.set_of = mem_alloc(w.n, sizeof *w.set_of, e);
        rc = p->set_size && w.have && w.set_of ? 0 : -1;
    }
    for (size_t v = 0; rc == 0 && v < w.n; v++)
        w.set_of[v] = -1;
    for (size_t k = 0; rc == 0 && k < p->n_sets; k++) {
        const struct sized *r = &rank[spread ? k * n / p->n_sets : k];
        w.set_of[r->value] = (int)k;
        p->set_size[k] = r->count;
    }
    if (rc == 0)
        rc = column_each(c, pick_value, &w, e);
    if (rc == 0 && p->n)
        qsort(p->pick, p->n, sizeof *p->pick, by_set);
    free(rank);
    free(w.count);
    free(w.have);
    free(w.set_of);
    if (rc)
        report_picks_free(p);
    return rc;
}

int report_pick_groups(const char *work, const struct report_names *s, size_t sets, size_t each,
                       struct report_picks *p, struct err *e)
{
    const struct column c = {work, "groups", s};
    return pick(&c, 2, false, sets, each, p, e);
}

int report_pick_clusters(const char *work, const struct report_names *s, size_t sets, size_t each,
                         struct report_picks *p, struct err *e)
{
    const struct column c = {work, "labels", s};
    return pick(&c, 3, true, sets, each, p, e);
}

void report_picks_free(struct report_picks *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->pick[i].data);
    free(p->pick);
    free(p->set_size);
    *p = (struct report_picks){0};
}
