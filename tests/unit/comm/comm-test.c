// SPDX-License-Identifier: Apache-2.0
// Ranks: what each call moves, sums whose bytes are the same for any number of ranks, and that no
// rank waits for one that has failed. Threads are the ranks.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "comm/tree.h"
#include "unit/tap.h"

enum { MOST = 8, ROWS = 37 };

static int wrong(struct err *e, const char *what)
{
    return err_set(e, "%s", what);
}

// ---- bytes

static int moves_gather(struct comm *c, struct err *e)
{
    int mine[3] = {c->rank, 10 * c->rank, 7}, all[3 * MOST], each[MOST * MOST];
    size_t bytes[MOST], at = 0;
    if (comm_near(c, e) || comm_gather(c, "triples", mine, sizeof mine, all, e))
        return -1;
    if (c->near != c->size)
        return wrong(e, "ranks of this host");
    for (int r = 0; r < c->size; r++)
        if (all[3 * r] != r || all[3 * r + 1] != 10 * r || all[3 * r + 2] != 7)
            return wrong(e, "gather");
    for (int r = 0; r < c->size; r++)
        bytes[r] = (size_t)r * sizeof(int); // rank 0 has none
    for (int r = 0; r < c->rank; r++)
        at += (size_t)r;
    for (int i = 0; i < c->rank; i++)
        each[at + (size_t)i] = 100 * c->rank + i;
    if (comm_gather_each(c, "in place", each + at, bytes, each, e))
        return -1;
    for (int r = 0, k = 0; r < c->size; r++)
        for (int i = 0; i < r; i++, k++)
            if (each[k] != 100 * r + i)
                return wrong(e, "gather of unequal rows in place");
    return 0;
}

// Rank r gives rank k r + 2 k items of 100 r + k.
static int moves_spread(struct comm *c, struct err *e)
{
    int give[4 * MOST * MOST], take[4 * MOST * MOST], r = 0;
    size_t n_give[MOST], n_take[MOST], at = 0;
    for (int k = 0; k < c->size; k++) {
        n_give[k] = (size_t)(c->rank + 2 * k) * sizeof *give;
        for (int i = 0; i < c->rank + 2 * k; i++)
            give[at++] = 100 * c->rank + k;
    }
    if (comm_counts(c, "counts", n_give, n_take, e) ||
        comm_spread(c, "rows", give, n_give, take, n_take, e))
        return -1;
    at = 0;
    for (int k = 0; k < c->size; k++) {
        if (n_take[k] != (size_t)(k + 2 * c->rank) * sizeof *take)
            return wrong(e, "counts");
        for (int i = 0; i < k + 2 * c->rank; i++)
            r |= take[at++] != 100 * k + c->rank;
    }
    return r ? wrong(e, "spread") : 0;
}

static int moves_rest(struct comm *c, struct err *e)
{
    bool any;
    for (int from = 0; from < c->size; from++) {
        int x[2] = {c->rank == from ? 42 + from : -1, from};
        if (comm_broadcast(c, "numbers", from, x, sizeof x, e))
            return -1;
        if (x[0] != 42 + from)
            return wrong(e, "broadcast");
    }
    if (comm_barrier(c, "all", e) || comm_any(c, "stop", c->rank == c->size - 1, &any, e))
        return -1;
    if (!any)
        return wrong(e, "any");
    if (comm_any(c, "stop", false, &any, e))
        return -1;
    if (any)
        return wrong(e, "none");
    size_t sum = 0;
    for (int r = 0; r < c->size; r++) {
        size_t n = comm_share(c, ROWS, r + 1) - comm_share(c, ROWS, r);
        sum += n;
        if (n < ROWS / (size_t)c->size || n > ROWS / (size_t)c->size + 1)
            return wrong(e, "share");
    }
    return sum == ROWS && comm_share(c, ROWS, c->size) == ROWS ? 0 : wrong(e, "shares");
}

static int moves(void *ctx, struct comm *c, struct err *e)
{
    (void)ctx;
    return moves_gather(c, e) || moves_spread(c, e) || moves_rest(c, e) ? -1 : 0;
}

static void test_moves(void)
{
    struct err e;
    for (int size = 1; size <= MOST; size++) {
        e.text[0] = 0;
        int r = comm_threads(size, moves, NULL, &e);
        ok(r == 0, "%d ranks: every call moves the bytes that it says %s", size, r ? e.text : "");
    }
}

// ---- sums

enum { PARTS = 8 };

struct sums {
    float *want;     // ROWS, of one rank
    float got[ROWS]; // of rank 0
    uint64_t sent;   // by rank 0
    int64_t whole[ROWS];
};

// Numbers of all magnitudes: a sum in another order has other bits.
static float number(size_t part, size_t i)
{
    uint32_t w[4];
    rng_block(5, part, i, w);
    float x = ((float)w[0] - 2147483648.0F) / 2147483648.0F;
    for (uint32_t s = w[1] % 24; s; s--)
        x *= 2;
    return x;
}

static int sum_parts(void *ctx, struct comm *c, struct err *e)
{
    struct sums *s = ctx;
    size_t n = PARTS / (size_t)c->size, first = n * (size_t)c->rank;
    float x[PARTS][ROWS], room[MOST * (ROWS + MOST)];
    void *part[PARTS];
    for (size_t p = 0; p < n; p++) {
        part[p] = x[p];
        for (size_t i = 0; i < ROWS; i++)
            x[p][i] = number(first + p, i);
    }
    if (comm_tree_room(c, ROWS, sizeof(float)) > sizeof room)
        return wrong(e, "room");
    float *sum = comm_tree_local(part, n, ROWS, comm_add_f32, NULL);
    uint64_t before = c->sent;
    if (comm_tree_scatter(c, "gradient", sum, ROWS, sizeof *sum, comm_add_f32, NULL, room, e))
        return -1;
    if (c->rank == 0)
        s->sent = c->sent - before;
    if (comm_tree_gather(c, "gradient", sum, ROWS, sizeof *sum, e))
        return -1;
    if (c->rank == 0)
        memcpy(s->got, sum, sizeof s->got);
    return 0;
}

// The same sums with shares that are cut elsewhere, one of them empty.
static int sum_cut(void *ctx, struct comm *c, struct err *e)
{
    struct sums *s = ctx;
    size_t n = PARTS / (size_t)c->size, first = n * (size_t)c->rank, cut[MOST + 1] = {0};
    float x[PARTS][ROWS], room[MOST * ROWS];
    void *part[PARTS];
    for (int r = 1; r <= c->size; r++)
        cut[r] = r == c->size ? ROWS : r == 2 ? cut[1] : (size_t)r * r * ROWS / 70 + 1;
    for (size_t p = 0; p < n; p++) {
        part[p] = x[p];
        for (size_t i = 0; i < ROWS; i++)
            x[p][i] = number(first + p, i);
    }
    if (comm_tree_room_at(c, ROWS, sizeof(float)) > sizeof room)
        return wrong(e, "room");
    float *sum = comm_tree_local(part, n, ROWS, comm_add_f32, NULL);
    if (comm_tree_scatter_at(c, "shares", sum, cut, sizeof *sum, comm_add_f32, NULL, room, e))
        return -1;
    size_t mine = cut[c->rank + 1] - cut[c->rank];
    if (memcmp(sum + cut[c->rank], s->want + cut[c->rank], mine * sizeof *sum))
        return wrong(e, "a share");
    if (comm_tree_gather_at(c, "shares", sum, cut, sizeof *sum, e))
        return -1;
    return memcmp(sum, s->want, ROWS * sizeof *sum) ? wrong(e, "the gathered sum") : 0;
}

static int sum_whole(void *ctx, struct comm *c, struct err *e)
{
    struct sums *s = ctx;
    int64_t x[ROWS], room[MOST * (ROWS + MOST)];
    for (size_t i = 0; i < ROWS; i++)
        x[i] = (int64_t)i * (c->rank + 1);
    if (comm_tree_all(c, "counts", x, ROWS, sizeof *x, comm_add_i64, NULL, room, e))
        return -1;
    for (size_t i = 0; i < ROWS; i++)
        if (x[i] != (int64_t)i * c->size * (c->size + 1) / 2)
            return wrong(e, "a sum of integers");
    if (c->rank == 0)
        memcpy(s->whole, x, sizeof x);
    return 0;
}

static void test_sums(void)
{
    struct sums one = {0}, many;
    struct err e;
    float other[ROWS] = {0};
    ok(comm_threads(1, sum_parts, &one, &e) == 0, "one rank sums its parts");
    for (size_t p = 0; p < PARTS; p++)
        for (size_t i = 0; i < ROWS; i++)
            other[i] += number(p, i);
    ok(memcmp(other, one.got, sizeof other) != 0, "these numbers show the order of a sum");
    for (int size = 2; size <= MOST; size *= 2) {
        many = (struct sums){0};
        int r = comm_threads(size, sum_parts, &many, &e);
        ok(r == 0 && memcmp(one.got, many.got, sizeof one.got) == 0,
           "%d ranks: the same bytes as one %s", size, r ? e.text : "");
        many = (struct sums){.want = one.got, .sent = many.sent};
        r = comm_threads(size, sum_cut, &many, &e);
        ok(r == 0, "  in shares of other sizes %s", r ? e.text : "");
        ok(many.sent <= (ROWS - ROWS / (uint64_t)size) * sizeof(float),
           "a rank sends %d / %d of them", size - 1, size);
    }
    for (int size = 1; size <= MOST; size++) {
        int r = comm_threads(size, sum_whole, &many, &e);
        ok(r == 0, "%d ranks: integers %s", size, r ? e.text : "");
    }
}

// ---- failures

enum fault { FAULT_EARLY, FAULT_ENDS, FAULT_SIZE, FAULT_OTHER, FAULT_ABORT, FAULTS };

static int faulty(void *ctx, struct comm *c, struct err *e)
{
    enum fault fault = *(enum fault *)ctx;
    int x = c->rank, all[MOST + 1];
    bool me = c->rank == 1;
    if (me && fault == FAULT_EARLY)
        return err_set(e, "cannot read its input");
    if (me && fault == FAULT_ENDS)
        return 0;
    if (me && fault == FAULT_ABORT)
        comm_abort(c, 1);
    if (me && fault == FAULT_SIZE)
        return comm_gather(c, "labels", &x, 1, all, e);
    if (comm_gather(c, me && fault == FAULT_OTHER ? "rows" : "labels", &x, sizeof x, all, e))
        return -1;
    return comm_barrier(c, "the end", e);
}

static int agrees(void *ctx, struct comm *c, struct err *e)
{
    int all = *(int *)ctx, r = 0;
    if (comm_agree(c, 0, e))
        return -1;
    if (all || c->rank == 1 || c->rank == 2)
        r = all ? err_set(e, "no such file") : err_machine(e, "input %d is missing", c->rank);
    r = comm_agree(c, r, e);
    if (r == 0)
        return 0;
    if (!all &&
        (!strstr(e->text, "rank 1 (") || !strstr(e->text, "): input 1 is missing") || !e->machine))
        return wrong(e, "no rank's word");
    return -1;
}

static void test_failures(void)
{
    static const char *const want[FAULTS] = {
        "cannot read its input", "cannot gather labels: rank 1 has ended",
        "cannot gather labels: ", "cannot gather ", "cannot gather labels: rank 1 failed"};
    struct err e;
    for (enum fault f = 0; f < FAULTS; f++) {
        e.text[0] = 0;
        int r = comm_threads(3, faulty, &f, &e);
        ok(r == -1 && strncmp(e.text, want[f], strlen(want[f])) == 0,
           "a rank that fails ends all: %s", e.text);
    }
    int all = 0, r = comm_threads(4, agrees, &all, &e);
    ok(r == -1 && strncmp(e.text, "rank 1 (", 8) == 0, "all say the same of two that failed: %s",
       e.text);
    all = 1;
    r = comm_threads(4, agrees, &all, &e);
    ok(r == -1 && strcmp(e.text, "no such file") == 0, "what all have alike has no rank");
}

int main(void)
{
    test_moves();
    test_sums();
    test_failures();
    return tap_done();
}
