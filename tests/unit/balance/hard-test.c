// SPDX-License-Identifier: Apache-2.0
// Hard partners against a plain float64 evaluation of h(i, j): all pairs and cells, blocks smaller
// than a cell, threads, ranks, both rules.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "balance/balance.h"
#include "comm/comm.h"
#include "search/dot-block.h"
#include "unit/rows.h"
#include "unit/tap.h"

enum { N = 3000, D = 24, CELLS = 7, TOP = 5 };

struct pick {
    double value;
    uint32_t row;
};

static int by_value(const void *x, const void *y)
{
    const struct pick *a = x, *b = y;
    if (a->value != b->value)
        return a->value > b->value ? -1 : 1;
    return a->row < b->row ? -1 : a->row > b->row;
}

static double cosine(const float *x, const float *y)
{
    return dot_exact(x, y, D) / (sqrt(dot_exact(x, x, D)) * sqrt(dot_exact(y, y, D)));
}

// The best TOP of row i among all rows of its cell, into want[TOP].
static void plain(const float *v, const float *t, const uint8_t *out, const uint32_t *cell,
                  uint32_t i, struct pick *all, uint32_t *want)
{
    size_t n = 0;
    for (uint32_t j = 0; j < N && !out[i]; j++) {
        if (j == i || out[j] || cell[j] != cell[i])
            continue;
        double x = cosine(v + i * D, v + j * D), y = cosine(t + i * D, t + j * D);
        double h = x < 0.98 && y < 0.98 ? x * y : 0;
        if (h > 0)
            all[n++] = (struct pick){h, j};
    }
    if (n)
        qsort(all, n, sizeof *all, by_value);
    for (size_t k = 0; k < TOP; k++)
        want[k] = k < n ? all[k].row : BALANCE_NONE;
}

static uint32_t nearest_cell(const float *x, const float *centroids)
{
    uint32_t best = 0;
    for (uint32_t c = 1; c < CELLS; c++)
        if (dot_exact(x, centroids + c * D, D) > dot_exact(x, centroids + best * D, D))
            best = c;
    return best;
}

static size_t wrong(const struct balance_result *r, const uint32_t *want)
{
    size_t n = 0;
    for (uint32_t i = 0; i < N; i++)
        for (size_t k = 0; k < TOP; k++) {
            uint32_t place = r->place[i];
            n += (place == BALANCE_NONE ? BALANCE_NONE : r->hard[place * TOP + k]) !=
                 want[i * TOP + k];
        }
    return n;
}

struct task {
    const struct row_source *rows;
    struct balance_options o;
    struct balance_result got; // of rank 0
};

static int on_rank(void *ctx, struct comm *c, struct err *e)
{
    struct task *t = ctx;
    struct balance_options o = t->o;
    struct balance_result r;
    o.comm = c;
    int status = balance_run(t->rows, &o, &r, e);
    if (c->rank == 0)
        t->got = r;
    else
        balance_release(&r);
    return status;
}

static void check(struct task *t, const uint32_t *want, const char *what)
{
    struct err e = {.text = ""};
    struct balance_result r;
    struct balance_options *o = &t->o;
    uint64_t least = balance_min_mem(N, D, o->centroids ? CELLS : 1, o->probe, 3);
    for (int little = 0; little < 2; little++) {
        o->mem = little ? least : 1u << 30;
        o->threads = little ? 3 : 2;
        int status = balance_run(t->rows, o, &r, &e);
        size_t n = status ? 1 : wrong(&r, want);
        ok(!status && !n, "%s, %s memory: as a plain loop: %zu differ %s", what,
           little ? "little" : "enough", n, e.text);
        balance_release(&r);
    }
    for (int ranks = 2; ranks < 4 && o->centroids; ranks++) {
        int status = comm_threads(ranks, on_rank, t, &e);
        ok(!status && !wrong(&t->got, want), "%s: on %d ranks %s", what, ranks, e.text);
        balance_release(&t->got);
    }
}

// Three rows at known angles: h = cos(a) cos(b).
static void check_known(void)
{
    struct err e = {.text = ""};
    float v[4 * 2], t[4 * 2];
    double at[4][2] = {{0, 0}, {0.5, 1.0}, {0.1, 0.2}, {1.2, 0.3}}; // angles of picture and text
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 2; k++) {
            float *to = (k ? t : v) + 2 * i;
            to[0] = (float)cos(at[i][k]);
            to[1] = (float)sin(at[i][k]);
        }
    struct row_memory mv, mt;
    struct row_source rows = row_source_memory(&mv, v, 4, 2),
                      texts = row_source_memory(&mt, t, 4, 2);
    struct balance_options o = {
        .remove = -1, .mem = 1u << 30, .threads = 1, .hard = 2, .texts = &texts};
    struct balance_result r;
    int status = balance_run(&rows, &o, &r, &e);
    // Of row 0: row 2 has a picture at cos 0.1 = 0.995, too near; 1: cos 0.5 cos 1.0 = 0.474;
    // 3: cos 1.2 cos 0.3 = 0.346.
    ok(!status && r.hard[0] == 1 && r.hard[1] == 3, "known angles: %u, %u %s", r.hard[0], r.hard[1],
       e.text);
    ok(!status && r.hard[2] == 2 && r.hard[3] == 3,
       "of the second: cos 0.4 cos 0.8, then cos 0.7^2");
    balance_release(&r);
    o.hard = 3;
    status = balance_run(&rows, &o, &r, &e);
    ok(!status && r.hard[2] == BALANCE_NONE, "fewer than K: none behind the last");
    balance_release(&r);
    o.n_taken = 1;
    o.centroids = v;
    o.n_cells = 1;
    ok(balance_run(&rows, &o, &r, &e) && strstr(e.text, "not to be found in parts"),
       "not in parts: %s", e.text);
}

int main(void)
{
    float *v = clumps(N, D, 5, 0.25), *t = clumps(N, D, 6, 0.25),
          *centroids = gaussian(CELLS, D, 3);
    uint8_t *out = calloc(N, 1);
    uint32_t *cell = calloc(N, sizeof *cell), *want = malloc(N * TOP * sizeof *want);
    struct pick *all = malloc(N * sizeof *all);
    unit_rows(centroids, CELLS, D, true, NULL);
    for (uint32_t i = 0; i < N; i++) { // texts like their pictures, but for a row in three
        for (size_t d = 0; d < D && i % 3; d++)
            t[i * D + d] = v[i * D + d] + 0.3f * t[i * D + d];
        out[i] = i == 4 || i == 9; // of clumps: zero, NaN
    }
    memcpy(t + 20 * D, t + 21 * D, D * sizeof *t); // equal values: the lower row first
    memcpy(v + 20 * D, v + 21 * D, D * sizeof *v);
    struct row_memory mv, mt;
    struct row_source rows = row_source_memory(&mv, v, N, D),
                      texts = row_source_memory(&mt, t, N, D);
    struct task task = {
        .rows = &rows,
        .o = {.distance = 0.05, .remove = -1, .hard = TOP, .texts = &texts, .left_out = out}};
    check_known();
    for (uint32_t i = 0; i < N; i++)
        plain(v, t, out, cell, i, all, want + i * TOP);
    check(&task, want, "all pairs");
    for (uint32_t i = 0; i < N; i++)
        cell[i] = out[i] ? 0 : nearest_cell(v + i * D, centroids);
    for (uint32_t i = 0; i < N; i++)
        plain(v, t, out, cell, i, all, want + i * TOP);
    task.o.centroids = centroids;
    task.o.n_cells = CELLS;
    task.o.probe = 2;
    check(&task, want, "cells, with a probe");
    task.o.probe = 0;
    task.o.rule = BALANCE_SEMDEDUP;
    task.o.survivor = BALANCE_HARD;
    check(&task, want, "semdedup");
    free(v), free(t), free(centroids), free(out), free(cell), free(want), free(all);
    return tap_done();
}
