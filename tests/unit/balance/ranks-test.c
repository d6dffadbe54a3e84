// SPDX-License-Identifier: Apache-2.0
// Semantic balance over ranks and in parts: the same result as in one go, for both rules, with
// probes, curves and a share to remove. Threads are the ranks.
#include <stdlib.h>
#include <string.h>

#include "balance/balance.h"
#include "base/mem.h"
#include "comm/comm.h"
#include "unit/rows.h"
#include "unit/tap.h"

enum { N = 1500, D = 18, CELLS = 11, RANKS = 5 };

struct task {
    const struct row_source *source;
    struct balance_options o;
    struct balance_result got; // of rank 0
    int fails;                 // rank whose rows cannot be read, or -1
};

static int fail_read(void *ctx, uint64_t first, uint64_t count, float *out, struct err *e)
{
    (void)ctx, (void)first, (void)count, (void)out;
    return err_set(e, "cannot read its rows");
}

static int run(void *ctx, struct comm *c, struct err *e)
{
    struct task *t = ctx;
    struct balance_options o = t->o;
    struct balance_result r;
    struct row_source s = *t->source;
    o.comm = c;
    o.threads = 1 + c->rank % 2;
    if (c->rank == t->fails) {
        s.read = fail_read;
        s.parts = NULL;
    }
    int status = balance_run(&s, &o, &r, e);
    if (c->rank == 0)
        t->got = r;
    else
        balance_release(&r);
    return status;
}

static bool same(const struct balance_result *a, const struct balance_result *b)
{
    return a->rows == N && !memcmp(a->group, b->group, N * sizeof *a->group) &&
           !memcmp(a->keep, b->keep, N) && a->kept == b->kept && a->pairs == b->pairs &&
           a->compared == b->compared && a->largest == b->largest && a->usable == b->usable &&
           a->zero == b->zero && a->distance == b->distance && a->n_merges == b->n_merges &&
           (!a->n_merges || !memcmp(a->merges, b->merges, a->n_merges * sizeof *a->merges));
}

static void test_ranks(struct task *t, const struct balance_result *one, const char *what)
{
    struct err e;
    for (int size = 2; size <= RANKS; size++) {
        e.text[0] = '\0';
        int r = comm_threads(size, run, t, &e);
        ok(!r && same(one, &t->got), "%s: %d ranks, as one %s", what, size, e.text);
        balance_release(&t->got);
    }
}

// ---- parts

struct parts {
    void *joins[RANKS];
    size_t n[RANKS], at;
};

static int found(void *ctx, const void *joins, size_t n, struct err *e)
{
    struct parts *p = ctx;
    p->joins[p->at] = mem_alloc(1, n, e);
    if (!p->joins[p->at])
        return -1;
    memcpy(p->joins[p->at], joins, n);
    p->n[p->at++] = n;
    return 0;
}

static const void *take(void *ctx, size_t i, size_t *n, struct err *e)
{
    struct parts *p = ctx;
    (void)e;
    *n = p->n[i];
    return p->joins[i];
}

// Joins that are cut short, or changed in any word, are refused or give a result; nothing breaks.
static void test_damage(struct task *t, struct balance_options *o, struct parts *p)
{
    struct err e;
    struct balance_result r;
    size_t refused = 0, tried = 0, n = p->n[0];
    uint32_t *words = p->joins[0];
    for (p->n[0] = 0; p->n[0] < n; p->n[0] += 1 + n / 40, tried++)
        refused += balance_run(t->source, o, &r, &e) != 0;
    p->n[0] = n;
    ok(refused == tried, "parts that are cut short are refused");
    refused = 0;
    for (size_t i = 0; i < n / 4; i += 1 + n / 4 / 60) {
        uint32_t was = words[i];
        words[i] = 0x7fffff00;
        if (balance_run(t->source, o, &r, &e))
            refused++;
        else
            balance_release(&r);
        words[i] = was;
    }
    ok(refused > 0, "parts of other rows are refused");
}

static void test_parts(struct task *t, const struct balance_result *one, const char *what)
{
    struct parts p = {.at = 0};
    struct balance_options o = t->o;
    struct balance_result r;
    struct err e = {.text = ""};
    int status = 0;
    o.ctx = &p;
    o.parts = RANKS;
    o.found = found;
    for (o.part = 0; o.part < RANKS && !status; o.part++) {
        status = balance_run(t->source, &o, &r, &e);
        balance_release(&r);
    }
    o.parts = o.part = 0;
    o.found = NULL;
    o.n_taken = RANKS;
    o.take = take;
    if (!status)
        status = balance_run(t->source, &o, &r, &e);
    ok(!status && same(one, &r), "%s: %d parts, as one %s", what, RANKS, e.text);
    if (!status) {
        balance_release(&r);
        test_damage(t, &o, &p);
    }
    for (size_t i = 0; i < p.at; i++)
        free(p.joins[i]);
}

static void test(const struct row_source *s, struct balance_options o, const char *what)
{
    struct task t = {.source = s, .o = o, .fails = -1};
    struct balance_result one;
    struct err e = {.text = ""};
    o.threads = t.o.threads = 2;
    if (balance_run(s, &o, &one, &e)) {
        ok(0, "%s: alone: %s", what, e.text);
        return;
    }
    ok(one.kept < one.usable && one.kept > 1 && one.usable < N, "%s: %llu of %llu rows stay", what,
       (unsigned long long)one.kept, (unsigned long long)one.usable);
    test_ranks(&t, &one, what);
    if (o.remove < 0)
        test_parts(&t, &one, what);
    balance_release(&one);
}

static void test_failure(const struct row_source *s, struct balance_options o)
{
    struct task t = {.source = s, .o = o, .fails = 2};
    struct err e;
    t.o.threads = 1;
    int r = comm_threads(3, run, &t, &e);
    ok(r && !strncmp(e.text, "rank 2 (", 8) && strstr(e.text, "cannot read its rows"),
       "a rank that cannot read its rows is named by all: %s", e.text);
    t.fails = -1;
    t.o.centroids = NULL;
    r = comm_threads(2, run, &t, &e);
    ok(r && !strcmp(e.text, "parts are of cells: --cells is missing"), "without cells: %s", e.text);
}

int main(void)
{
    float *x = clumps(N, D, CELLS, 0.25), *centroids = clumps(CELLS, D, CELLS, 0);
    memset(x + 7 * D, 0, D * sizeof *x);
    struct row_memory m;
    struct row_source s = row_source_memory(&m, x, N, D);
    struct balance_options o = {.distance = 0.02,
                                .remove = -1,
                                .centroids = centroids,
                                .n_cells = CELLS,
                                .seed = 3,
                                .mem = 1u << 30};
    test(&s, o, "union");
    o.probe = 3;
    test(&s, o, "union with a probe");
    o.curve_to = 0.1;
    test(&s, o, "union with a probe and a curve");
    o.curve_to = 0;
    o.remove = 0.3;
    test(&s, o, "a share to remove");
    o.remove = -1;
    o.probe = 0;
    o.rule = BALANCE_SEMDEDUP;
    o.survivor = BALANCE_HARD;
    test(&s, o, "semdedup");
    o.survivor = BALANCE_RANDOM;
    o.curve_to = 0.05;
    test(&s, o, "semdedup with a curve");
    test_failure(&s, o);
    free(x);
    free(centroids);
    return tap_done();
}
