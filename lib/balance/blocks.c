// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "search/nearest.h"
#include "balance/run.h"
#include "base/mem.h"
#include "system/threads.h"

enum { PART = 256, AHEAD = 4 }; // rows loaded by one task; prefetched
enum { AT_ONCE = 16 << 20 };    // bytes of panels

uint64_t balance_block_bytes(uint64_t n, size_t dim, size_t value)
{
    return n * (value * (uint64_t)dim + sizeof(double)) +
           dot_panel_most_bytes(DOT_SIDE_RIGHT, n, dim) + 1280;
}

// A quarter of the memory a block: two are compared, and the next ones still fit beside them.
static uint32_t block_rows(const struct balance_run *b)
{
    uint64_t low = 1, high = b->usable ? b->usable : 1;
    while (low < high) {
        uint64_t mid = (low + high + 1) / 2;
        if (balance_block_bytes(mid, b->dim, row_store_value(b->source)) <= b->block_mem / 4)
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
        if (mem_grow(&b->blocks, room, b->n_blocks + 1, sizeof *b->blocks, e))
            return -1;
        b->blocks[b->n_blocks++] =
            (struct balance_block){.cell = cell, .first = at, .n = n, .visitors = visitors};
        uint64_t bytes = balance_bytes_of(b, &b->blocks[b->n_blocks - 1]);
        b->biggest_block = bytes > b->biggest_block ? bytes : b->biggest_block;
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
    if (balance_block_bytes(block_rows(b), b->dim, row_store_value(b->source)) > b->block_mem / 2)
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
    if (mem_grow(&b->pairs, room, b->n_pairs + 1, sizeof *b->pairs, e))
        return -1;
    b->pairs[b->n_pairs++] = (struct balance_pair){(uint32_t)i, (uint32_t)j};
    return 0;
}

static double cell_pairs(const struct balance_run *b, size_t *at)
{
    double sum = 0;
    for (uint32_t cell = b->blocks[b->pairs[*at].a].cell;
         *at < b->n_pairs && b->blocks[b->pairs[*at].a].cell == cell; ++*at)
        sum += balance_pair_count(b, &b->pairs[*at]);
    return sum;
}

// Leaves the pairs of the cells that are compared here: runs of cells with about as many pairs
// each.
static void own_cells(struct balance_run *b)
{
    const struct comm *c = b->o->comm;
    size_t parts = c && c->size > 1 ? (size_t)c->size : b->o->parts, kept = 0;
    size_t part = c && c->size > 1 ? (size_t)c->rank : b->o->part;
    double all = 0, before = 0;
    b->first_cell = 0;
    b->end_cell = b->n_cells;
    if (parts < 2)
        return;
    for (size_t at = 0; at < b->n_pairs;)
        all += cell_pairs(b, &at);
    bool begun = false, ended = false;
    for (size_t at = 0, from = 0; at < b->n_pairs; from = at) {
        double n = cell_pairs(b, &at);
        // The part in which the middle of the cell's pairs lies.
        size_t of = all > 0 ? (size_t)((before + n / 2) / all * (double)parts) : 0;
        of = of < parts ? of : parts - 1;
        before += n;
        uint32_t cell = b->blocks[b->pairs[from].a].cell;
        if (of < part)
            continue;
        if (!begun)
            b->first_cell = cell;
        begun = true;
        if (of > part && !ended)
            b->end_cell = cell;
        ended |= of > part;
        for (size_t i = from; i < at && of == part; i++)
            b->pairs[kept++] = b->pairs[i];
    }
    if (!begun)
        b->first_cell = b->n_cells;
    b->n_pairs = kept;
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
    own_cells(b);
    return 0;
}

uint64_t balance_bytes_of(const struct balance_run *b, const struct balance_block *k)
{
    uint64_t row = row_store_value(b->source) * (uint64_t)b->dim + sizeof(double);
    uint64_t rows = row_store_there(&b->rows) ? 0 : k->n * row + 512;
    return k->visitors || b->o->device
               ? rows
               : rows + dot_panel_bytes(b->kernel, DOT_SIDE_RIGHT, k->n, b->dim) + 768;
}

// Where the rows are in memory, panels are made shortly before they are compared: so they are still
// in the cache, and their memory is used again.
uint64_t balance_at_once(const struct balance_run *b)
{
    uint64_t few = (uint64_t)AT_ONCE * (uint64_t)b->o->threads;
    return row_store_there(&b->rows) && b->biggest_block <= few / 4 && few < b->block_mem
               ? few
               : b->block_mem;
}

static bool is_loaded(const struct balance_run *b, const struct balance_block *k)
{
    return row_store_there(&b->rows) ? k->visitors || b->o->device || k->right.data
                                     : k->rows.data != NULL;
}

static void unload(struct balance_run *b, struct balance_block *k)
{
    if (is_loaded(b, k))
        b->loaded -= balance_bytes_of(b, k);
    row_store_release(&k->rows);
    free(k->norm);
    dot_panel_release(&k->right);
    k->norm = NULL;
}

void balance_unload(struct balance_run *b)
{
    for (size_t i = 0; i < b->n_blocks; i++)
        unload(b, &b->blocks[i]);
}

static int allocate(const struct balance_run *b, struct balance_block *k, struct err *e)
{
    if (!row_store_there(&b->rows)) {
        if (row_store_init(&k->rows, b->source, k->n, e))
            return -1;
        k->norm = mem_alloc(k->n, sizeof *k->norm, e);
        if (!k->norm) {
            row_store_release(&k->rows);
            return -1;
        }
    }
    if (k->visitors || b->o->device)
        return 0;
    if (dot_panel_init(&k->right, b->kernel, DOT_SIDE_RIGHT, k->n, b->dim, e))
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
    struct loop_error fail;
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
    struct row_store rows;
    if (row_store_init(&rows, b->source, n, &e) ||
        row_store_read(&rows, 0, b->source, first, n, &e))
        loop_error_set(&l->fail, &e);
    for (uint64_t k = 0; k < n && rows.data && !l->fail.failed; k++) {
        uint32_t place = b->place[first + k];
        struct balance_block *to = place == BALANCE_NONE ? NULL : block_of(b, place);
        if (to && l->fresh[to - b->blocks])
            row_store_copy(&to->rows, place - to->first, &rows, k);
    }
    row_store_release(&rows);
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
    if (row_store_gather(&p->block->rows, p->first, b->source, rows, p->n, &e))
        loop_error_set(&l->fail, &e);
}

// The rows of a cell lie anywhere in memory: ask for one some rows before it is needed.
static void fetch_ahead(const struct balance_run *b, uint32_t place)
{
    __builtin_prefetch(&b->norm[b->order[place]]);
    row_store_prefetch(&b->rows, b->order[place]);
}

static void measure(struct balance_block *k, uint32_t first, uint32_t n)
{
    for (uint32_t i = first; i < first + n; i++)
        k->norm[i] = sqrt(row_store_dot(&k->rows, i, &k->rows, i));
}

static void pack(const struct balance_run *b, const struct part *p, float *unit)
{
    for (uint32_t k = 0; k < p->n; k++) {
        if (row_store_there(&b->rows) && k + AHEAD < p->n)
            fetch_ahead(b, p->block->first + p->first + k + AHEAD);
        balance_unit(b, p->block, p->first + k, unit + k % DOT_RIGHT * b->dim);
        if (k % DOT_RIGHT == DOT_RIGHT - 1 || k + 1 == p->n)
            dot_panel_part(&p->block->right, unit, p->first + k / DOT_RIGHT * DOT_RIGHT,
                           k % DOT_RIGHT + 1);
    }
}

static void pack_task(void *ctx, size_t i)
{
    struct load *l = ctx;
    const struct balance_run *b = l->b;
    const struct part *p = &l->parts[i];
    struct err e;
    if (!row_store_there(&b->rows))
        measure(p->block, p->first, p->n);
    if (p->block->visitors || b->o->device)
        return;
    float *unit = mem_alloc(DOT_RIGHT * b->dim, sizeof *unit, &e);
    if (unit)
        pack(b, p, unit);
    else
        loop_error_set(&l->fail, &e);
    free(unit);
}

static int add_parts(struct load *l, struct balance_block *k, struct err *e)
{
    for (uint32_t at = 0; at < k->n; at += PART) {
        if (mem_grow(&l->parts, &l->room, l->n_parts + 1, sizeof *l->parts, e))
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
        if (b->blocks[i].wanted && !is_loaded(b, &b->blocks[i]))
            need += balance_bytes_of(b, &b->blocks[i]);
    for (size_t i = b->n_blocks; i-- > 0 && b->loaded + need > balance_at_once(b);)
        if (!b->blocks[i].wanted)
            unload(b, &b->blocks[i]); // visitors first
    for (size_t i = 0; i < b->n_blocks; i++) {
        struct balance_block *k = &b->blocks[i];
        if (!k->wanted || is_loaded(b, k))
            continue;
        if (add_parts(l, k, e) || allocate(b, k, e))
            return -1;
        b->loaded += balance_bytes_of(b, k);
        l->fresh[i] = 1;
        *rows += k->visitors ? 0 : k->n;
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
    l.scattered = !r && !row_store_there(&b->rows) &&
                  rows > b->n / 8; // much of it: reading everything in order is faster
    if (l.scattered)
        r = threads_for_stop(t, (b->n + PART - 1) / PART, scatter_task, &l, e);
    if (!r && !row_store_there(&b->rows))
        r = threads_for_stop(t, l.n_parts, gather_task, &l, e);
    r = r || loop_error_check(&l.fail, e) || threads_for_stop(t, l.n_parts, pack_task, &l, e) ||
        loop_error_check(&l.fail, e);
    for (size_t i = 0; i < b->n_blocks && !r; i++)
        if (l.fresh[i] && !b->blocks[i].visitors) {
            b->r->blocks++;
            if (b->blocks[i].right.data)
                dot_panel_done(&b->blocks[i].right);
        }
    free(l.parts);
    free(l.fresh);
    return r ? -1 : 0;
}

struct balance_row balance_row(const struct balance_run *b, const struct balance_block *k,
                               uint32_t i)
{
    if (!row_store_there(&b->rows))
        return (struct balance_row){&k->rows, i, k->norm[i]};
    size_t row = b->order[k->first + i];
    return (struct balance_row){&b->rows, row, b->norm[row]};
}

void balance_unit(const struct balance_run *b, const struct balance_block *k, uint32_t i,
                  float *unit)
{
    struct balance_row r = balance_row(b, k, i);
    dot_scale(row_store_at(r.rows, r.at, unit), 1 / r.norm, unit, b->dim);
}
