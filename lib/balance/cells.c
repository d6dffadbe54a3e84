// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "search/nearest.h"
#include "balance/run.h"
#include "base/mem.h"
#include "comm/tree.h"
#include "system/threads.h"
#include "base/rng.h"

enum { CHUNK = 16384, TASK = 1024 }; // rows read at once; by one thread

struct cell_pass {
    struct balance_run *b;
    struct loop_error fail;
    uint64_t first;
    size_t n;
    float *rows; // CHUNK x dim, unit
    double *key; // per place, for the order by centroid
};

// Classes n rows that are held, made unit in `unit` unless that is NULL. room: of one row, the last
// of `unit` will do.
static void class_held(struct balance_run *b, uint64_t first, size_t n, float *unit, float *room)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t row = first + i;
        unit_rows_of(row_store_at(&b->rows, row, room), unit ? unit + i * b->dim : NULL, 1, b->dim,
                     true, &b->state[row], &b->norm[row]);
    }
}

static void read_task(void *ctx, size_t i)
{
    struct cell_pass *p = ctx;
    struct balance_run *b = p->b;
    size_t at = i * TASK, n = p->n - at < TASK ? p->n - at : TASK;
    float *rows = p->rows + at * b->dim;
    uint64_t first = p->first + at;
    bool unit = b->mean || (b->cell && !b->o->cells); // somebody looks at the unit rows
    struct err e;
    int r = row_store_there(&b->rows) ? row_store_read(&b->rows, first, b->source, first, n, &e)
                                      : b->source->read(b->source->ctx, first, n, rows, &e);
    if (r)
        loop_error_set(&p->fail, &e);
    else if (row_store_there(&b->rows))
        class_held(b, first, n, unit ? rows : NULL, rows + (n - 1) * b->dim);
    else
        unit_rows_of(rows, unit ? rows : NULL, n, b->dim, true, b->state + first, NULL);
    for (size_t k = 0; !r && k < n && b->o->left_out; k++)
        if (b->o->left_out[first + k] && !row_failed(b->state[first + k])) {
            b->state[first + k] = ROW_LEFT_OUT;
            memset(rows + k * b->dim, 0, b->dim * sizeof *rows);
        }
}

static void count_states(struct balance_run *b)
{
    for (uint32_t i = 0; i < b->n; i++) {
        b->r->zero += b->state[i] == ROW_ZERO;
        b->r->not_finite += b->state[i] == ROW_NOT_FINITE;
        b->r->rescaled += b->state[i] == ROW_RESCALED;
        b->r->left_out += b->state[i] == ROW_LEFT_OUT;
        b->usable += !row_failed(b->state[i]);
    }
    b->r->rows = b->n;
    b->r->usable = b->usable;
}

// One cell: the mean of all unit rows stands for its centroid.
static void add_to_mean(struct balance_run *b, const struct cell_pass *p)
{
    for (size_t i = 0; i < p->n; i++)
        for (size_t d = 0; d < b->dim; d++)
            b->mean[d] += p->rows[i * b->dim + d];
}

// The cell of each row, and the next ones that it looks into.
static int find_cells(struct balance_run *b, struct nearest *a, const struct cell_pass *p,
                      struct err *e)
{
    size_t top = b->probe + 1;
    int32_t *labels = mem_alloc(p->n * top, sizeof *labels, e);
    int r = !labels       ? -1
            : b->o->cells ? b->o->cells(b->o->ctx, p->first, p->n, top, labels, e)
                          : nearest_rows(a, b->o->threads, p->rows, p->n, b->state + p->first, top,
                                         labels, NULL, e);
    for (size_t i = 0; i < p->n && !r; i++) {
        bool usable = !row_failed(b->state[p->first + i]);
        for (size_t t = 0; t < top && usable && !r; t++)
            if (labels[i * top + t] >= (int64_t)b->n_cells || labels[i * top + t] < 0)
                r = err_set(e, "row %llu has the label %d, with %zu cells",
                            (unsigned long long)(p->first + i), labels[i * top + t], b->n_cells);
        b->cell[p->first + i] = (uint32_t)labels[i * top];
        if (b->probe)
            memcpy(b->next + (p->first + i) * b->probe, labels + i * top + 1,
                   b->probe * sizeof *labels);
    }
    free(labels);
    return r;
}

// This rank's share of the rows, or all.
static int read_all(struct balance_run *b, struct nearest *a, struct err *e)
{
    const struct comm alone = COMM_ALONE, *c = b->o->comm ? b->o->comm : &alone;
    struct cell_pass p = {.b = b};
    uint64_t end = comm_share(c, b->n, c->rank + 1);
    p.rows = mem_alloc(CHUNK * b->dim, sizeof *p.rows, e);
    if (!p.rows)
        return -1;
    int r = 0;
    for (p.first = comm_share(c, b->n, c->rank); p.first < end && !r; p.first += p.n) {
        p.n = end - p.first < CHUNK ? end - p.first : CHUNK;
        r = threads_for_stop(b->o->threads, (p.n + TASK - 1) / TASK, read_task, &p, e);
        if (!r)
            r = loop_error_check(&p.fail, e);
        if (!r && b->cell)
            r = find_cells(b, a, &p, e);
        if (!r && b->mean)
            add_to_mean(b, &p);
    }
    free(p.rows);
    return r;
}

// Counting sort by cell; rows ascending in each.
static void sort_by_cell(struct balance_run *b)
{
    for (uint32_t i = 0; i < b->n; i++)
        if (!row_failed(b->state[i]))
            b->start[(b->cell ? b->cell[i] : 0) + 1]++;
    for (size_t c = 0; c < b->n_cells; c++) {
        uint64_t size = b->start[c + 1];
        b->r->biggest_cell = size > b->r->biggest_cell ? size : b->r->biggest_cell;
        b->r->empty_cells += size == 0;
        b->start[c + 1] += b->start[c];
    }
    for (uint32_t i = 0; i < b->n; i++) {
        b->place[i] = BALANCE_NONE;
        if (row_failed(b->state[i]))
            continue;
        uint32_t c = b->cell ? b->cell[i] : 0;
        b->place[i] = b->start[c]++;
        b->order[b->place[i]] = i;
    }
    for (size_t c = b->n_cells; c > 0; c--)
        b->start[c] = b->start[c - 1];
    b->start[0] = 0;
}

double balance_to_centroid(const struct balance_run *b, const float *raw, double norm, uint32_t row)
{
    double sum = 0;
    if (!b->mean)
        return dot_exact(raw, b->o->centroids + (size_t)b->cell[row] * b->dim, b->dim) / norm;
    for (size_t d = 0; d < b->dim; d++)
        sum += raw[d] * b->mean[d];
    return sum / norm;
}

static void key_task(void *ctx, size_t i)
{
    struct cell_pass *p = ctx;
    struct balance_run *b = p->b;
    struct err e;
    uint64_t at = i * TASK, n = p->n - at < TASK ? p->n - at : TASK, first = p->first + at;
    bool held = row_store_there(&b->rows);
    float *rows = mem_alloc((held ? 1 : n) * b->dim, sizeof *rows, &e);
    if (!rows || (!held && b->source->read(b->source->ctx, first, n, rows, &e))) {
        loop_error_set(&p->fail, &e);
        free(rows);
        return;
    }
    for (uint32_t k = 0; k < n; k++) {
        uint32_t row = (uint32_t)first + k;
        const float *x = held ? row_store_at(&b->rows, row, rows) : rows + k * b->dim;
        double norm = held ? b->norm[row] : sqrt(dot_exact(x, x, b->dim));
        if (b->place[row] != BALANCE_NONE)
            p->key[b->place[row]] = balance_to_centroid(b, x, norm, row);
    }
    free(rows);
}

struct ranked {
    double key;
    uint32_t row;
    bool late; // may not survive: comes after all that may
};

static int by_key(const void *x, const void *y)
{
    const struct ranked *a = x, *b = y;
    if (a->late != b->late)
        return a->late ? 1 : -1;
    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    return a->row < b->row ? -1 : a->row > b->row;
}

// The key by which a row comes earlier: ascending.
static double key_of(const struct balance_run *b, double to_centroid, uint32_t row)
{
    uint32_t word[4];
    switch (b->o->survivor) {
    case BALANCE_HARD:
        return to_centroid;
    case BALANCE_EASY:
        return -to_centroid;
    case BALANCE_SCORE:
        return -(double)b->o->score[row];
    case BALANCE_RANDOM:
        rng_block(b->o->seed, 0, row, word);
        return word[0] + word[1] * 0x1p-32;
    default:
        return row;
    }
}

static int rank_cells(struct balance_run *b, const double *key, struct err *e)
{
    struct ranked *s = mem_alloc(b->r->biggest_cell, sizeof *s, e);
    if (!s)
        return -1;
    for (size_t c = 0; c < b->n_cells; c++) {
        uint32_t first = b->start[c], n = b->start[c + 1] - first;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t row = b->order[first + i];
            s[i] = (struct ranked){key_of(b, key ? key[first + i] : 0, row), row,
                                   b->o->may_survive && !b->o->may_survive[row]};
        }
        qsort(s, n, sizeof *s, by_key);
        for (uint32_t i = 0; i < n; i++) {
            b->order[first + i] = s[i].row;
            b->place[s[i].row] = first + i;
        }
    }
    free(s);
    return 0;
}

// Of this rank's share of the rows; the keys of the others stay 0.
static int find_keys(struct cell_pass *p, struct err *e)
{
    const struct balance_run *b = p->b;
    const struct comm alone = COMM_ALONE, *c = b->o->comm ? b->o->comm : &alone;
    p->first = comm_share(c, b->n, c->rank);
    p->n = comm_share(c, b->n, c->rank + 1) - p->first;
    return threads_for_stop(b->o->threads, (p->n + TASK - 1) / TASK, key_task, p, e) ||
                   loop_error_check(&p->fail, e)
               ? -1
               : 0;
}

// One rank has the bits of a key, the others have zeros: their sum as integers is the key.
static int gather_keys(struct balance_run *b, double *key, int status, struct err *e)
{
    struct comm *c = b->o->comm;
    if (!c || c->size == 1)
        return status;
    void *room = mem_alloc(1, comm_tree_room(c, b->usable, sizeof *key), e);
    int r = comm_agree(c, status || !room ? -1 : 0, e);
    if (!r)
        r = comm_tree_all(c, "keys", key, b->usable, sizeof *key, comm_add_i64, NULL, room, e);
    free(room);
    return r;
}

// SemDeDup's order within each cell.
static int sort_by_rank(struct balance_run *b, struct err *e)
{
    struct cell_pass p = {.b = b};
    if (b->o->survivor == BALANCE_HARD || b->o->survivor == BALANCE_EASY) {
        p.key = mem_alloc(b->usable, sizeof *p.key, e);
        if (gather_keys(b, p.key, p.key ? find_keys(&p, e) : -1, e)) {
            free(p.key);
            return -1;
        }
    }
    int r = rank_cells(b, p.key, e);
    free(p.key);
    return r;
}

static int find_all(struct balance_run *b, struct err *e)
{
    struct nearest a = {0};
    if (b->cell && !b->o->cells &&
        nearest_init_on(&a, b->o->device, b->o->centroids, b->n_cells, b->dim, b->o->threads, e))
        return -1;
    int r = read_all(b, &a, e);
    nearest_release(&a);
    return r;
}

// The rows of all ranks.
static int gather_cells(struct balance_run *b, int status, struct err *e)
{
    struct comm *c = b->o->comm;
    if (!c || c->size == 1)
        return status;
    if (comm_agree(c, status, e) || comm_tree_gather(c, "states", b->state, b->n, 1, e) ||
        comm_tree_gather(c, "cells", b->cell, b->n, sizeof *b->cell, e))
        return -1;
    return b->probe
               ? comm_tree_gather(c, "next cells", b->next, b->n, b->probe * sizeof *b->next, e)
               : 0;
}

int balance_cells(struct balance_run *b, struct err *e)
{
    if (gather_cells(b, find_all(b, e), e))
        return -1;
    count_states(b);
    for (size_t d = 0; b->mean && b->usable && d < b->dim; d++)
        b->mean[d] /= b->usable;
    sort_by_cell(b);
    return b->o->rule == BALANCE_SEMDEDUP ? sort_by_rank(b, e) : 0;
}
