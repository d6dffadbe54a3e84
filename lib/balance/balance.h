// SPDX-License-Identifier: Apache-2.0
// Semantic balance: finds the rows that mean the same and keeps one of each (CLIP-CID; SemDeDup,
// Abbas et al., arXiv 2303.09540). Two rows are joined when their cosine distance is under a limit;
// a group is a connected component. Pairs are compared within a cell; with a probe of n also each
// row with the rows of the n cells whose centroids are next nearest to it, in blocks, and are never
// stored. Decisions near the limit are taken in float64, so results depend on neither kernel,
// threads nor memory.
#ifndef BALANCE_BALANCE_H
#define BALANCE_BALANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "search/row-source.h"

enum balance_rule {
    BALANCE_UNION,   // one of each connected component stays
    BALANCE_SEMDEDUP // in each cell, ordered: whatever is near an earlier row goes
};
enum balance_survivor {
    BALANCE_CENTER, // nearest the group's mean (squared distances within 1e-6 tie: lowest row)
    BALANCE_HARD,   // least cosine to the cell's centroid
    BALANCE_EASY,   // greatest cosine to the cell's centroid
    BALANCE_FIRST,  // lowest row
    BALANCE_RANDOM, // by the seed
    BALANCE_SCORE   // greatest score, `score`
};

struct comm;
struct search_device;
struct balance_options {
    enum balance_rule rule;
    enum balance_survivor survivor; // for BALANCE_SEMDEDUP the order: hard, easy, first or random
    double distance;                // cosine; pairs with 1 - cos < distance are joined
    const float *centroids;         // n_cells x dim, or NULL: one cell, all pairs
    size_t n_cells;
    size_t probe;    // BALANCE_UNION: so many next cells of each row are compared too
    double curve_to; // collect result.merges up to this distance; 0 = not at all
    double remove;   // >= 0: search the distance that removes this share of the usable rows
    // Per row of the source: 0 = stays only if no other row of its group may stay; NULL: all may.
    const uint8_t *may_survive;
    const uint8_t *left_out; // per row: not 0 = takes no part, as a failed one; NULL: none
    const float *score;      // per row, with BALANCE_SCORE
    // Of the rows that stay in a cell at most `cap`, chosen by the seed; 0: all. With cap_share > 0
    // the greatest cap with which at most this share of those that stay is left. With centroids.
    uint64_t cap;
    double cap_share;
    // So many hard partners of each row (balance/hard.c), 0: none; by the rows of its cell. texts:
    // a row for each of the source's, neither zero nor without finite values where the row takes
    // part. Not in parts by files.
    size_t hard;
    const struct row_source *texts;
    uint64_t seed; // of `random` and cap
    uint64_t mem;  // bytes that may be used, all in all
    int threads;
    // Ranks (comm/comm.h), or NULL. All give the same rows and options, with centroids; each
    // compares its share of the cells. Only rank 0 gets keep and group. They do not depend on the
    // ranks.
    struct comm *comm;
    // The same by files: with found() the part-th share of the cells is compared alone, and found()
    // is given what was found, instead of a result.
    size_t part, parts;
    int (*found)(void *ctx, const void *joins, size_t n, struct err *e);
    // Nothing is compared: take() gives what was found in part i of n_taken, valid until the next.
    size_t n_taken;
    const void *(*take)(void *ctx, size_t i, size_t *n, struct err *e);
    struct search_device *device; // makes the products (with pairs); NULL = this processor
    // The cells of rows where they are known already, instead of a search: count x (probe + 1)
    // labels, nearest cell first, -1 for failed rows; or NULL. 0 or -1.
    int (*cells)(void *ctx, uint64_t first, uint64_t count, size_t top, int32_t *labels,
                 struct err *e);
    // Called now and then with the pairs compared so far and in all; false stops with an error.
    bool (*progress)(void *ctx, double done, double total);
    void *ctx;
};

#define BALANCE_NONE UINT32_MAX

struct balance_result {
    uint64_t rows, usable, zero, not_finite, rescaled; // rescaled: usable, but not unit rows
    uint64_t kept, groups, largest;                    // groups of one included
    uint64_t left_out, capped, cap;                    // cap: that was used
    uint64_t barred;                                   // kept ones that may_survive is 0 for
    uint64_t pairs;                                    // under the distance, among those compared
    uint64_t compared;                                 // pairs compared
    uint64_t biggest_cell, empty_cells, blocks;        // blocks: of rows loaded from the source
    double distance;                                   // that was used
    uint8_t *keep;                                     // per row: 1 stays
    uint32_t *group; // per row: the kept row of its group, BALANCE_NONE for failed rows
    // With hard: per place `hard` rows, greatest value first, BALANCE_NONE behind the last; per row
    // its place, BALANCE_NONE for failed rows.
    uint32_t *hard, *place;
    // With curve_to or remove: the distances at which one more row goes, ascending; so of `usable`
    // rows usable - (those under d) are left at distance d <= reach.
    double *merges;
    size_t n_merges;
    double reach;
    const char *kernel; // what made the products: "float32", "bfloat16", "int8", or the device's
    double seconds[4];  // finding cells; comparing, with the search; picking what stays; partners
};

// Works out keep and group. 0 or -1.
int balance_run(const struct row_source *rows, const struct balance_options *o,
                struct balance_result *r, struct err *e);
void balance_release(struct balance_result *r); // safe on a zeroed struct
// The least `mem` that balance_run accepts for n rows; 0 when no memory would do.
uint64_t balance_min_mem(uint64_t n, size_t dim, size_t n_cells, size_t probe, int threads);

#endif
