// SPDX-License-Identifier: Apache-2.0
// At most so many of the rows that stay in a cell, drawn by the seed (RealSyn, arXiv 2502.12513,
// takes at most 20, 35 or 180 samples of each of a million centres).
#include <math.h>
#include <stdlib.h>

#include "balance/run.h"
#include "base/mem.h"
#include "base/rng.h"

struct cap_row {
    uint64_t word;
    uint32_t row;
};

static int by_word(const void *x, const void *y)
{
    const struct cap_row *a = x, *b = y;
    if (a->word != b->word)
        return a->word < b->word ? -1 : 1;
    return a->row < b->row ? -1 : a->row > b->row;
}

// The rows of a cell that stay; *n of them.
static void list_cell(const struct balance_run *b, size_t cell, struct cap_row *list, size_t *n)
{
    *n = 0;
    for (uint32_t p = b->start[cell]; p < b->start[cell + 1]; p++) {
        uint32_t row = b->order[p], word[4];
        if (!b->r->keep[row])
            continue;
        rng_block(b->o->seed, 1, row, word);
        list[(*n)++] = (struct cap_row){(uint64_t)word[0] << 32 | word[1], row};
    }
}

// Rows that are left with a cap.
static uint64_t left_with(const uint32_t *size, size_t cells, uint64_t cap)
{
    uint64_t n = 0;
    for (size_t c = 0; c < cells; c++)
        n += size[c] < cap ? size[c] : cap;
    return n;
}

// The greatest cap, from 1 on, that leaves at most a share.
static uint64_t find_cap(const struct balance_run *b, const uint32_t *size)
{
    uint64_t most = (uint64_t)floor(b->o->cap_share * (double)b->r->kept), least = 1, high = 1;
    for (size_t c = 0; c < b->n_cells; c++)
        high = size[c] > high ? size[c] : high;
    while (least < high) {
        uint64_t mid = high - (high - least) / 2;
        if (left_with(size, b->n_cells, mid) <= most)
            least = mid;
        else
            high = mid - 1;
    }
    return least;
}

static void count_cells(const struct balance_run *b, uint32_t *size)
{
    for (size_t c = 0; c < b->n_cells; c++)
        for (uint32_t p = b->start[c]; p < b->start[c + 1]; p++)
            size[c] += b->r->keep[b->order[p]];
}

int balance_cap(struct balance_run *b, struct err *e)
{
    uint32_t *size = mem_alloc(b->n_cells, sizeof *size, e);
    struct cap_row *list = size ? mem_alloc(b->r->biggest_cell, sizeof *list, e) : NULL;
    if (list) {
        count_cells(b, size);
        b->r->cap = b->o->cap ? b->o->cap : find_cap(b, size);
    }
    for (size_t c = 0; list && c < b->n_cells; c++) {
        size_t n;
        if (size[c] <= b->r->cap)
            continue;
        list_cell(b, c, list, &n);
        qsort(list, n, sizeof *list, by_word);
        for (size_t i = b->r->cap; i < n; i++) {
            b->r->keep[list[i].row] = 0;
            b->r->kept--;
            b->r->capped++;
        }
    }
    free(size);
    free(list);
    return list ? 0 : -1;
}
