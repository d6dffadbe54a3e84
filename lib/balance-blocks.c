// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "assign.h"
#include "balance-run.h"
#include "mem.h"
#include "par.h"

enum { PART = 1024 }; // rows loaded by one task

uint64_t balance_block_bytes(uint64_t n, size_t dim)
{
    return n * (4 * (uint64_t)dim + sizeof(double)) +
           sim_panel_bytes(sim_best_kernel(), SIM_SIDE_RIGHT, n, dim) + 512;
}

// A quarter of the memory a block: two are compared, and the next ones still fit beside them.
static uint32_t block_rows(const struct balance_run *b)
{
    uint64_t low = 1, high = b->usable ? b->usable : 1;
    while (low < high) {
        uint64_t mid = (low + high + 1) / 2;
        if (balance_block_bytes(mid, b->dim) <= b->block_mem / 4)
            low = mid;
        else
            high = mid - 1;
    }
    return (uint32_t)low;
}

static int cut_cells(struct balance_run *b, struct err *e)
{
    size_t room = 0;
    uint32_t most = block_rows(b);
    if (balance_block_bytes(most, b->dim) > b->block_mem / 2)
        return err_set(e, "not enough memory for two rows of %zu values", b->dim);
    for (size_t c = 0; c < b->n_cells; c++) {
        for (uint32_t at = b->start[c]; at < b->start[c + 1];) {
            uint32_t left = b->start[c + 1] - at, n = left < most ? left : most;
            if (mem_grow((void **)&b->blocks, &room, b->n_blocks + 1, sizeof *b->blocks, e))
                return -1;
            b->blocks[b->n_blocks++] =
                (struct balance_block){.cell = (uint32_t)c, .first = at, .n = n};
            at += n;
        }
    }
    return 0;
}

static int by_blocks(const void *x, const void *y)
{
    const struct balance_pair *a = x, *b = y;
    if (a->a != b->a)
        return a->a < b->a ? -1 : 1;
    return a->b < b->b ? -1 : a->b > b->b;
}

struct pair_list {
    struct balance_run *b;
    size_t room;
    uint32_t *first_block; // per cell; n_cells + 1
};

// All pairs of blocks of two cells (or of one).
static int add_cells(struct pair_list *l, size_t c, size_t d, struct err *e)
{
    struct balance_run *b = l->b;
    for (uint32_t i = l->first_block[c]; i < l->first_block[c + 1]; i++)
        for (uint32_t j = l->first_block[d]; j < l->first_block[d + 1]; j++) {
            if (c == d && j < i)
                continue;
            if (mem_grow((void **)&b->pairs, &l->room, b->n_pairs + 1, sizeof *b->pairs, e))
                return -1;
            b->pairs[b->n_pairs++] =
                i < j ? (struct balance_pair){i, j} : (struct balance_pair){j, i};
        }
    return 0;
}

static int add_neighbours(struct pair_list *l, struct err *e)
{
    struct balance_run *b = l->b;
    size_t top = b->o->probe + 1 < b->n_cells ? b->o->probe + 1 : b->n_cells, n = b->n_cells;
    struct assign a = {0};
    int32_t *near = mem_alloc(n * top, sizeof *near, e);
    int r = !near || assign_init(&a, b->o->centroids, n, b->dim, b->o->threads, e) ||
            assign_rows(&a, b->o->threads, b->o->centroids, n, NULL, top, near, NULL, e);
    for (size_t c = 0; c < n && !r; c++) {
        size_t taken = 0;
        for (size_t t = 0; t < top && taken < b->o->probe && !r; t++) {
            if (near[c * top + t] < 0 || near[c * top + t] == (int32_t)c)
                continue; // with duplicate centroids a cell need not be its own nearest
            taken++;
            r = add_cells(l, c, (size_t)near[c * top + t], e);
        }
    }
    assign_release(&a);
    free(near);
    return r ? -1 : 0;
}

// Two cells that name each other give the same pairs twice.
static void sort_pairs(struct balance_run *b)
{
    size_t kept = 0;
    if (b->n_pairs)
        qsort(b->pairs, b->n_pairs, sizeof *b->pairs, by_blocks);
    for (size_t i = 0; i < b->n_pairs; i++)
        if (!kept || by_blocks(&b->pairs[kept - 1], &b->pairs[i]) != 0)
            b->pairs[kept++] = b->pairs[i];
    b->n_pairs = kept;
}

int balance_plan(struct balance_run *b, struct err *e)
{
    struct pair_list l = {.b = b};
    if (cut_cells(b, e))
        return -1;
    l.first_block = mem_alloc(b->n_cells + 1, sizeof *l.first_block, e);
    if (!l.first_block)
        return -1;
    for (size_t i = 0; i < b->n_blocks; i++)
        l.first_block[b->blocks[i].cell + 1]++;
    for (size_t c = 0; c < b->n_cells; c++)
        l.first_block[c + 1] += l.first_block[c];
    int r = 0;
    for (size_t c = 0; c < b->n_cells && !r; c++)
        r = add_cells(&l, c, c, e);
    if (!r && b->o->probe && b->n_cells > 1 && b->o->rule == BALANCE_UNION)
        r = add_neighbours(&l, e);
    free(l.first_block);
    sort_pairs(b);
    return r;
}

static void unload(struct balance_run *b, struct balance_block *k)
{
    if (k->raw)
        b->loaded -= balance_block_bytes(k->n, b->dim);
    free(k->raw);
    free(k->norm);
    sim_panel_release(&k->right);
    k->raw = NULL;
    k->norm = NULL;
}

void balance_unload(struct balance_run *b)
{
    for (size_t i = 0; i < b->n_blocks; i++)
        unload(b, &b->blocks[i]);
}

static int allocate(struct balance_run *b, struct balance_block *k, struct err *e)
{
    size_t items;
    if (!mem_mul(k->n, b->dim, &items))
        return err_set(e, "a block of %u rows is more than memory can hold", k->n);
    k->raw = mem_alloc(items, sizeof *k->raw, e);
    k->norm = k->raw ? mem_alloc(k->n, sizeof *k->norm, e) : NULL;
    if (!k->norm || sim_panel_init(&k->right, sim_best_kernel(), SIM_SIDE_RIGHT, k->n, b->dim, e)) {
        free(k->raw);
        k->raw = NULL;
        return -1;
    }
    k->right.n = k->n;
    b->loaded += balance_block_bytes(k->n, b->dim);
    return 0;
}

// A part of a block that is being loaded.
struct part {
    struct balance_block *block;
    uint32_t first, n; // in the block
};

struct load {
    struct balance_run *b;
    struct part *parts;
    size_t n_parts, room;
    uint8_t *fresh; // per block: being loaded now
    struct sim_fail fail;
};

static struct balance_block *block_of(const struct balance_run *b, uint32_t place)
{
    size_t low = 0, high = b->n_blocks - 1;
    while (low < high) {
        size_t mid = (low + high + 1) / 2;
        if (b->blocks[mid].first <= place)
            low = mid;
        else
            high = mid - 1;
    }
    return &b->blocks[low];
}

// Reads a run of rows in the order of the files and puts each into its block.
static void scatter_task(void *ctx, size_t i)
{
    struct load *l = ctx;
    struct balance_run *b = l->b;
    struct err e;
    uint64_t first = i * PART, n = b->n - first < PART ? b->n - first : PART;
    float *rows = mem_alloc(n * b->dim, sizeof *rows, &e);
    if (!rows || b->source->read(b->source->ctx, first, n, rows, &e))
        sim_fail_set(&l->fail, &e);
    for (uint64_t k = 0; k < n && rows && !l->fail.failed; k++) {
        uint32_t place = b->place[first + k];
        struct balance_block *to = place == BALANCE_NONE ? NULL : block_of(b, place);
        if (to && l->fresh[to - b->blocks])
            memcpy(to->raw + (size_t)(place - to->first) * b->dim, rows + k * b->dim,
                   b->dim * sizeof *rows);
    }
    free(rows);
}

static void gather_task(void *ctx, size_t i)
{
    struct load *l = ctx;
    struct balance_run *b = l->b;
    struct part *p = &l->parts[i];
    uint64_t rows[PART];
    struct err e;
    for (uint32_t k = 0; k < p->n; k++)
        rows[k] = b->order[p->block->first + p->first + k];
    if (b->source->gather(b->source->ctx, rows, p->n, p->block->raw + (size_t)p->first * b->dim,
                          &e))
        sim_fail_set(&l->fail, &e);
}

static void pack_task(void *ctx, size_t i)
{
    struct load *l = ctx;
    struct part *p = &l->parts[i];
    size_t dim = l->b->dim;
    struct err e;
    float *unit = mem_alloc(dim, sizeof *unit, &e);
    if (!unit) {
        sim_fail_set(&l->fail, &e);
        return;
    }
    for (uint32_t k = p->first; k < p->first + p->n; k++) {
        const float *x = p->block->raw + (size_t)k * dim;
        double norm = p->block->norm[k] = sqrt(sim_dot(x, x, dim)), scale = 1 / norm;
        for (size_t d = 0; d < dim; d++)
            unit[d] = (float)(x[d] * scale);
        sim_panel_part(&p->block->right, unit, k, 1);
    }
    free(unit);
}

static int add_parts(struct load *l, struct balance_block *k, struct err *e)
{
    for (uint32_t at = 0; at < k->n; at += PART) {
        if (mem_grow((void **)&l->parts, &l->room, l->n_parts + 1, sizeof *l->parts, e))
            return -1;
        l->parts[l->n_parts++] = (struct part){k, at, k->n - at < PART ? k->n - at : PART};
    }
    return 0;
}

// Makes room, then allocates what is wanted and missing. rows: how many these are.
static int make_blocks(struct load *l, uint64_t *rows, struct err *e)
{
    struct balance_run *b = l->b;
    uint64_t need = 0;
    *rows = 0;
    for (size_t i = 0; i < b->n_blocks; i++)
        if (b->blocks[i].wanted && !b->blocks[i].raw)
            need += balance_block_bytes(b->blocks[i].n, b->dim);
    for (size_t i = 0; i < b->n_blocks && b->loaded + need > b->block_mem; i++)
        if (!b->blocks[i].wanted)
            unload(b, &b->blocks[i]);
    for (size_t i = 0; i < b->n_blocks; i++) {
        struct balance_block *k = &b->blocks[i];
        if (!k->wanted || k->raw)
            continue;
        if (allocate(b, k, e) || add_parts(l, k, e))
            return -1;
        l->fresh[i] = 1;
        *rows += k->n;
    }
    return 0;
}

int balance_load(struct balance_run *b, struct err *e)
{
    struct load l = {.b = b};
    uint64_t rows;
    int t = b->o->threads;
    l.fresh = mem_alloc(b->n_blocks, 1, e);
    int r = !l.fresh || make_blocks(&l, &rows, e);
    if (!r && rows > b->n / 8) // much of it: reading everything in order is faster
        r = par_for(t, (b->n + PART - 1) / PART, scatter_task, &l, e);
    else if (!r)
        r = par_for(t, l.n_parts, gather_task, &l, e);
    r = r || sim_fail_check(&l.fail, e) || par_for(t, l.n_parts, pack_task, &l, e) ||
        sim_fail_check(&l.fail, e);
    for (size_t i = 0; i < b->n_blocks && !r; i++)
        if (l.fresh[i])
            sim_panel_done(&b->blocks[i].right), b->r->blocks++;
    free(l.parts);
    free(l.fresh);
    return r ? -1 : 0;
}

int balance_fetch(const struct balance_run *b, const uint64_t *rows, size_t n, float *out,
                  struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t place = b->place[rows[i]];
        const struct balance_block *k = block_of(b, place);
        if (!k->raw)
            return b->source->gather(b->source->ctx, rows, n, out, e);
        memcpy(out + i * b->dim, k->raw + (size_t)(place - k->first) * b->dim,
               b->dim * sizeof *out);
    }
    return 0;
}
