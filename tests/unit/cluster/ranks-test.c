// SPDX-License-Identifier: Apache-2.0
// k-means of one and of two levels over ranks: the same centroids, bit for bit, for any number of
// them. Threads are the ranks.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "base/rng.h"
#include "cluster/kmeans.h"
#include "comm/comm.h"
#include "unit/tap.h"

enum { N = 20000, CHOSEN = 18000, D = 17, K = 120, RANKS = 5, ITERATIONS = 6 };

struct task {
    const float *x;
    const struct row_source *source;
    const uint32_t *rows;
    uint64_t n, mem;
    int levels;
    bool first; // from given centroids
    int fails;  // the rank whose rows cannot be read, or -1
    float *got[RANKS];
    uint64_t sent[RANKS];
};

static void fill(float *x)
{
    struct rng r;
    for (size_t i = 0; i < N; i++) {
        rng_init(&r, 5, i * 7919 % 23);
        for (size_t d = 0; d < D; d++)
            x[i * D + d] = (float)rng_normal(&r);
        rng_init(&r, 6, i);
        for (size_t d = 0; d < D; d++)
            x[i * D + d] += (float)(0.4 * rng_normal(&r));
    }
    memset(x + 9 * D, 0, D * sizeof *x);
    x[3001 * D + 1] = NAN;
}

struct reading {
    const struct task *t;
    int rank;
};

// The same rows as float16, and one rank that cannot read its share.
static int read_half(void *ctx, uint64_t first, uint64_t count, uint16_t *out, struct err *e)
{
    const struct reading *r = ctx;
    if (r->t->fails == r->rank)
        return err_set(e, "cannot read its rows");
    half_from_f32(r->t->x + first * D, out, count * D);
    return 0;
}

static int gather_half(void *ctx, const uint64_t *rows, size_t n, uint16_t *out, struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (read_half(ctx, rows[i], 1, out + i * D, e))
            return -1;
    return 0;
}

static int read_rows(void *ctx, uint64_t first, uint64_t count, float *out, struct err *e)
{
    const struct reading *r = ctx;
    uint16_t h[D];
    if (r->t->fails == r->rank && r->t->levels == 1)
        return err_set(e, "cannot read its rows");
    for (uint64_t i = 0; i < count; i++) {
        half_from_f32(r->t->x + (first + i) * D, h, D);
        half_to_f32(h, out + i * D, D);
    }
    return 0;
}

static int gather_rows(void *ctx, const uint64_t *rows, size_t n, float *out, struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (read_rows(ctx, rows[i], 1, out + i * D, e))
            return -1;
    return 0;
}

static int train(void *ctx, struct comm *c, struct err *e)
{
    struct task *t = ctx;
    struct reading reading = {t, c->rank};
    struct row_source half = {.n = N,
                              .dim = D,
                              .ctx = &reading,
                              .read = read_rows,
                              .gather = gather_rows,
                              .read_half = read_half,
                              .gather_half = gather_half};
    struct kmeans_points p = {
        .source = t->source ? t->source : &half, .rows = t->rows, .n = t->n, .normalize = true};
    struct kmeans_options o = {.k = K,
                               .iterations = ITERATIONS,
                               .levels = t->levels,
                               .init = t->first ? t->x + 20 * D : NULL,
                               .coarse = 9,
                               .coarse_points = 700,
                               .seed = 3,
                               .threads = 1 + c->rank % 2,
                               .mem = t->mem,
                               .comm = c};
    struct kmeans_state s = {0};
    int r = kmeans_train(&p, &o, &s, e);
    if (!r) {
        t->got[c->rank] = s.centroids;
        t->sent[c->rank] = c->sent;
        s.centroids = NULL;
    }
    kmeans_state_release(&s);
    return r;
}

// The centroids of all ranks, which must be the same; NULL where they are not.
static float *run(struct task *t, int size, struct err *e)
{
    e->text[0] = '\0';
    memset(t->got, 0, sizeof t->got);
    int r = comm_threads(size, train, t, e);
    for (int i = 1; i < size; i++) {
        if (!r && memcmp(t->got[0], t->got[i], K * D * sizeof(float)))
            r = err_set(e, "rank %d has others than rank 0", i);
        free(t->got[i]);
    }
    if (!r)
        return t->got[0];
    free(t->got[0]);
    return NULL;
}

// What kmeans-cluster(1) says is sent in an iteration of one level, by all ranks: the rows, those
// of a rank's own clusters not; 12 bytes a row, in whole rounds, and the centroids to the others.
// What is above it are the agreements, of 1 KB a rank.
static void test_sent(const struct task *t, const char *what, int size)
{
    uint64_t sum = 0, others = (uint64_t)size - 1, round = 16384 / (uint64_t)size * (uint64_t)size;
    for (int r = 0; r < size; r++)
        sum += t->sent[r];
    double rows = (double)t->n * D * 4 * (double)others / size;
    double rest = (double)(((t->n + round - 1) / round * round * 12 + K * D * 4) * others);
    double share = ((double)sum / ITERATIONS - rest) / rows;
    ok(share > 0.9 && share < 1.15, "%s: %d ranks send %.2f of the rows of others' clusters", what,
       size, share);
}

static void test_same(struct task *t, const char *what)
{
    struct err e;
    float *one = run(t, 1, &e);
    ok(one, "%s: one rank %s", what, e.text);
    for (int size = 2; size <= RANKS; size++) {
        float *many = run(t, size, &e);
        ok(one && many && !memcmp(one, many, K * D * sizeof *one),
           "%s: %d ranks, the same bytes %s", what, size, e.text);
        if (t->levels == 1 && many)
            test_sent(t, what, size);
        free(many);
    }
    free(one);
}

// Points that are read again in each iteration, as memory does not hold them.
static void few_bytes(struct task *t)
{
    struct comm two = {.size = 2};
    struct kmeans_options o = {.k = K, .levels = 1, .threads = 2, .comm = &two};
    uint64_t before = t->mem;
    t->mem = kmeans_min_mem(N, D, &o) + 1000;
    struct err e;
    float *few = run(t, 2, &e);
    t->mem = before;
    float *one = run(t, 1, &e);
    ok(few && one && !memcmp(few, one, K * D * sizeof *one), "read again in each iteration %s",
       e.text);
    t->mem = kmeans_min_mem(N, D, &o) - 1000;
    float *none = run(t, 2, &e);
    ok(!none && strstr(e.text, "need at least"), "too little memory is said: %s", e.text);
    t->mem = before;
    free(few);
    free(one);
}

int main(void)
{
    struct err e;
    float *x = mem_alloc(N * D, sizeof *x, &e);
    uint32_t *rows = kmeans_sample(CHOSEN, N, 1, 0, &e);
    if (!x || !rows)
        return 1;
    fill(x);
    struct row_memory m;
    struct row_source source = row_source_memory(&m, x, N, D);
    struct task t = {.x = x, .n = N, .mem = 1u << 30, .fails = -1};
    for (t.levels = 1; t.levels <= 2; t.levels++) {
        t.source = &source;
        test_same(&t, "float32");
        t.rows = rows;
        t.n = CHOSEN;
        test_same(&t, "chosen rows");
        t.source = NULL;
        test_same(&t, "float16, chosen rows");
        t.rows = NULL;
        t.n = N;
        test_same(&t, "float16");
    }
    t.levels = 1;
    t.first = true;
    test_same(&t, "one level from given centroids");
    t.first = false;
    few_bytes(&t);
    t.levels = 2;
    struct kmeans_options small = {.k = K, .levels = 2, .coarse = 9, .threads = 2};
    t.mem = kmeans_min_mem(N, D, &small) + (1u << 20);
    float *none = run(&t, 2, &e);
    ok(!none && strstr(e.text, "MiB: see --mem, or more ranks"), "too little memory is said: %s",
       e.text);
    t.mem = 1u << 30;
    t.fails = 1;
    none = run(&t, 3, &e);
    ok(!none && strncmp(e.text, "rank 1 (", 8) == 0 && strstr(e.text, "cannot read its rows"),
       "a rank that cannot read its rows is named by all: %s", e.text);
    t.levels = 1;
    none = run(&t, 3, &e);
    ok(!none && strncmp(e.text, "rank 1 (", 8) == 0 && strstr(e.text, "cannot read its rows"),
       "of one level too: %s", e.text);
    free(x);
    free(rows);
    return tap_done();
}
