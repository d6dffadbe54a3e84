// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "balance/run.h"
#include "base/mem.h"
#include "system/threads.h"
#include "base/rng.h"

enum { BATCH = 8192 }; // rows fetched at once, where they are not in memory

struct group {
    uint32_t first, n; // in members
};

struct groups {
    struct balance_run *b;
    uint32_t *members; // rows of groups of two and more, by group, then ascending
    uint32_t n_members;
    uint32_t *size;       // per row, of the group whose lowest row it is
    struct group *list;   // of one batch
    size_t batch;         // members of one batch at most
    float *rows;          // batch x dim; NULL where all rows are in memory
    uint32_t *slot;       // per member of the batch: its row in `rows`
    uint32_t batch_first; // in members
    uint32_t begin, end;  // in members: the groups that are picked here
    struct loop_error fail;
};

// State of picking the survivor of a group.
struct pick {
    const struct balance_run *b;
    double *mean; // dim
    float *room;  // dim
};

static void add_unit(double *mean, const float *x, double norm, size_t dim)
{
    double scale = 1 / norm;
    for (size_t d = 0; d < dim; d++)
        mean[d] += x[d] * scale;
}

static double from_mean(const double *mean, const float *x, double norm, size_t dim)
{
    double scale = 1 / norm, sum[4] = {0};
    for (size_t d = 0; d < dim; d++) {
        double t = x[d] * scale - mean[d];
        sum[d % 4] += t * t;
    }
    return sum[0] + sum[1] + sum[2] + sum[3];
}

static double cost(const struct pick *p, const float *x, double norm, uint32_t row)
{
    const struct balance_run *b = p->b;
    uint32_t word[4];
    switch (b->o->survivor) {
    case BALANCE_CENTER:
        return from_mean(p->mean, x, norm, b->dim);
    case BALANCE_HARD:
        return balance_to_centroid(b, x, norm, row);
    case BALANCE_EASY:
        return -balance_to_centroid(b, x, norm, row);
    case BALANCE_SCORE:
        return -(double)b->o->score[row];
    case BALANCE_RANDOM:
        rng_block(b->o->seed, 0, row, word);
        return word[0] + word[1] * 0x1p-32;
    default:
        return row;
    }
}

// The row of a member of the batch.
static const float *member(const struct groups *g, uint32_t at, float *room, double *norm)
{
    const struct balance_run *b = g->b;
    if (row_store_there(&b->rows)) {
        *norm = b->norm[g->members[at]];
        return row_store_at(&b->rows, g->members[at], room);
    }
    const float *x = g->rows + (size_t)g->slot[at - g->batch_first] * b->dim;
    *norm = sqrt(dot_exact(x, x, b->dim));
    return x;
}

static void settle(struct balance_run *b, const uint32_t *members, uint32_t n, uint32_t kept)
{
    for (uint32_t i = 0; i < n; i++)
        b->r->group[members[i]] = kept;
}

static bool may_survive(const struct balance_run *b, uint32_t row)
{
    return !b->o->may_survive || b->o->may_survive[row];
}

// The least cost among those that may survive (all, where none may); for the centre, all within
// 1e-6 of it tie and the lowest row wins.
static uint32_t least(const struct balance_run *b, const uint32_t *members, const double *costs,
                      uint32_t n)
{
    double best = INFINITY, tie = b->o->survivor == BALANCE_CENTER ? 1e-6 : 0;
    bool some = false;
    for (uint32_t i = 0; i < n; i++)
        some = some || may_survive(b, members[i]);
    for (uint32_t i = 0; i < n; i++)
        if ((!some || may_survive(b, members[i])) && costs[i] < best)
            best = costs[i];
    for (uint32_t i = 0;; i++)
        if ((!some || may_survive(b, members[i])) && costs[i] <= best + tie)
            return members[i];
}

static void pick_row(struct groups *g, struct group k, const struct pick *p, double *costs)
{
    struct balance_run *b = g->b;
    const uint32_t *members = g->members + k.first;
    double norm;
    for (uint32_t m = 0; m < k.n && b->o->survivor == BALANCE_CENTER; m++) {
        const float *x = member(g, k.first + m, p->room, &norm);
        add_unit(p->mean, x, norm, b->dim);
    }
    for (size_t d = 0; d < b->dim; d++)
        p->mean[d] /= k.n;
    for (uint32_t m = 0; m < k.n; m++) {
        const float *x = member(g, k.first + m, p->room, &norm);
        costs[m] = cost(p, x, norm, members[m]);
    }
    settle(b, members, k.n, least(b, members, costs, k.n));
}

static void group_task(void *ctx, size_t i)
{
    struct groups *g = ctx;
    struct group k = g->list[i];
    struct pick p = {.b = g->b};
    struct err e;
    if (k.n == 2 && g->b->o->survivor == BALANCE_CENTER) { // both are as near: the lower row
        const double alike[2] = {0};
        settle(g->b, g->members + k.first, 2, least(g->b, g->members + k.first, alike, 2));
        return;
    }
    p.mean = mem_alloc(g->b->dim + k.n, sizeof *p.mean, &e);
    p.room = p.mean ? mem_alloc(g->b->dim, sizeof *p.room, &e) : NULL;
    if (p.room)
        pick_row(g, k, &p, p.mean + g->b->dim);
    else
        loop_error_set(&g->fail, &e);
    free(p.mean);
    free(p.room);
}

static int by_u64(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return a < b ? -1 : a > b;
}

struct fetch {
    struct groups *g;
    const uint64_t *rows;
    uint32_t n;
};

enum { FETCH = 256 };

static void fetch_task(void *ctx, size_t i)
{
    struct fetch *f = ctx;
    struct err e;
    size_t at = i * FETCH, n = f->n - at < FETCH ? f->n - at : FETCH;
    const struct row_source *s = f->g->b->source;
    if (s->gather(s->ctx, f->rows + at, n, f->g->rows + at * s->dim, &e))
        loop_error_set(&f->g->fail, &e);
}

// Reads the rows of n <= BATCH members, in the order of the files; fills slot.
static int fetch_members(struct groups *g, uint32_t first, uint32_t n, struct err *e)
{
    uint64_t rows[BATCH];
    if (row_store_there(&g->b->rows))
        return 0;
    for (uint32_t i = 0; i < n; i++)
        rows[i] = (uint64_t)g->members[first + i] << 16 | i;
    qsort(rows, n, sizeof *rows, by_u64);
    for (uint32_t i = 0; i < n; i++) {
        g->slot[rows[i] & 0xffff] = i;
        rows[i] >>= 16;
    }
    g->batch_first = first;
    struct fetch f = {g, rows, n};
    return threads_for_stop(g->b->o->threads, (n + FETCH - 1) / FETCH, fetch_task, &f, e) ||
                   loop_error_check(&g->fail, e)
               ? -1
               : 0;
}

// A group of more rows than a batch: twice through its rows.
static int big_group(struct groups *g, struct group k, struct err *e)
{
    struct balance_run *b = g->b;
    struct pick p = {.b = b};
    p.mean = mem_alloc(b->dim, sizeof *p.mean, e);
    double *costs = p.mean ? mem_alloc(k.n, sizeof *costs, e) : NULL, norm;
    int r = costs ? 0 : -1;
    for (int turn = b->o->survivor == BALANCE_CENTER ? 0 : 1; turn < 2 && !r; turn++) {
        for (uint32_t at = 0; at < k.n && !r; at += BATCH) {
            uint32_t n = k.n - at < BATCH ? k.n - at : BATCH;
            r = fetch_members(g, k.first + at, n, e);
            for (uint32_t i = 0; i < n && !r; i++) {
                const float *x = member(g, k.first + at + i, NULL, &norm);
                if (turn == 0)
                    add_unit(p.mean, x, norm, b->dim);
                else
                    costs[at + i] = cost(&p, x, norm, g->members[k.first + at + i]);
            }
        }
        for (size_t d = 0; d < b->dim && turn == 0; d++)
            p.mean[d] /= k.n;
    }
    if (!r)
        settle(b, g->members + k.first, k.n, least(b, g->members + k.first, costs, k.n));
    free(p.mean);
    free(costs);
    return r;
}

static int batch(struct groups *g, size_t n_list, struct err *e)
{
    const struct group *last = &g->list[n_list - 1];
    uint32_t first = g->list[0].first;
    return fetch_members(g, first, last->first + last->n - first, e) ||
                   threads_for_stop(g->b->o->threads, n_list, group_task, g, e) ||
                   loop_error_check(&g->fail, e)
               ? -1
               : 0;
}

// members, from the roots in r->group.
static int list_members(struct groups *g, struct err *e)
{
    struct balance_run *b = g->b;
    for (uint32_t i = 0; i < b->n; i++)
        if (b->r->group[i] != BALANCE_NONE)
            g->size[b->r->group[i]]++;
    for (uint32_t i = 0; i < b->n; i++) {
        b->r->largest = g->size[i] > b->r->largest ? g->size[i] : b->r->largest;
        g->n_members += g->size[i] > 1 ? g->size[i] : 0;
    }
    g->members = mem_alloc(g->n_members, sizeof *g->members, e);
    uint32_t *at = g->members ? mem_alloc(b->n, sizeof *at, e) : NULL, sum = 0;
    if (!at)
        return -1;
    for (uint32_t i = 0; i < b->n; i++) {
        at[i] = sum;
        sum += g->size[i] > 1 ? g->size[i] : 0;
    }
    for (uint32_t i = 0; i < b->n; i++) {
        uint32_t root = b->r->group[i];
        if (root != BALANCE_NONE && g->size[root] > 1)
            g->members[at[root]++] = i;
    }
    free(at);
    return 0;
}

static int pick_all(struct groups *g, struct err *e)
{
    size_t n_list = 0;
    uint32_t rows = 0, first = 0;
    for (uint32_t root = 0; root < g->b->n; root++) {
        struct group k = {first, g->size[root]};
        if (k.n < 2)
            continue;
        first += k.n;
        if (k.first < g->begin || k.first >= g->end)
            continue;
        if (n_list && (rows + k.n > g->batch || k.n > g->batch)) {
            if (batch(g, n_list, e))
                return -1;
            n_list = rows = 0;
        }
        if (k.n > g->batch) {
            if (big_group(g, k, e))
                return -1;
        } else {
            g->list[n_list++] = k;
            rows += k.n;
        }
    }
    return n_list ? batch(g, n_list, e) : 0;
}

enum { ROOTS = 16384 };

static void root_task(void *ctx, size_t task)
{
    struct balance_run *b = ctx;
    uint64_t first = (uint64_t)task * ROOTS, end = first + ROOTS < b->n ? first + ROOTS : b->n;
    for (uint64_t i = first; i < end; i++)
        b->r->group[i] =
            row_failed(b->state[i]) ? BALANCE_NONE : union_find_root(&b->sets, (uint32_t)i);
}

// The roots that rank 0 knows, to all.
static int find_roots(struct balance_run *b, struct comm *c, struct err *e)
{
    size_t tasks = (b->n + (size_t)ROOTS - 1) / ROOTS;
    int r = c->rank ? 0 : threads_for_stop(b->o->threads, tasks, root_task, b, e);
    return comm_agree(c, r, e) ||
                   comm_broadcast(c, "groups", 0, b->r->group, b->n * sizeof *b->r->group, e)
               ? -1
               : 0;
}

// The members that each rank picks among, about as many each: first[r] .. first[r + 1].
static void share_members(const struct groups *g, const struct comm *c, uint32_t *first)
{
    uint32_t at = 0;
    int r = 1;
    first[0] = 0;
    for (uint32_t root = 0; root < g->b->n; root++) {
        for (; r < c->size && at >= comm_share(c, g->n_members, r); r++)
            first[r] = at;
        at += g->size[root] > 1 ? g->size[root] : 0;
    }
    for (; r <= c->size; r++)
        first[r] = at;
}

// Each rank has picked its groups: who is kept for each member, to all.
static int gather_kept(struct groups *g, struct comm *c, const uint32_t *first, struct err *e)
{
    uint32_t *group = g->b->r->group;
    uint32_t *kept = mem_alloc(g->n_members, sizeof *kept, e);
    size_t *bytes = kept ? mem_alloc((size_t)c->size, sizeof *bytes, e) : NULL;
    int r = comm_agree(c, bytes ? 0 : -1, e);
    for (int k = 0; k < c->size && !r; k++)
        bytes[k] = (first[k + 1] - first[k]) * sizeof *kept;
    for (uint32_t i = g->begin; i < g->end && !r; i++)
        kept[i] = group[g->members[i]];
    if (!r)
        r = comm_gather_each(c, "kept rows", kept + g->begin, bytes, kept, e);
    for (uint32_t i = 0; i < g->n_members && !r; i++)
        group[g->members[i]] = kept[i];
    free(kept);
    free(bytes);
    return r;
}

static int prepare_picks(struct groups *g, struct err *e)
{
    bool held = row_store_there(&g->b->rows);
    g->batch = held ? g->n_members : BATCH;
    g->list = mem_alloc(g->batch / 2 + 1, sizeof *g->list, e);
    g->slot = g->list && !held ? mem_alloc(BATCH, sizeof *g->slot, e) : NULL;
    g->rows = g->slot ? mem_alloc(BATCH * g->b->dim, sizeof *g->rows, e) : NULL;
    return g->rows || (held && g->list) ? 0 : -1;
}

static int pick_shared(struct groups *g, struct comm *c, struct err *e)
{
    uint32_t *first = mem_alloc((size_t)c->size + 1, sizeof *first, e);
    int r = first && !prepare_picks(g, e) ? 0 : -1;
    if (!r) {
        share_members(g, c, first);
        g->begin = first[c->rank];
        g->end = first[c->rank + 1];
        r = pick_all(g, e);
    }
    r = comm_agree(c, r, e);
    if (!r && c->size > 1)
        r = gather_kept(g, c, first, e);
    free(first);
    return r;
}

static int union_groups(struct balance_run *b, struct err *e)
{
    struct comm alone = COMM_ALONE, *c = b->o->comm ? b->o->comm : &alone;
    struct groups g = {.b = b};
    if (find_roots(b, c, e))
        return -1;
    g.size = mem_alloc(b->n, sizeof *g.size, e);
    int r = comm_agree(c, g.size ? list_members(&g, e) : -1, e);
    // Else the lowest row, the root, is kept.
    if (!r && (b->o->survivor != BALANCE_FIRST || b->o->may_survive))
        r = pick_shared(&g, c, e);
    free(g.size);
    free(g.members);
    free(g.list);
    free(g.slot);
    free(g.rows);
    return r;
}

// A row that goes follows the earlier row it is near to until one that stays.
static int semdedup_groups(struct balance_run *b, struct err *e)
{
    uint32_t *size = mem_alloc(b->usable, sizeof *size, e);
    if (!size)
        return -1;
    for (uint32_t i = 0; i < b->n; i++)
        b->r->group[i] = BALANCE_NONE;
    for (uint32_t p = 0; p < b->usable; p++) { // earlier rows first: theirs is known
        uint32_t from = b->earlier[p];
        uint32_t kept = from == BALANCE_NONE ? b->order[p] : b->r->group[b->order[from]];
        b->r->group[b->order[p]] = kept;
        uint32_t n = ++size[b->place[kept]];
        b->r->largest = n > b->r->largest ? n : b->r->largest;
    }
    free(size);
    return 0;
}

int balance_groups(struct balance_run *b, struct err *e)
{
    if (b->o->rule == BALANCE_SEMDEDUP ? semdedup_groups(b, e) : union_groups(b, e))
        return -1;
    for (uint32_t i = 0; i < b->n; i++) {
        b->r->keep[i] = b->r->group[i] == i;
        b->r->kept += b->r->keep[i];
        b->r->barred += b->r->keep[i] && !may_survive(b, i);
    }
    b->r->groups = b->r->kept;
    return b->o->cap || b->o->cap_share > 0 ? balance_cap(b, e) : 0;
}
