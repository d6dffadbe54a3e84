// SPDX-License-Identifier: Apache-2.0
// Rows in memory in the type of their source: float16 rows take half the memory of float32, and
// rows that the source has in memory already take none.
#ifndef SEARCH_ROW_STORE_H
#define SEARCH_ROW_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "search/row-source.h"

// Rows in memory, of float16 where the source has these and of float32 elsewhere.
struct row_store {
    void *data;                   // n x dim, its own; or
    const struct row_part *parts; // the source's; neither: no rows
    size_t n_parts, dim;
    bool half;
};
size_t row_store_value(const struct row_source *s); // bytes of a value of such rows
int row_store_init(struct row_store *r, const struct row_source *s, size_t n, struct err *e);
// The same for all rows of the source: uses those that the source holds in memory, or allocates
// memory to read them into.
int row_store_hold(struct row_store *r, const struct row_source *s, struct err *e);
static inline bool row_store_there(const struct row_store *r)
{
    return r->data || r->parts;
}
void row_store_release(struct row_store *r); // safe on a zeroed struct
// Fills rows [at, at + count) of r with rows [first, first + count) of the source, or those listed;
// nothing to do where they are the source's own.
int row_store_read(struct row_store *r, size_t at, const struct row_source *s, uint64_t first,
                   uint64_t count, struct err *e);
int row_store_gather(struct row_store *r, size_t at, const struct row_source *s,
                     const uint64_t *rows, size_t count, struct err *e);
void row_store_copy(struct row_store *to, size_t at, const struct row_store *from, size_t i);
// Row i as float32 [dim]: in place, or converted into `room`, which holds dim values.
const float *row_store_at(const struct row_store *r, size_t i, float *room);
// dot_exact of row i of a and row j of b, both of one source.
double row_store_dot(const struct row_store *a, size_t i, const struct row_store *b, size_t j);
void row_store_prefetch(const struct row_store *r, size_t i);

#endif
