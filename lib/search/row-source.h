// SPDX-License-Identifier: Apache-2.0
// The rows that an algorithm reads, from memory or from files.
#ifndef SEARCH_ROW_SOURCE_H
#define SEARCH_ROW_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

// Rows from `first` up to the next part's, as they lie in memory: float16 or float32.
struct row_part {
    const void *data;
    uint64_t first;
};

struct row_source {
    uint64_t n;
    size_t dim;
    void *ctx;
    // Rows [first, first + count), or the rows listed, as count * dim values. Called from many
    // threads at once. 0 or -1.
    int (*read)(void *ctx, uint64_t first, uint64_t count, float *out, struct err *e);
    int (*gather)(void *ctx, const uint64_t *rows, size_t count, float *out, struct err *e);
    // The same without conversion, where all rows are float16; else NULL.
    int (*read_half)(void *ctx, uint64_t first, uint64_t count, uint16_t *out, struct err *e);
    int (*gather_half)(void *ctx, const uint64_t *rows, size_t count, uint16_t *out, struct err *e);
    // All rows (float16 with read_half, else float32) where they can be used in place: the parts,
    // the source's own, *n of them; NULL: they must be read. May itself be NULL.
    const struct row_part *(*parts)(void *ctx, size_t *n);
    // With parts: -1 if their bytes have changed since they were opened; call it at the end.
    int (*unchanged)(void *ctx, struct err *e);
};

struct row_memory {
    const float *rows; // n x dim, the caller's
    size_t dim;
    struct row_part part;
};
// The rows of a matrix in memory; m stays with the caller as long as the source is used.
struct row_source row_source_memory(struct row_memory *m, const float *rows, uint64_t n,
                                    size_t dim);

// The first error of a loop on many threads.
struct loop_error {
    _Atomic int failed;
    struct err e;
};
void loop_error_set(struct loop_error *f, const struct err *e);  // the first call wins
int loop_error_check(const struct loop_error *f, struct err *e); // -1 with e filled when one failed

#endif
