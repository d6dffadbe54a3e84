// SPDX-License-Identifier: Apache-2.0
// The distance that removes a wanted share of rows: first a guess from some whole cells (a sample
// of rows would thin every group), then all pairs up to a little more than the guess, from which
// the distance follows exactly; a guess that was too low is doubled.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "balance/run.h"
#include "base/mem.h"
#include "base/rng.h"

enum { WAITING = 1 << 20, SAMPLE_ROWS = 50000 };

static int by_value(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

int balance_merges(struct balance_run *b, struct err *e)
{
    struct balance_result *r = b->r;
    free(r->merges);
    r->n_merges = 0;
    r->reach = b->reach;
    r->merges = mem_alloc(b->usable, sizeof *r->merges, e);
    if (!r->merges)
        return -1;
    if (b->forest) {
        balance_forest_finish(b->forest);
        for (size_t i = 0; i < b->forest->n_forest; i++)
            r->merges[r->n_merges++] = fmax(b->forest->edges[i].distance, 0);
        return 0;
    }
    for (uint32_t p = 0; p < b->usable; p++) {
        uint64_t bits = b->closest[p];
        if (bits != UINT64_MAX)
            memcpy(&r->merges[r->n_merges++], &bits, sizeof bits);
    }
    if (r->n_merges)
        qsort(r->merges, r->n_merges, sizeof *r->merges, by_value);
    return 0;
}

static void reset(struct balance_run *b)
{
    b->r->compared = 0;
    if (b->forest)
        b->forest->n = b->forest->n_forest = 0;
    for (uint32_t p = 0; b->closest && p < b->usable; p++)
        b->closest[p] = UINT64_MAX;
    b->n_near = 0;
}

static int pass(struct balance_run *b, const struct balance_pair *pairs, size_t n, double reach,
                struct err *e)
{
    b->reach = reach;
    reset(b);
    return balance_joins_collect(b, balance_pairs(b, pairs, n, e), e) || balance_merges(b, e) ||
                   balance_joins_share(b, e)
               ? -1
               : 0;
}

// The pairs within cells drawn at random, some SAMPLE_ROWS rows; *rows: how many.
static size_t sample_pairs(const struct balance_run *b, struct balance_pair *pairs, uint64_t *rows,
                           uint8_t *drawn)
{
    size_t n = 0;
    *rows = 0;
    for (size_t i = 0; i < b->n_cells && *rows < SAMPLE_ROWS; i++) {
        uint64_t c = rng_permute(b->o->seed, 1, b->n_cells, i);
        drawn[c] = 1;
        *rows += b->start[c + 1] - b->start[c];
    }
    for (size_t i = 0; i < b->n_pairs; i++) {
        uint32_t cell = b->blocks[b->pairs[i].a].cell;
        if (!b->blocks[b->pairs[i].a].visitors && drawn[cell])
            pairs[n++] = b->pairs[i];
    }
    return n;
}

static int guess(struct balance_run *b, double *reach, struct err *e)
{
    *reach = 0.1;
    if (b->n_cells < 4)
        return 0;
    uint64_t rows;
    struct balance_pair *pairs = mem_alloc(b->n_pairs, sizeof *pairs, e);
    uint8_t *drawn = pairs ? mem_alloc(b->n_cells, 1, e) : NULL;
    int r = !drawn || pass(b, pairs, sample_pairs(b, pairs, &rows, drawn), 0.5, e) ? -1 : 0;
    if (!r) {
        size_t want = (size_t)llround(b->o->remove * (double)rows);
        *reach = want < b->r->n_merges ? b->r->merges[want] * 1.1 + 0.005 : 0.6;
    }
    free(pairs);
    free(drawn);
    return r;
}

// Between the last row to go and the first to stay; equal distances go or stay together.
static double distance_for(const struct balance_result *r, size_t want, double reach)
{
    if (want == 0)
        return 0;
    double last = r->merges[want - 1], next = want < r->n_merges ? r->merges[want] : reach;
    double middle = last + (next - last) / 2;
    return middle > last ? middle : nextafter(last, 4);
}

int balance_search(struct balance_run *b, struct err *e)
{
    size_t want = (size_t)llround(b->o->remove * b->usable);
    double reach;
    b->distance = -1; // nothing is joined yet
    if (guess(b, &reach, e))
        return -1;
    for (;; reach = fmin(2 * reach, 2.1)) {
        if (pass(b, b->pairs, b->n_pairs, reach, e))
            return -1;
        if (b->r->n_merges >= want || reach > 2)
            break;
    }
    if (b->r->n_merges < want)
        return err_set(
            e, "no distance removes %.6g of the rows: at most %zu of %u go with these cells",
            b->o->remove, b->r->n_merges, b->usable);
    b->distance = distance_for(b->r, want, reach);
    return 0;
}
