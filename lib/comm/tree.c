// SPDX-License-Identifier: Apache-2.0
#include "comm/tree.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static bool power_of_two(int n)
{
    return (n & (n - 1)) == 0;
}

void *comm_tree_local(void *const *part, size_t n, size_t items, comm_join_fn *join, void *ctx)
{
    for (size_t w = 1; w < n; w *= 2)
        for (size_t i = 0; i + w < n; i += 2 * w)
            join(ctx, part[i], part[i + w], items);
    return part[0];
}

size_t comm_tree_room_at(const struct comm *c, size_t most, size_t bytes)
{
    return c->size == 1 ? 0 : most * bytes * (power_of_two(c->size) ? 1 : (size_t)c->size);
}

size_t comm_tree_room(const struct comm *c, size_t items, size_t bytes)
{
    return comm_tree_room_at(c, items / (size_t)c->size + 1, bytes);
}

// The ends of equal shares, heap.
static size_t *shares(const struct comm *c, size_t items, struct err *e)
{
    size_t *cut = mem_alloc((size_t)c->size + 1, sizeof *cut, e);
    for (int r = 0; cut && r <= c->size; r++)
        cut[r] = comm_share(c, items, r);
    return cut;
}

static size_t count_of(const size_t *cut, int r)
{
    return cut[r + 1] - cut[r];
}

// Halving: at a distance of d a rank keeps the shares whose number ends as its own in the bits up
// to d, and joins what the peer has of them.
static int halve(struct comm *c, const char *what, char *x, const size_t *cut, size_t bytes,
                 comm_join_fn *join, void *ctx, void *room, struct err *e)
{
    for (int d = 1; d < c->size; d *= 2) {
        int peer = c->rank ^ d, give = peer % (2 * d), keep = c->rank % (2 * d);
        for (int at = 0; at < c->size; at += 2 * d) {
            char *given = x + cut[at + give] * bytes, *kept = x + cut[at + keep] * bytes;
            size_t n = count_of(cut, at + keep);
            if (comm_exchange(c, what, peer, given, count_of(cut, at + give) * bytes, room,
                              n * bytes, e))
                return -1;
            join(ctx, kept, room, n);
        }
    }
    return 0;
}

// Any number of ranks: each gets its share of all, and joins them by the same tree.
static int join_shares(struct comm *c, const char *what, char *x, const size_t *cut, size_t bytes,
                       comm_join_fn *join, void *ctx, char *room, struct err *e)
{
    size_t size = (size_t)c->size, n = count_of(cut, c->rank);
    size_t *give = mem_alloc(2 * size, sizeof *give, e);
    void **part = give ? mem_alloc(size, sizeof *part, e) : NULL;
    int r = part ? 0 : -1;
    for (size_t i = 0; i < size && !r; i++) {
        give[i] = count_of(cut, (int)i) * bytes;
        give[size + i] = n * bytes;
        part[i] = room + i * n * bytes;
    }
    if (!r)
        r = comm_spread(c, what, x + cut[0] * bytes, give, room, give + size, e);
    if (!r && n)
        memcpy(x + cut[c->rank] * bytes, comm_tree_local(part, size, n, join, ctx), n * bytes);
    free(give);
    free(part);
    return r;
}

int comm_tree_scatter_at(struct comm *c, const char *what, void *x, const size_t *cut, size_t bytes,
                         comm_join_fn *join, void *ctx, void *room, struct err *e)
{
    return power_of_two(c->size) ? halve(c, what, x, cut, bytes, join, ctx, room, e)
                                 : join_shares(c, what, x, cut, bytes, join, ctx, room, e);
}

int comm_tree_scatter(struct comm *c, const char *what, void *x, size_t items, size_t bytes,
                      comm_join_fn *join, void *ctx, void *room, struct err *e)
{
    size_t *cut = shares(c, items, e);
    int r = cut ? comm_tree_scatter_at(c, what, x, cut, bytes, join, ctx, room, e) : -1;
    free(cut);
    return r;
}

int comm_tree_gather_at(struct comm *c, const char *what, void *x, const size_t *cut, size_t bytes,
                        struct err *e)
{
    if (c->size == 1)
        return 0;
    size_t *each = mem_alloc((size_t)c->size, sizeof *each, e);
    if (!each)
        return -1;
    for (int r = 0; r < c->size; r++)
        each[r] = count_of(cut, r) * bytes;
    char *all = (char *)x + cut[0] * bytes, *mine = (char *)x + cut[c->rank] * bytes;
    int r = comm_gather_each(c, what, mine, each, all, e);
    free(each);
    return r;
}

int comm_tree_gather(struct comm *c, const char *what, void *x, size_t items, size_t bytes,
                     struct err *e)
{
    if (c->size == 1)
        return 0;
    size_t *cut = shares(c, items, e);
    int r = cut ? comm_tree_gather_at(c, what, x, cut, bytes, e) : -1;
    free(cut);
    return r;
}

int comm_tree_all(struct comm *c, const char *what, void *x, size_t items, size_t bytes,
                  comm_join_fn *join, void *ctx, void *room, struct err *e)
{
    return comm_tree_scatter(c, what, x, items, bytes, join, ctx, room, e) ||
                   comm_tree_gather(c, what, x, items, bytes, e)
               ? -1
               : 0;
}

void comm_add_f32(void *ctx, void *x, const void *y, size_t n)
{
    float *restrict a = x;
    const float *restrict b = y;
    (void)ctx;
    for (size_t i = 0; i < n; i++)
        a[i] += b[i];
}

void comm_add_i64(void *ctx, void *x, const void *y, size_t n)
{
    int64_t *restrict a = x;
    const int64_t *restrict b = y;
    (void)ctx;
    for (size_t i = 0; i < n; i++)
        a[i] += b[i];
}
