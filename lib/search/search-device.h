// SPDX-License-Identifier: Apache-2.0
// A search for large inner products on a device: the device holds the rows packed in its own type,
// computes blocks of products, and returns the few pairs that a proven error bound leaves
// undecided. The host decides these by dot_exact, so results equal those of the kernels of
// search/dot-block.h.
//
// Not thread safe.
#ifndef SEARCH_SEARCH_DEVICE_H
#define SEARCH_SEARCH_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "device/dev.h"
#include "base/err.h"

// What the searches need. A zero in the last line selects the default.
struct search_device_need {
    size_t dim;
    size_t right; // centroids, or rows compared with each other; kept on the device if they fit
    size_t top;   // labels of a row, at most DEV_TOP_MAX; 0 = no labels
    bool pairs;   // rows are compared with each other
    size_t rows, cols, room; // of a block of scores; most rows held
};

enum {
    SEARCH_DEVICE_PACK = 4096,  // rows packed at once
    SEARCH_DEVICE_LIST = 65536, // hits fetched at once
    SEARCH_DEVICE_AHEAD = 16384 // rows that the callers read ahead, at most
};

struct search_device {
    struct dev *d;
    size_t dim, ld;    // values of a row; as packed, with zeros behind
    size_t top;        // at most
    size_t rows, cols; // of a block of scores
    size_t room;       // rows that `right` holds
    size_t flight;     // rows labelled at once
    uint32_t most;     // hits of one such row
    // Device memory
    void *right;             // act [room + DEV_SCORE_COLS, ld]
    void *left[2];           // act [flight, ld]: under way, and next
    float *slack[2], *best;  // [flight], [flight, top]
    float *scores;           // [rows, cols]
    float *least;            // [room], for pairs
    uint32_t *found;         // [flight + 1], the last counts hits
    struct dev_hits hits;    //
    size_t asked, available; // bytes allocated, and bytes that were free before
    size_t bytes[4];         // of right; left; scores; hits
    // Host memory for transfers
    unsigned char *act;     // SEARCH_DEVICE_PACK rows
    float *norm, *lost;     // of each
    struct dev_hit *listed; // SEARCH_DEVICE_LIST
    // Counts since the start: rows labelled, their candidates, rows with too many candidates for
    // the device; pairs listed, lists that were too short
    uint64_t n_rows, n_candidates, n_here, n_pairs, n_short;
    char text[256];
};

// Computes the sizes and allocates all device and host memory. d stays the caller's. 0, or -1; when
// it does not fit, the error has the sizes.
int search_device_init(struct search_device *s, struct dev *d,
                       const struct search_device_need *need, struct err *e);
// The same with a limit on host memory: subtracts what the searches take from *mem (bytes).
int search_device_init_within(struct search_device *s, struct dev *d,
                              const struct search_device_need *need, uint64_t *mem, struct err *e);
void search_device_release(struct search_device *s); // safe on a zeroed struct
// One line about the memory, or about the candidates so far. Valid until the next of these calls.
const char *search_device_memory(struct search_device *s);
const char *search_device_counts(struct search_device *s);

// One row as the device takes it, at `act`; its norm and the norm of what rounding lost, rounded
// up.
void search_device_pack(const struct search_device *s, const float *x, void *act, float *norm,
                        float *lost);
// Packs n <= SEARCH_DEVICE_PACK rows (n x dim) into act, norm and lost. 0 or -1.
int search_device_pack_rows(struct search_device *s, const float *rows, size_t n, int threads,
                            struct err *e);
// Address of row i of packed rows.
void *search_device_row(const struct search_device *s, void *rows, size_t i);
// |score - exact| is at most this for a row with every row whose norm is at most `most` and that
// lost at most `worst`.
double search_device_bound(const struct search_device *s, double norm, double lost, double most,
                           double worst);

#endif
