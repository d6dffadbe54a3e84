// SPDX-License-Identifier: Apache-2.0
// Rows that more than one test of the searches asks for. The caller frees them.
#ifndef ROWS_H
#define ROWS_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

static inline float *gaussian(size_t n, size_t dim, uint64_t seed)
{
    float *x = malloc((n * dim + 1) * sizeof *x);
    struct rng r;
    rng_init(&r, seed, 0);
    for (size_t i = 0; i < n * dim; i++)
        x[i] = (float)rng_normal(&r);
    return x;
}

// Rows in clumps of a few near-duplicates, a zero row and a NaN row.
static inline float *clumps(uint32_t n, size_t dim, uint64_t seed, double spread)
{
    float *x = malloc(n * dim * sizeof *x + 1);
    struct rng r;
    rng_init(&r, seed, 7);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t from = i && rng_uniform(&r) < 0.6 ? (uint32_t)rng_below(&r, i) : i;
        for (size_t d = 0; d < dim; d++)
            x[i * dim + d] = from == i ? (float)rng_normal(&r)
                                       : x[from * dim + d] + (float)(spread * rng_normal(&r));
    }
    if (n > 10)
        memset(x + 4 * dim, 0, dim * sizeof *x), x[9 * dim] = NAN;
    return x;
}

#endif
