// SPDX-License-Identifier: Apache-2.0
// Rows in memory as their source has them: half the memory where that is float16, and none of our
// own where the source has them there already.
#ifndef SEARCH_ROW_STORE_H
#define SEARCH_ROW_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "search/row-source.h"

// Rows in memory, of float16 where the source has these and of float32 elsewhere.
struct sim_rows {
    void *data;                   // n x dim, its own; or
    const struct sim_part *parts; // the source's; neither: no rows
    size_t n_parts, dim;
    bool half;
};
size_t sim_rows_value(const struct sim_source *s); // bytes of a value of such rows
int sim_rows_init(struct sim_rows *r, const struct sim_source *s, size_t n, struct err *e);
// The same for all rows of the source: those that it has, or room for them to be read to.
int sim_rows_hold(struct sim_rows *r, const struct sim_source *s, struct err *e);
static inline bool sim_rows_there(const struct sim_rows *r)
{
    return r->data || r->parts;
}
void sim_rows_release(struct sim_rows *r); // safe on a zeroed struct
// Fills rows [at, at + count) of r with rows [first, first + count) of the source, or those listed;
// nothing to do where they are the source's own.
int sim_rows_read(struct sim_rows *r, size_t at, const struct sim_source *s, uint64_t first,
                  uint64_t count, struct err *e);
int sim_rows_gather(struct sim_rows *r, size_t at, const struct sim_source *s, const uint64_t *rows,
                    size_t count, struct err *e);
void sim_rows_copy(struct sim_rows *to, size_t at, const struct sim_rows *from, size_t i);
// Row i as float32: in place, or made in `room` (dim values).
const float *sim_rows_at(const struct sim_rows *r, size_t i, float *room);
// sim_dot of row i of a and row j of b, both of one source.
double sim_rows_dot(const struct sim_rows *a, size_t i, const struct sim_rows *b, size_t j);
void sim_rows_prefetch(const struct sim_rows *r, size_t i);

#endif
