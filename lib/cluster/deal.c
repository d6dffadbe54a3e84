// SPDX-License-Identifier: Apache-2.0
#include "cluster/deal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "system/signals.h"

enum { ROUND_BYTES = 4 << 20 }; // of the rows that a rank gives away at once

struct deal {
    struct kmeans_dealt *d;
    struct comm *c;
    const struct kmeans_points *p;
    const int32_t *label;
    uint64_t from, n;
    size_t row, size;      // bytes of a row; ranks
    uint64_t round;        // points of a round
    struct row_store read; // of a round
    char *give, *take;     // rows; take grows
    int32_t *labels[2];    // given, taken
    size_t take_room, labels_room;
    uint64_t *slot;   // rank x own coarse clusters: where its next row of that cluster goes
    size_t *count[4]; // per rank: rows given, taken; their bytes
    uint64_t *at;     // per rank, into give
};

static int read_rows(void *ctx, uint64_t first, uint64_t count, float *out, struct err *e)
{
    const struct kmeans_dealt *d = ctx;
    (void)e;
    for (uint64_t i = 0; i < count; i++, out += d->rows.dim) {
        const float *x = row_store_at(&d->rows, first + i, out);
        if (x != out)
            memcpy(out, x, d->rows.dim * sizeof *out);
    }
    return 0;
}

static int gather_rows(void *ctx, const uint64_t *rows, size_t count, float *out, struct err *e)
{
    const struct kmeans_dealt *d = ctx;
    for (size_t i = 0; i < count; i++)
        read_rows(ctx, rows[i], 1, out + i * d->rows.dim, e);
    return 0;
}

// Runs of coarse clusters with about as many points each.
static void choose_owners(struct deal *g, const uint64_t *all, size_t k1)
{
    double sum = 0, at = 0;
    size_t r = 1;
    for (size_t k = 0; k < k1; k++)
        sum += (double)all[k];
    for (size_t k = 0; k < k1; k++) {
        for (; r < g->size && at >= sum * (double)r / (double)g->size; r++)
            g->d->first[r] = k;
        at += (double)all[k];
    }
    for (; r <= g->size; r++)
        g->d->first[r] = k1;
}

static size_t owner_of(const struct deal *g, int32_t k)
{
    size_t r = 0;
    while ((size_t)k >= g->d->first[r + 1])
        r++;
    return r;
}

// The place of each rank's points of each own cluster: by cluster, then by rank, whose points are
// in the order of the source.
static int plan(struct deal *g, const uint64_t *own, struct err *e)
{
    struct kmeans_dealt *d = g->d;
    size_t mine = d->first[g->c->rank + 1] - d->first[g->c->rank];
    for (size_t r = 0; r < g->size; r++) {
        g->count[2][r] = (d->first[r + 1] - d->first[r]) * sizeof *own;
        g->count[3][r] = mine * sizeof *own;
    }
    g->slot = mem_alloc(g->size * mine, sizeof *g->slot, e);
    if (!g->slot ||
        comm_spread(g->c, "sizes of clusters", own, g->count[2], g->slot, g->count[3], e))
        return -1;
    uint64_t at = 0;
    for (size_t k = 0; k < mine; k++)
        for (size_t r = 0; r < g->size; r++) {
            uint64_t n = g->slot[r * mine + k];
            g->slot[r * mine + k] = at;
            at += n;
        }
    d->points.n = at;
    return 0;
}

static int allocate(struct deal *g, struct err *e)
{
    struct kmeans_dealt *d = g->d;
    const struct row_source *s = g->p->source;
    g->round = g->row < ROUND_BYTES ? ROUND_BYTES / g->row : 1;
    if (row_store_init(&d->rows, s, d->points.n, e) || row_store_init(&g->read, s, g->round, e))
        return -1;
    d->label = mem_alloc(d->points.n, sizeof *d->label, e);
    g->give = d->label ? mem_alloc(g->round, g->row, e) : NULL;
    g->labels[0] = g->give ? mem_alloc(g->round, sizeof *g->labels[0], e) : NULL;
    return g->labels[0] ? 0 : -1;
}

static int read_round(struct deal *g, uint64_t first, uint64_t n, struct err *e)
{
    const struct kmeans_points *p = g->p;
    if (!p->rows)
        return row_store_read(&g->read, 0, p->source, first, n, e);
    uint64_t *rows = mem_alloc(n, sizeof *rows, e);
    for (uint64_t i = 0; rows && i < n; i++)
        rows[i] = p->rows[first + i];
    int r = rows ? row_store_gather(&g->read, 0, p->source, rows, n, e) : -1;
    free(rows);
    return r;
}

// Sorts a round's rows by the rank that gets them.
static void pack(struct deal *g, const int32_t *label, uint64_t n)
{
    memset(g->count[0], 0, g->size * sizeof *g->count[0]);
    for (uint64_t i = 0; i < n; i++)
        if (label[i] >= 0)
            g->count[0][owner_of(g, label[i])]++;
    for (size_t r = 0, at = 0; r < g->size; r++) {
        g->at[r] = at;
        at += g->count[0][r];
    }
    for (uint64_t i = 0; i < n; i++) {
        if (label[i] < 0)
            continue;
        uint64_t at = g->at[owner_of(g, label[i])]++;
        memcpy(g->give + at * g->row, (const char *)g->read.data + i * g->row, g->row);
        g->labels[0][at] = label[i];
    }
}

static void place(struct deal *g)
{
    struct kmeans_dealt *d = g->d;
    size_t begin = d->first[g->c->rank], mine = d->first[g->c->rank + 1] - begin, at = 0;
    for (size_t r = 0; r < g->size; r++)
        for (size_t i = 0; i < g->count[1][r]; i++, at++) {
            int32_t k = g->labels[1][at];
            uint64_t to = g->slot[r * mine + ((size_t)k - begin)]++;
            memcpy((char *)d->rows.data + to * g->row, g->take + at * g->row, g->row);
            d->label[to] = k;
        }
}

static void bytes_of(struct deal *g, size_t item)
{
    for (size_t r = 0; r < g->size; r++) {
        g->count[2][r] = g->count[0][r] * item;
        g->count[3][r] = g->count[1][r] * item;
    }
}

static int send_round(struct deal *g, struct err *e)
{
    size_t n = 0;
    if (comm_counts(g->c, "counts of rows", g->count[0], g->count[1], e))
        return -1;
    for (size_t r = 0; r < g->size; r++)
        n += g->count[1][r];
    if (mem_grow(&g->take, &g->take_room, n + 1, g->row, e) ||
        mem_grow(&g->labels[1], &g->labels_room, n + 1, sizeof *g->labels[1], e))
        return -1;
    bytes_of(g, sizeof *g->labels[0]);
    if (comm_spread(g->c, "labels of rows", g->labels[0], g->count[2], g->labels[1], g->count[3],
                    e))
        return -1;
    bytes_of(g, g->row);
    return comm_spread(g->c, "rows", g->give, g->count[2], g->take, g->count[3], e);
}

static int send_all(struct deal *g, struct err *e)
{
    uint64_t most = comm_share(g->c, g->p->n, 1); // rank 0 has as many points as any
    for (uint64_t at = 0; at < most; at += g->round) {
        uint64_t left = at < g->n ? g->n - at : 0, n = left < g->round ? left : g->round;
        int r = n ? read_round(g, g->from + at, n, e) : 0;
        if (!r && signals_stop_wanted())
            r = err_set(e, "stopped");
        if (comm_agree(g->c, r, e))
            return -1;
        pack(g, g->label + at, n);
        if (send_round(g, e))
            return -1;
        place(g);
    }
    return 0;
}

double kmeans_deal_bytes(const struct kmeans_dealt *d)
{
    double row = (double)d->rows.dim * (d->rows.half ? 2 : 4);
    // At worst all ranks' rows of a round come here.
    return (double)d->points.n * (row + 4) + (2.0 + (double)d->ranks) * ROUND_BYTES;
}

static int deal(struct deal *g, const uint64_t *own, const uint64_t *all, size_t k1, double mem,
                struct err *e)
{
    struct kmeans_dealt *d = g->d;
    int r = 0;
    d->first = mem_alloc(g->size + 1, sizeof *d->first, e);
    g->at = d->first ? mem_alloc(g->size, sizeof *g->at, e) : NULL;
    for (int i = 0; i < 4 && g->at && !r; i++)
        r = (g->count[i] = mem_alloc(g->size, sizeof *g->count[i], e)) ? 0 : -1;
    if (!g->at || r)
        return -1;
    choose_owners(g, all, k1);
    if (plan(g, own, e))
        return -1;
    double need = kmeans_deal_bytes(d);
    if (need > mem)
        r = err_set(e,
                    "the %llu rows of its coarse clusters take %.0f MiB: see --mem, or more ranks",
                    (unsigned long long)d->points.n, ceil(need / 1048576));
    return comm_agree(g->c, r || allocate(g, e) ? -1 : 0, e) || send_all(g, e) ? -1 : 0;
}

int kmeans_deal(struct kmeans_dealt *d, struct comm *c, const struct kmeans_points *p,
                uint64_t from, uint64_t n, const int32_t *label, const uint64_t *own,
                const uint64_t *all, size_t k1, double mem, struct err *e)
{
    struct deal g = {.d = d,
                     .c = c,
                     .p = p,
                     .label = label,
                     .from = from,
                     .n = n,
                     .row = p->source->dim * row_store_value(p->source),
                     .size = (size_t)c->size};
    *d = (struct kmeans_dealt){.rows = {.dim = p->source->dim, .half = p->source->read_half},
                               .ranks = (size_t)c->size};
    int r = deal(&g, own, all, k1, mem, e);
    d->source = (struct row_source){.n = d->points.n,
                                    .dim = p->source->dim,
                                    .ctx = d,
                                    .read = read_rows,
                                    .gather = gather_rows};
    d->points.source = &d->source;
    d->points.normalize = p->normalize;
    row_store_release(&g.read);
    free(g.give);
    free(g.take);
    free(g.labels[0]);
    free(g.labels[1]);
    free(g.slot);
    free(g.at);
    for (int i = 0; i < 4; i++)
        free(g.count[i]);
    return r;
}

void kmeans_dealt_release(struct kmeans_dealt *d)
{
    row_store_release(&d->rows);
    free(d->label);
    free(d->first);
    *d = (struct kmeans_dealt){0};
}
