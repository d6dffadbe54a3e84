// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "assign.h"
#include "balance-run.h"
#include "mem.h"
#include "par.h"

enum { PART = 1024, AHEAD = 4 }; // rows loaded by one task; prefetched

uint64_t balance_block_bytes(uint64_t n, size_t dim)
{
    return n * (4 * (uint64_t)dim + sizeof(double)) +
           sim_panel_bytes(sim_best_kernel(), SIM_SIDE_RIGHT, n, dim) + 768;
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

static int cut(struct balance_run *b, size_t *room, uint32_t cell, uint32_t at, uint32_t end,
               bool visitors, struct err *e)
{
    uint32_t most = block_rows(b);
    while (at < end) {
        uint32_t n = end - at < most ? end - at : most;
        if (mem_grow((void **)&b->blocks, room, b->n_blocks + 1, sizeof *b->blocks, e))
            return -1;
        b->blocks[b->n_blocks++] =
            (struct balance_block){.cell = cell, .first = at, .n = n, .visitors = visitors};
        at += n;
    }
    return 0;
}

// Counting sort of the rows by the cells they look into, behind the places of all rows.
static uint32_t *place_visitors(struct balance_run *b, struct err *e)
{
    uint32_t *start = mem_alloc(b->n_cells + 2, sizeof *start, e);
    if (!start)
        return NULL;
    for (size_t i = 0; i < (size_t)b->n * b->probe; i++)
        if (b->place[i / b->probe] != BALANCE_NONE && b->next[i] >= 0)
            start[b->next[i] + 2]++;
    start[1] = b->usable;
    for (size_t c = 1; c <= b->n_cells; c++)
        start[c + 1] += start[c];
    for (size_t i = 0; i < (size_t)b->n * b->probe; i++)
        if (b->place[i / b->probe] != BALANCE_NONE && b->next[i] >= 0)
            b->order[start[b->next[i] + 1]++] = (uint32_t)(i / b->probe);
    start[0] = b->usable;
    return start; // start[c] .. start[c + 1]: the visitors of cell c
}

static int cut_cells(struct balance_run *b, struct err *e)
{
    size_t room = 0;
    if (balance_block_bytes(block_rows(b), b->dim) > b->block_mem / 2)
        return err_set(e, "not enough memory for two rows of %zu values", b->dim);
    for (size_t c = 0; c < b->n_cells; c++)
        if (cut(b, &room, (uint32_t)c, b->start[c], b->start[c + 1], false, e))
            return -1;
    b->n_main = b->n_blocks;
    if (!b->probe)
        return 0;
    uint32_t *start = place_visitors(b, e);
    int r = start ? 0 : -1;
    for (size_t c = 0; c < b->n_cells && !r; c++)
        if (b->start[c] < b->start[c + 1])
            r = cut(b, &room, (uint32_t)c, start[c], start[c + 1], true, e);
    free(start);
    return r;
}

static int add_pair(struct balance_run *b, size_t *room, size_t i, size_t j, struct err *e)
{
    if (mem_grow((void **)&b->pairs, room, b->n_pairs + 1, sizeof *b->pairs, e))
        return -1;
    b->pairs[b->n_pairs++] = (struct balance_pair){(uint32_t)i, (uint32_t)j};
    return 0;
}

// Cell by cell: its blocks with each other, then its visitors with its blocks.
int balance_plan(struct balance_run *b, struct err *e)
{
    size_t room = 0, visitor;
    if (cut_cells(b, e))
        return -1;
    visitor = b->n_main;
    for (size_t i = 0, end; i < b->n_main; i = end) {
        uint32_t cell = b->blocks[i].cell;
        for (end = i; end < b->n_main && b->blocks[end].cell == cell; end++)
            for (size_t k = i; k <= end; k++)
                if (add_pair(b, &room, k, end, e))
                    return -1;
        for (; visitor < b->n_blocks && b->blocks[visitor].cell == cell; visitor++)
            for (size_t k = i; k < end; k++)
                if (add_pair(b, &room, visitor, k, e))
                    return -1;
    }
    return 0;
}

uint64_t balance_bytes_of(const struct balance_run *b, const struct balance_block *k)
{
    uint64_t rows = b->raw ? 0 : k->n * (4 * (uint64_t)b->dim + sizeof(double)) + 512;
    return k->visitors || b->o->device
               ? rows
               : rows + sim_panel_bytes(sim_best_kernel(), SIM_SIDE_RIGHT, k->n, b->dim) + 256;
}

static bool is_loaded(const struct balance_run *b, const struct balance_block *k)
{
    return b->raw ? k->visitors || b->o->device || k->right.data : k->raw != NULL;
}

static void unload(struct balance_run *b, struct balance_block *k)
{
    if (is_loaded(b, k))
        b->loaded -= balance_bytes_of(b, k);
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

static int allocate(const struct balance_run *b, struct balance_block *k, struct err *e)
{
    size_t items;
    if (!mem_mul(k->n, b->dim, &items))
        return err_set(e, "a block of %u rows is more than memory can hold", k->n);
    if (!b->raw) {
        k->raw = mem_alloc(items, sizeof *k->raw, e);
        k->norm = k->raw ? mem_alloc(k->n, sizeof *k->norm, e) : NULL;
        if (!k->norm) {
            free(k->raw);
            k->raw = NULL;
            return -1;
        }
    }
    if (k->visitors || b->o->device)
        return 0;
    if (sim_panel_init(&k->right, sim_best_kernel(), SIM_SIDE_RIGHT, k->n, b->dim, e))
        return -1;
    k->right.n = k->n;
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
    bool scattered; // main blocks have their rows
    struct sim_fail fail;
};

static struct balance_block *block_of(const struct balance_run *b, uint32_t place)
{
    size_t low = 0, high = b->n_main - 1;
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
    if (l->scattered && !p->block->visitors)
        return;
    for (uint32_t k = 0; k < p->n; k++)
        rows[k] = b->order[p->block->first + p->first + k];
    if (b->source->gather(b->source->ctx, rows, p->n, p->block->raw + (size_t)p->first * b->dim,
                          &e))
        sim_fail_set(&l->fail, &e);
}

// The rows of a cell lie anywhere in memory: ask for one some rows before it is needed.
static void fetch_ahead(const struct balance_run *b, uint32_t place)
{
    const char *row = (const char *)(b->raw + (size_t)b->order[place] * b->dim);
    __builtin_prefetch(&b->norm[b->order[place]]);
    for (size_t at = 0; at < b->dim * sizeof *b->raw; at += 64)
        __builtin_prefetch(row + at);
}

static void pack_task(void *ctx, size_t i)
{
    struct load *l = ctx;
    const struct balance_run *b = l->b;
    struct part *p = &l->parts[i];
    struct err e;
    float *unit = mem_alloc(SIM_RIGHT * b->dim, sizeof *unit, &e);
    if (!unit)
        sim_fail_set(&l->fail, &e);
    for (uint32_t k = 0; k < p->n && unit; k++) {
        double norm;
        if (b->raw && k + AHEAD < p->n)
            fetch_ahead(b, p->block->first + p->first + k + AHEAD);
        if (!b->raw) {
            const float *x = p->block->raw + (size_t)(p->first + k) * b->dim;
            p->block->norm[p->first + k] = sqrt(sim_dot(x, x, b->dim));
        }
        if (p->block->visitors || b->o->device)
            continue;
        const float *x = balance_row(b, p->block, p->first + k, &norm);
        sim_scale(x, 1 / norm, unit + k % SIM_RIGHT * b->dim, b->dim);
        if (k % SIM_RIGHT == SIM_RIGHT - 1 || k + 1 == p->n)
            sim_panel_part(&p->block->right, unit, p->first + k / SIM_RIGHT * SIM_RIGHT,
                           k % SIM_RIGHT + 1);
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

// On many threads: most of the time goes into the first touch of the memory.
static void allocate_task(void *ctx, size_t i)
{
    struct load *l = ctx;
    struct err e;
    if (l->parts[i].first == 0 && allocate(l->b, l->parts[i].block, &e))
        sim_fail_set(&l->fail, &e);
}

// Makes room, then allocates what is wanted and missing. rows: how many these are.
static int make_blocks(struct load *l, uint64_t *rows, struct err *e)
{
    struct balance_run *b = l->b;
    uint64_t need = 0;
    *rows = 0;
    for (size_t i = 0; i < b->n_blocks; i++)
        if (b->blocks[i].wanted && !is_loaded(b, &b->blocks[i]))
            need += balance_bytes_of(b, &b->blocks[i]);
    for (size_t i = b->n_blocks; i-- > 0 && b->loaded + need > b->block_mem;)
        if (!b->blocks[i].wanted)
            unload(b, &b->blocks[i]); // visitors first
    for (size_t i = 0; i < b->n_blocks; i++) {
        struct balance_block *k = &b->blocks[i];
        if (!k->wanted || is_loaded(b, k))
            continue;
        if (add_parts(l, k, e))
            return -1;
        b->loaded += balance_bytes_of(b, k);
        l->fresh[i] = 1;
        *rows += k->visitors ? 0 : k->n;
    }
    return par_for(b->o->threads, l->n_parts, allocate_task, l, e) || sim_fail_check(&l->fail, e)
               ? -1
               : 0;
}

int balance_load(struct balance_run *b, struct err *e)
{
    struct load l = {.b = b};
    uint64_t rows;
    int t = b->o->threads;
    l.fresh = mem_alloc(b->n_blocks, 1, e);
    int r = !l.fresh || make_blocks(&l, &rows, e);
    l.scattered =
        !r && !b->raw && rows > b->n / 8; // much of it: reading everything in order is faster
    if (l.scattered)
        r = par_for(t, (b->n + PART - 1) / PART, scatter_task, &l, e);
    if (!r && !b->raw)
        r = par_for(t, l.n_parts, gather_task, &l, e);
    r = r || sim_fail_check(&l.fail, e) || par_for(t, l.n_parts, pack_task, &l, e) ||
        sim_fail_check(&l.fail, e);
    for (size_t i = 0; i < b->n_blocks && !r; i++)
        if (l.fresh[i] && !b->blocks[i].visitors) {
            b->r->blocks++;
            if (b->blocks[i].right.data)
                sim_panel_done(&b->blocks[i].right);
        }
    free(l.parts);
    free(l.fresh);
    return r ? -1 : 0;
}

const float *balance_row(const struct balance_run *b, const struct balance_block *k, uint32_t i,
                         double *norm)
{
    if (b->raw) {
        size_t row = b->order[k->first + i];
        *norm = b->norm[row];
        return b->raw + row * b->dim;
    }
    *norm = k->norm[i];
    return k->raw + (size_t)i * b->dim;
}

int balance_fetch(const struct balance_run *b, const uint64_t *rows, size_t n, float *out,
                  struct err *e)
{
    if (!b->raw)
        return b->source->gather(b->source->ctx, rows, n, out, e);
    for (size_t i = 0; i < n; i++)
        memcpy(out + i * b->dim, b->raw + rows[i] * b->dim, b->dim * sizeof *out);
    return 0;
}
