// SPDX-License-Identifier: Apache-2.0
// What the comparing of one part of the cells has found, as one block of bytes: to another rank or
// to a file. The order in which parts are added does not matter: the root of a group is its lowest
// row, a forest's ties are broken by the rows, and places belong to one part alone.
#include <stdlib.h>
#include <string.h>

#include "balance/run.h"
#include "base/mem.h"

struct joins_head {
    uint64_t near, compared;
    uint64_t n_edges;        // BALANCE_UNION: row and the root of its group
    uint64_t n_forest;       // with reach
    uint64_t first, n_early; // BALANCE_SEMDEDUP: places
    uint64_t n_closest;      // with reach
};

// The arrays behind the head, in their order, in bytes.
struct joins_layout {
    size_t forest, closest, edges, early, all;
};

// False where that is more than there can be.
static bool layout(const struct joins_head *h, uint64_t rows, struct joins_layout *l)
{
    if (h->n_edges > rows || h->n_forest > rows || h->n_early > rows ||
        (h->n_closest && h->n_closest != h->n_early) || h->first > rows - h->n_early)
        return false;
    l->forest = sizeof *h;
    l->closest = l->forest + h->n_forest * sizeof(struct balance_edge);
    l->edges = l->closest + h->n_closest * sizeof(uint64_t);
    l->early = l->edges + h->n_edges * 2 * sizeof(uint32_t);
    l->all = l->early + h->n_early * sizeof(uint32_t);
    l->all += -l->all & 7; // what follows is aligned
    return true;
}

static void count(struct balance_run *b, struct joins_head *h)
{
    *h = (struct joins_head){.near = b->n_near, .compared = b->r->compared};
    for (uint32_t i = 0; b->sets.parent && i < b->n; i++)
        h->n_edges += union_find_root(&b->sets, i) != i;
    if (b->forest) {
        balance_forest_finish(b->forest);
        h->n_forest = b->forest->n_forest;
    }
    if (!b->earlier)
        return;
    h->first = b->start[b->first_cell];
    h->n_early = b->start[b->end_cell] - h->first;
    h->n_closest = b->closest ? h->n_early : 0;
}

void *balance_joins_pack(struct balance_run *b, size_t *n, struct err *e)
{
    struct joins_head h;
    struct joins_layout l;
    count(b, &h);
    if (!layout(&h, b->n, &l)) {
        err_set(e, "more joins than rows");
        return NULL;
    }
    char *p = mem_alloc(1, l.all, e);
    if (!p)
        return NULL;
    memcpy(p, &h, sizeof h);
    if (h.n_forest)
        memcpy(p + l.forest, b->forest->edges, l.closest - l.forest);
    uint32_t *edge = (uint32_t *)(void *)(p + l.edges), *early = (uint32_t *)(void *)(p + l.early);
    uint64_t *closest = (uint64_t *)(void *)(p + l.closest);
    for (uint32_t i = 0; b->sets.parent && i < b->n; i++) {
        uint32_t root = union_find_root(&b->sets, i);
        if (root != i) {
            *edge++ = i;
            *edge++ = root;
        }
    }
    for (uint64_t i = 0; i < h.n_early; i++) {
        early[i] = b->earlier[h.first + i];
        if (h.n_closest)
            closest[i] = b->closest[h.first + i];
    }
    *n = l.all;
    return p;
}

static bool usable(const struct balance_run *b, uint32_t row)
{
    return row < b->n && b->place[row] != BALANCE_NONE;
}

// The bytes may come from a file that was made of other rows.
static bool fits(const struct balance_run *b, const struct joins_head *h,
                 const struct joins_layout *l, const char *p)
{
    const struct balance_edge *forest = (const void *)(p + l->forest);
    const uint32_t *edge = (const void *)(p + l->edges), *early = (const void *)(p + l->early);
    bool good = h->first + h->n_early <= b->usable && (b->earlier || !h->n_early) &&
                (b->sets.parent || !h->n_edges) && (b->forest || !h->n_forest) &&
                (!b->closest || h->n_closest == h->n_early) && (b->closest || !h->n_closest);
    for (uint64_t i = 0; i < h->n_forest && good; i++)
        good = usable(b, forest[i].a) && usable(b, forest[i].b) && forest[i].distance < 5;
    for (uint64_t i = 0; i < h->n_edges && good; i++)
        good = usable(b, edge[2 * i]) && usable(b, edge[2 * i + 1]);
    for (uint64_t i = 0; i < h->n_early && good; i++)
        good = early[i] == BALANCE_NONE || early[i] < h->first + i;
    return good;
}

int balance_joins_add(struct balance_run *b, const void *joins, size_t n, struct err *e)
{
    struct joins_head h;
    struct joins_layout l;
    const char *p = joins;
    if (n < sizeof h)
        return err_set(e, "damaged joins");
    memcpy(&h, p, sizeof h);
    if (!layout(&h, b->n, &l) || l.all != n || !fits(b, &h, &l, p))
        return err_set(e, "joins of other rows");
    const struct balance_edge *forest = (const void *)(p + l.forest);
    const uint64_t *closest = (const void *)(p + l.closest);
    const uint32_t *edge = (const void *)(p + l.edges), *early = (const void *)(p + l.early);
    b->n_near += h.near;
    b->r->compared += h.compared;
    for (uint64_t i = 0; i < h.n_edges; i++)
        union_find_join(&b->sets, edge[2 * i], edge[2 * i + 1]);
    if (h.n_forest)
        balance_forest_add(b->forest, forest, h.n_forest);
    for (uint64_t i = 0; i < h.n_early; i++) {
        b->earlier[h.first + i] = early[i];
        if (h.n_closest)
            b->closest[h.first + i] = closest[i];
    }
    return 0;
}

// To rank 0, which adds them up; `mine` is its own already.
static int send_joins(struct balance_run *b, struct comm *c, const void *mine, size_t n,
                      struct err *e)
{
    size_t ranks = (size_t)c->size, sum = 0;
    size_t *give = mem_alloc(2 * ranks, sizeof *give, e), *take = give + ranks;
    if (!give)
        return -1;
    give[0] = c->rank ? n : 0;
    int r = comm_counts(c, "sizes of joins", give, take, e);
    for (size_t i = 0; i < ranks && !r; i++)
        sum += take[i];
    char *all = r ? NULL : mem_alloc(1, sum, e);
    r = all ? comm_spread(c, "joins", mine, give, all, take, e) : -1;
    for (size_t i = 0, at = 0; i < ranks && !r; at += take[i++])
        if (take[i])
            r = balance_joins_add(b, all + at, take[i], e);
    free(all);
    free(give);
    return r;
}

int balance_joins_collect(struct balance_run *b, int status, struct err *e)
{
    struct comm *c = b->o->comm;
    size_t n = 0;
    if (!c || c->size == 1)
        return status;
    void *mine = NULL;
    if (!status && c->rank && !(mine = balance_joins_pack(b, &n, e)))
        status = -1;
    int r = comm_agree(c, status, e);
    if (!r)
        r = send_joins(b, c, mine, n, e);
    free(mine);
    return r;
}

int balance_joins_share(struct balance_run *b, struct err *e)
{
    struct comm *c = b->o->comm;
    struct balance_result *r = b->r;
    uint64_t n = r->n_merges;
    if (!c || c->size == 1)
        return 0;
    if (comm_broadcast(c, "merges", 0, &n, sizeof n, e) ||
        comm_broadcast(c, "merges", 0, r->merges, n * sizeof *r->merges, e))
        return -1;
    r->n_merges = n;
    return 0;
}
