// SPDX-License-Identifier: Apache-2.0
#include "balance/balance.h"

#include <math.h>
#include <stdlib.h>

#include "search/nearest.h"
#include "balance/run.h"
#include "base/clock.h"
#include "base/mem.h"

enum { CHUNK_ROWS = 16384, WAITING = 1 << 20 };

// Everything but the blocks, in bytes: arrays of a few values a row, the buffers of the passes,
// the threads' own, and what the program takes by itself.
static double fixed_bytes(double n, double dim, double n_cells, double probe, double threads)
{
    double rows = (46 + 8 * probe) * n + 4 * CHUNK_ROWS * (dim + probe);
    double cells = n_cells * (8 * dim + 64);
    double thread =
        126 * dim * 8 + 2e6 + (double)nearest_thread_bytes((size_t)dim, (size_t)probe + 1);
    return rows + cells + threads * thread + 40e6;
}

static double least_bytes(double n, size_t dim, size_t value, double n_cells, double probe,
                          double threads)
{
    double blocks = 8 * (double)balance_block_bytes(256, dim, value);
    return fixed_bytes(n, (double)dim, n_cells, probe, threads) + blocks;
}

uint64_t balance_min_mem(uint64_t n, size_t dim, size_t n_cells, size_t probe, int threads)
{
    double bytes =
        least_bytes((double)n, dim, sizeof(float), (double)n_cells, (double)probe, threads);
    return bytes < 1e18 ? (uint64_t)bytes : 0;
}

static bool in_parts(const struct balance_options *o)
{
    return o->parts > 1 || (o->comm && o->comm->size > 1);
}

// Keeps all rows in memory where these and all panels fit.
static int hold_rows(struct balance_run *b, struct err *e)
{
    if (in_parts(b->o) || b->o->n_taken)
        return 0; // few of them are needed
    double dim = (double)b->dim, n = b->n, cells = (double)b->n_cells;
    double rows = n * ((double)row_store_value(b->source) * dim + 8);
    double panels = (n + DOT_RIGHT * cells) * (4 * dim + 24);
    if (dot_best_kernel() != DOT_F32)
        panels = (n + DOT_RIGHT * cells) * (2 * dim + 28) + 1536 * cells;
    if (rows + panels + 4e6 > (double)b->block_mem * 0.98)
        return 0;
    b->block_mem -= (uint64_t)rows;
    if (row_store_hold(&b->rows, b->source, e))
        return -1;
    b->norm = mem_alloc(b->n, sizeof *b->norm, e);
    return b->norm ? 0 : -1;
}

static int set_memory(struct balance_run *b, struct err *e)
{
    const struct balance_options *o = b->o;
    uint64_t least = balance_min_mem(b->n, b->dim, b->n_cells, b->probe, o->threads);
    double edges = o->remove >= 0 || o->curve_to > 0 ? 28.0 * b->n + 16.0 * WAITING : 0;
    if (!least || (double)o->mem < (double)least + edges)
        return err_set(e, "%u rows of %zu values need at least %.0f MiB", b->n, b->dim,
                       ceil(((double)least + edges) / 1048576));
    double fixed = fixed_bytes((double)b->n, (double)b->dim, (double)b->n_cells, (double)b->probe,
                               o->threads) +
                   edges;
    b->block_mem = o->mem - (uint64_t)fixed;
    return hold_rows(b, e);
}

static int check(const struct balance_run *b, struct err *e)
{
    const struct balance_options *o = b->o;
    if (b->source->n >= BALANCE_NONE)
        return err_set(e, "too many rows: %llu", (unsigned long long)b->source->n);
    if (o->remove < 0 && !(o->distance >= 0 && o->distance <= 4))
        return err_set(e, "a cosine distance is between 0 and 2, not %g", o->distance);
    if ((in_parts(o) || o->n_taken) && !o->centroids)
        return err_set(e, "parts are of cells: --cells is missing");
    if ((o->found || o->n_taken) && o->remove >= 0)
        return err_set(e, "the distance that removes a share is not to be found in parts");
    if (o->hard && (o->parts > 1 || o->found || o->n_taken || !o->texts))
        return err_set(e, "partners are not to be found in parts, or without texts");
    if (o->remove > 1 || (o->rule == BALANCE_SEMDEDUP && o->survivor == BALANCE_CENTER))
        return err_set(e, "wrong share or order of rows");
    return 0;
}

static int allocate(struct balance_run *b, struct err *e)
{
    const struct balance_options *o = b->o;
    bool by_centroid = o->survivor == BALANCE_HARD || o->survivor == BALANCE_EASY;
    b->r->keep = mem_alloc(b->n, 1, e);
    b->r->group = b->r->keep ? mem_alloc(b->n, sizeof *b->r->group, e) : NULL;
    b->state = b->r->group ? mem_alloc(b->n, 1, e) : NULL;
    b->place = b->state ? mem_alloc(b->n, sizeof *b->place, e) : NULL;
    size_t places;
    if (!mem_mul(b->n, b->probe + 1, &places) || places >= BALANCE_NONE)
        return err_set(e, "%u rows and a probe of %zu are too many", b->n, b->probe);
    b->order = b->place ? mem_alloc(places, sizeof *b->order, e) : NULL;
    b->start = b->order ? mem_alloc(b->n_cells + 1, sizeof *b->start, e) : NULL;
    if (!b->start)
        return -1;
    if (o->centroids && !(b->cell = mem_alloc(b->n, sizeof *b->cell, e)))
        return -1;
    if (b->probe && !(b->next = mem_alloc(b->n * b->probe, sizeof *b->next, e)))
        return -1;
    if (!o->centroids && by_centroid && !(b->mean = mem_alloc(b->dim, sizeof *b->mean, e)))
        return -1;
    return 0;
}

static int allocate_joins(struct balance_run *b, struct balance_forest *forest, struct err *e)
{
    bool reach = b->o->curve_to > 0 || b->o->remove >= 0;
    if (b->o->rule == BALANCE_UNION) {
        if (reach && balance_forest_init(forest, b->n, WAITING, e))
            return -1;
        b->forest = reach ? forest : NULL;
        return union_find_init(&b->sets, b->n, e);
    }
    b->earlier = mem_alloc(b->usable, sizeof *b->earlier, e);
    if (!b->earlier || (reach && !(b->closest = mem_alloc(b->usable, sizeof *b->closest, e))))
        return -1;
    for (uint32_t p = 0; p < b->usable; p++) {
        b->earlier[p] = BALANCE_NONE;
        if (b->closest)
            b->closest[p] = UINT64_MAX;
    }
    return 0;
}

// What other runs have found.
static int take_joins(struct balance_run *b, struct err *e)
{
    int r = 0;
    for (size_t i = 0, n; i < b->o->n_taken && !r; i++) {
        const void *joins = b->o->take(b->o->ctx, i, &n, e);
        r = joins ? balance_joins_add(b, joins, n, e) : -1;
    }
    return r;
}

static int give_joins(struct balance_run *b, struct err *e)
{
    size_t n;
    void *joins = balance_joins_pack(b, &n, e);
    int r = joins ? b->o->found(b->o->ctx, joins, n, e) : -1;
    free(joins);
    return r;
}

// The final pass at the distance, with the curve beside it.
static int join_all(struct balance_run *b, struct err *e)
{
    b->n_near = 0;
    b->reach = b->o->curve_to;
    if (b->forest)
        b->forest->n = b->forest->n_forest = 0;
    for (uint32_t p = 0; b->closest && p < b->usable; p++)
        b->closest[p] = UINT64_MAX;
    b->r->compared = 0;
    int r = b->o->n_taken ? take_joins(b, e) : balance_pairs(b, b->pairs, b->n_pairs, e);
    if (balance_joins_collect(b, r, e))
        return -1;
    if (b->o->found)
        return give_joins(b, e);
    b->r->pairs = b->n_near;
    b->r->distance = b->distance;
    return b->reach > 0 ? balance_merges(b, e) : 0;
}

static int run(struct balance_run *b, struct balance_forest *forest, struct err *e)
{
    double began = clock_seconds();
    struct comm alone = COMM_ALONE, *c = b->o->comm ? b->o->comm : &alone;
    int ready = check(b, e) || set_memory(b, e) || allocate(b, e) ? -1 : 0;
    if (comm_agree(c, ready, e) || balance_cells(b, e))
        return -1;
    ready = allocate_joins(b, forest, e) || balance_choose_kernel(b, e) || balance_plan(b, e);
    if (comm_agree(c, ready ? -1 : 0, e))
        return -1;
    b->r->seconds[0] = clock_seconds() - began;
    if (b->o->remove >= 0 && balance_search(b, e))
        return -1;
    if (join_all(b, e))
        return -1;
    balance_unload(b);
    b->r->seconds[1] = clock_seconds() - began - b->r->seconds[0];
    double paired = clock_seconds();
    if (b->o->hard && balance_hard(b, e))
        return -1;
    b->r->seconds[3] = clock_seconds() - paired;
    if (b->o->found || (c->rank > 0 && b->o->rule == BALANCE_SEMDEDUP))
        return 0; // who stays is known where all joins are
    if (balance_groups(b, e) ||
        (b->rows.parts && b->source->unchanged && b->source->unchanged(b->source->ctx, e)))
        return -1;
    b->r->seconds[2] =
        clock_seconds() - began - b->r->seconds[0] - b->r->seconds[1] - b->r->seconds[3];
    return 0;
}

int balance_run(const struct row_source *rows, const struct balance_options *o,
                struct balance_result *r, struct err *e)
{
    struct balance_forest forest = {0};
    *r = (struct balance_result){0};
    struct balance_run b = {.source = rows,
                            .o = o,
                            .r = r,
                            .distance = o->distance,
                            .n = (uint32_t)rows->n,
                            .dim = rows->dim,
                            .n_cells = o->centroids ? o->n_cells : 1,
                            .forest_lock = PTHREAD_MUTEX_INITIALIZER};
    if (o->rule == BALANCE_UNION && o->centroids)
        b.probe = o->probe < o->n_cells ? o->probe : o->n_cells - 1;
    int status = run(&b, &forest, e);
    if (o->hard) {
        r->place = b.place;
        b.place = NULL;
    }
    balance_unload(&b);
    balance_forest_release(&forest);
    union_find_release(&b.sets);
    row_store_release(&b.rows);
    free(b.norm);
    free(b.state);
    free(b.cell);
    free(b.next);
    free(b.place);
    free(b.order);
    free(b.start);
    free(b.mean);
    free(b.blocks);
    free(b.pairs);
    free(b.earlier);
    free(b.closest);
    if (status)
        balance_release(r);
    return status;
}

void balance_release(struct balance_result *r)
{
    free(r->keep);
    free(r->group);
    free(r->merges);
    free(r->hard);
    free(r->place);
    *r = (struct balance_result){0};
}
