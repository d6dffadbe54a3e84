// SPDX-License-Identifier: Apache-2.0
// The state of one balance_run, shared by the files of lib/balance. Internal.
//
// Rows have a place: usable rows sorted by cell, in a cell by the rule's order (row number, or
// rank). Cells are cut into blocks of places; a block is what is loaded and compared at once. With
// a probe, more places follow: for each cell its visitors, the rows of other cells that are
// compared with it.
#ifndef BALANCE_RUN_H
#define BALANCE_RUN_H

#include <pthread.h>
#include <stdatomic.h>

#include "balance/balance.h"
#include "comm/comm.h"
#include "search/row-store.h"
#include "search/dot-block.h"
#include "balance/union-find.h"

struct balance_edge {
    double distance;
    uint32_t a, b;
};

// A spanning forest of least distances, grown edge by edge: `edges` beyond the forest wait until
// the capacity is reached; then Kruskal's algorithm drops the edges that close a cycle.
struct balance_forest {
    struct balance_edge *edges;
    size_t n, n_forest, room;
    uint32_t *parent; // for Kruskal
    uint32_t rows;
};
int balance_forest_init(struct balance_forest *f, uint32_t rows, size_t waiting, struct err *e);
void balance_forest_release(struct balance_forest *f);
void balance_forest_add(struct balance_forest *f, const struct balance_edge *edges, size_t n);
void balance_forest_finish(struct balance_forest *f); // edges[0 .. n_forest), by distance

struct balance_block {
    uint32_t cell;
    uint32_t first, n;      // places
    struct row_store rows;  // as read; none when not loaded or all rows are in memory
    double *norm;           // n
    struct dot_panel right; // of the unit rows; with o->device: none
    bool visitors;          // compared with the cell's rows; no `right`
    bool wanted;            // by the batch that runs next
};

struct balance_pair {
    uint32_t a, b; // blocks; b is not one of visitors
};

struct balance_run {
    const struct row_source *source;
    const struct balance_options *o;
    struct balance_result *r;
    double distance; // pairs under it are joined
    double reach;    // pairs under it go to the forest or to closest; 0 = none
    uint32_t n, usable;
    size_t dim, n_cells, probe;
    enum dot_kernel kernel;
    struct row_store rows; // all of them, where memory holds them; else none
    double *norm;          // with rows: of each
    uint8_t *state;        // per row, enum row_state
    uint32_t *cell;        // per row; NULL with one cell
    int32_t *next;         // per row: its `probe` next cells
    uint32_t *place;       // per row, BALANCE_NONE for failed rows
    uint32_t *order;       // per place: the row
    uint32_t *start;       // per cell: its first place; n_cells + 1
    double *mean;          // with one cell and an order by centroid: the mean of the unit rows
    struct balance_block *blocks;
    size_t n_main, n_blocks; // visitors come after the others
    struct balance_pair *pairs;
    size_t n_pairs;
    size_t first_cell, end_cell; // those that are compared here
    uint64_t block_mem, loaded;  // bytes that blocks may take, that they take
    uint64_t biggest_block;
    struct union_find sets;
    _Atomic uint32_t *earlier;     // BALANCE_SEMDEDUP, per place: the first earlier place near it
    struct balance_forest *forest; // BALANCE_UNION with reach
    pthread_mutex_t forest_lock;
    _Atomic uint64_t *closest; // BALANCE_SEMDEDUP with reach, per place: bits of the least distance
    _Atomic uint64_t n_near;   // pairs under the distance
};

// What one thread has found.
struct balance_found {
    atomic_flag busy;           // first: threads_take
    struct balance_edge *edges; // with a forest: BALANCE_EDGES
    size_t n_edges;
    uint64_t near;
};
enum { BALANCE_EDGES = 4096 };

// Row i of block a, and how far its products with the rows of block b may be off.
struct balance_meeting {
    const struct balance_block *a, *b;
    uint32_t i;
    double bound;
};

// balance/cells.c: reads all rows, fills state, cell, place, order, start and the counts.
int balance_cells(struct balance_run *b, struct err *e);
// The cosine of a row (norm given) with the centroid of its cell.
double balance_to_centroid(const struct balance_run *b, const float *raw, double norm,
                           uint32_t row);
// balance/blocks.c: cuts cells into blocks, pairs them, loads and drops them.
int balance_plan(struct balance_run *b, struct err *e);
int balance_load(struct balance_run *b, struct err *e); // all wanted, dropping the unwanted
void balance_unload(struct balance_run *b);
// The most bytes of a block for any kernel; `value`: bytes of a value as read.
uint64_t balance_block_bytes(uint64_t n, size_t dim, size_t value);
uint64_t balance_at_once(const struct balance_run *b); // bytes of blocks loaded together, at most
uint64_t balance_bytes_of(const struct balance_run *b, const struct balance_block *k);
// Row i of a loaded block.
struct balance_row {
    const struct row_store *rows;
    size_t at;
    double norm;
};
struct balance_row balance_row(const struct balance_run *b, const struct balance_block *k,
                               uint32_t i);
// The same as a unit row, rounded to float32: dim values.
void balance_unit(const struct balance_run *b, const struct balance_block *k, uint32_t i,
                  float *unit);
// balance/kernel.c: the kernel that these rows are compared fastest with.
int balance_choose_kernel(struct balance_run *b, struct err *e);
// balance/pairs.c: compares pairs of blocks.
int balance_pairs(struct balance_run *b, const struct balance_pair *pairs, size_t n, struct err *e);
// Products under this may be left out of balance_meet.
float balance_least(const struct balance_run *b, double bound);
// Decides about row m->i of m->a and row j of m->b, whose product is about `cosine`.
void balance_meet(struct balance_run *b, struct balance_found *f, const struct balance_meeting *m,
                  uint32_t j, double cosine);
// One of `threads`; given back by atomic_flag_clear(&f->busy).
struct balance_found *balance_found_take(struct balance_found *all, int threads);
double balance_pair_count(const struct balance_run *b, const struct balance_pair *p);
int balance_progress(struct balance_run *b, double done, double total, struct err *e);
// balance/device.c: compares pairs whose blocks are loaded, with o->device. *done: pairs compared.
int balance_pairs_device(struct balance_run *b, struct balance_found *found,
                         const struct balance_pair *pairs, size_t n, double *done, double total,
                         struct err *e);
// balance/search.c: the distance for o->remove, into b->distance.
int balance_search(struct balance_run *b, struct err *e);
// The merges found with reach, sorted, into r->merges.
int balance_merges(struct balance_run *b, struct err *e);
// balance/joins.c: what was found, heap; NULL = failed. Then adds such bytes; those of other rows
// are refused.
void *balance_joins_pack(struct balance_run *b, size_t *n, struct err *e);
int balance_joins_add(struct balance_run *b, const void *joins, size_t n, struct err *e);
// After comparing, which gave `status`: rank 0 gets what all have found.
int balance_joins_collect(struct balance_run *b, int status, struct err *e);
// Rank 0's merges to all.
int balance_joins_share(struct balance_run *b, struct err *e);
// balance/groups.c: picks the rows that stay, from `sets` or `earlier`.
int balance_groups(struct balance_run *b, struct err *e);
// balance/hard.c: the partners of all rows, into r->hard, once blocks are unloaded.
int balance_hard(struct balance_run *b, struct err *e);
// balance/cap.c: at most so many of a cell stay.
int balance_cap(struct balance_run *b, struct err *e);

#endif
