// SPDX-License-Identifier: Apache-2.0
// k-means of two levels over ranks: the same centroids, bit for bit, for any number of them.
// Threads are the ranks.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "base/rng.h"
#include "cluster/kmeans.h"
#include "comm/comm.h"
#include "unit/tap.h"

enum { N = 4000, D = 17, K = 120, RANKS = 5 };

struct task {
    const float *x;
    const struct row_source *source;
    const uint32_t *rows;
    uint64_t n, mem;
    int fails; // the rank whose rows cannot be read, or -1
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
    (void)e;
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
                               .iterations = 6,
                               .levels = 2,
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

static void test_same(struct task *t, const char *what)
{
    struct err e;
    float *one = run(t, 1, &e);
    ok(one, "%s: one rank %s", what, e.text);
    for (int size = 2; size <= RANKS; size++) {
        float *many = run(t, size, &e);
        ok(one && many && !memcmp(one, many, K * D * sizeof *one),
           "%s: %d ranks, the same bytes %s", what, size, e.text);
        free(many);
    }
    free(one);
}

int main(void)
{
    struct err e;
    float *x = mem_alloc(N * D, sizeof *x, &e);
    uint32_t *rows = kmeans_sample(2500, N, 1, 0, &e);
    if (!x || !rows)
        return 1;
    fill(x);
    struct row_memory m;
    struct row_source source = row_source_memory(&m, x, N, D);
    struct task t = {.x = x, .source = &source, .n = N, .mem = 1u << 30, .fails = -1};
    test_same(&t, "float32");
    t.rows = rows;
    t.n = 2500;
    test_same(&t, "chosen rows");
    t.source = NULL;
    test_same(&t, "float16, chosen rows");
    t.rows = NULL;
    t.n = N;
    test_same(&t, "float16");
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
    free(x);
    free(rows);
    return tap_done();
}
