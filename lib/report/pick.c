// SPDX-License-Identifier: Apache-2.0
// Which samples the page shows: members of the largest groups of near duplicates, and of some
// clusters.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "formats/npy.h"
#include "report/report.h"

// The files of one kind, one number a row, as one sequence over all shards.
struct column {
    const char *work, *kind, *what; // what: of a number, "label"
    const struct path_names *names;
    uint64_t limit;      // a number is below this
    const char *limited; // what sets the limit, for the message
};

// A row and its number, which is -1 or below the limit.
struct cell {
    uint32_t shard;
    uint64_t ordinal;
    int64_t value;
};
typedef int cell_fn(void *user, const struct cell *c, struct err *e);

static int each_row(const struct column *c, const struct npy *a, uint32_t shard, const char *path,
                    cell_fn *fn, void *user, struct err *e)
{
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < a->h.rows; i++) {
        const struct cell at = {shard, i, npy_item_i64(a, i * a->h.dim)};
        if (at.value >= 0 && (uint64_t)at.value >= c->limit)
            return err_set(e, "'%s': row %" PRIu64 ": %s %" PRId64 ", where %s has %" PRIu64, path,
                           i, c->what, at.value, c->limited, c->limit);
        if (at.value >= 0)
            rc = fn(user, &at, e);
    }
    return rc;
}

// Calls fn for each row with a number, of each shard in order; a shard without a file has none.
static int column_each(const struct column *c, cell_fn *fn, void *user, struct err *e)
{
    int rc = 0;
    for (size_t s = 0; rc == 0 && s < c->names->n; s++) {
        char path[PATH_BYTES];
        struct npy a;
        if (path_format(path, e, "%s/%s/%s.npy", c->work, c->kind, c->names->names[s]))
            return -1;
        if (access(path, F_OK))
            continue;
        if (npy_open(&a, path, e))
            return -1;
        if (a.h.type == NPY_I4 || a.h.type == NPY_I8)
            rc = each_row(c, &a, (uint32_t)s, path, fn, user, e);
        else
            rc = err_set(e, "'%s' has type %s, which no %s has", path, npy_type_name(a.h.type),
                         c->what);
        npy_close(&a);
    }
    return rc;
}

// Rows by value, in blocks made when a value falls into them, so that one large value costs one.
enum { BLOCK = 4096 };
struct counts {
    uint32_t **block;
    size_t n, cap;
};

static int count_value(void *user, const struct cell *c, struct err *e)
{
    struct counts *k = user;
    size_t at = (size_t)((uint64_t)c->value / BLOCK);
    if (at >= k->n) {
        void *p = k->block;
        if (mem_grow(&p, &k->cap, at + 1, sizeof *k->block, e))
            return -1;
        k->block = p;
        memset(k->block + k->n, 0, (k->cap - k->n) * sizeof *k->block);
        k->n = at + 1;
    }
    if (!k->block[at] && !(k->block[at] = mem_alloc(BLOCK, sizeof **k->block, e)))
        return -1;
    k->block[at][c->value % BLOCK]++;
    return 0;
}

static void counts_release(struct counts *k)
{
    for (size_t i = 0; i < k->n; i++)
        free(k->block[i]);
    free(k->block);
}

struct work {
    size_t each;
    int64_t *value; // [n_sets]: the set's number
    size_t *have;   // [n_sets]
    struct page_picks *picks;
};

static int pick_value(void *user, const struct cell *c, struct err *e)
{
    struct work *w = user;
    struct page_picks *p = w->picks;
    size_t set = 0;
    while (set < p->n_sets && w->value[set] != c->value)
        set++;
    if (set == p->n_sets || w->have[set] == w->each)
        return 0;
    void *grown = p->pick;
    if (mem_grow(&grown, &p->cap, p->n + 1, sizeof *p->pick, e))
        return -1;
    p->pick = grown;
    p->pick[p->n++] = (struct page_pick){.shard = c->shard, .ordinal = c->ordinal, .set = (int)set};
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
static struct sized *ranking(const struct counts *k, uint32_t least, size_t *n, struct err *e)
{
    size_t have = 0;
    *n = 0;
    for (size_t v = 0; v < k->n * BLOCK; v++)
        have += k->block[v / BLOCK] && k->block[v / BLOCK][v % BLOCK] >= least;
    struct sized *r = mem_alloc(have, sizeof *r, e);
    if (!r)
        return NULL;
    for (size_t v = 0; v < k->n * BLOCK; v++)
        if (k->block[v / BLOCK] && k->block[v / BLOCK][v % BLOCK] >= least)
            r[(*n)++] = (struct sized){k->block[v / BLOCK][v % BLOCK], v};
    if (*n)
        qsort(r, *n, sizeof *r, by_size);
    return r;
}

static int by_set(const void *a, const void *b)
{
    const struct page_pick *x = a, *y = b;
    if (x->set != y->set)
        return x->set - y->set;
    if (x->shard != y->shard)
        return x->shard < y->shard ? -1 : 1;
    return (x->ordinal > y->ordinal) - (x->ordinal < y->ordinal);
}

static void count_sizes(const struct counts *k, struct page_picks *p)
{
    for (size_t v = 0; v < k->n * BLOCK; v++) {
        uint32_t count = k->block[v / BLOCK] ? k->block[v / BLOCK][v % BLOCK] : 0;
        int bin = 0;
        for (; count; count >>= 1)
            bin++;
        p->size_count[bin] += bin > 0;
    }
}

// Chooses sets among the ranking (the first ones, or evenly spread) and picks their first members.
static int pick(const struct column *c, uint32_t least, bool spread, size_t sets, size_t each,
                struct page_picks *p, struct err *e)
{
    struct counts counts = {0};
    struct work w = {.each = each, .picks = p};
    size_t n = 0;
    *p = (struct page_picks){0};
    int rc = column_each(c, count_value, &counts, e);
    struct sized *rank = rc == 0 ? ranking(&counts, least, &n, e) : NULL;
    count_sizes(&counts, p);
    counts_release(&counts);
    rc = rank ? 0 : -1;
    if (rc == 0) {
        size_t n_sets = n < sets ? n : sets;
        p->set_size = mem_alloc(n_sets, sizeof *p->set_size, e);
        p->set_value = p->set_size ? mem_alloc(n_sets, sizeof *p->set_value, e) : NULL;
        w.have = mem_alloc(n_sets, sizeof *w.have, e);
        w.value = mem_alloc(n_sets, sizeof *w.value, e);
        rc = p->set_value && w.have && w.value ? 0 : -1;
        p->n_sets = rc ? 0 : n_sets;
    }
    for (size_t k = 0; k < p->n_sets; k++) {
        const struct sized *r = &rank[spread ? k * n / p->n_sets : k];
        w.value[k] = (int64_t)r->value;
        p->set_value[k] = r->value;
        p->set_size[k] = r->count;
    }
    if (rc == 0)
        rc = column_each(c, pick_value, &w, e);
    if (rc == 0 && p->n)
        qsort(p->pick, p->n, sizeof *p->pick, by_set);
    free(rank);
    free(w.have);
    free(w.value);
    if (rc)
        page_picks_free(p);
    return rc;
}

int report_pick_groups(const char *work, const struct path_names *s, uint64_t rows, size_t sets,
                       size_t each, struct page_picks *p, struct err *e)
{
    const struct column c = {work, "groups", "group", s, rows, "the index"};
    return pick(&c, 2, false, sets, each, p, e);
}

int report_pick_clusters(const char *work, const struct path_names *s, uint64_t rows, size_t sets,
                         size_t each, struct page_picks *p, struct err *e)
{
    char path[PATH_BYTES];
    struct npy a;
    struct column c = {work, "labels", "label", s, INT32_MAX, "a label's type"};
    (void)rows;
    if (path_format(path, e, "%s/centroids.npy", work))
        return -1;
    if (access(path, F_OK) == 0) {
        if (npy_open(&a, path, e))
            return -1;
        c.limit = a.h.rows;
        c.limited = "centroids.npy";
        npy_close(&a);
    }
    return pick(&c, 3, true, sets, each, p, e);
}
