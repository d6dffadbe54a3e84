// SPDX-License-Identifier: Apache-2.0
// The nearest centroids of rows: those with the greatest inner product. The result is exact
// (dot_exact); ties go to the lowest number. Approximate products select the candidates.
#ifndef SEARCH_NEAREST_H
#define SEARCH_NEAREST_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "search/dot-block.h"

struct search_device;
struct nearest {
    const float *centroids; // the caller's, k x dim, finite, norms <= DOT_MAX_NORM
    size_t k, dim;
    struct dot_panel panel;       // packed when a row first needs it
    struct search_device *device; // the caller's, or NULL
    double most, worst;           // with a device: greatest norm and loss of the centroids
};

// Bytes of an index of k centroids (without the centroids themselves), and of one thread of
// nearest_rows; 0 when they do not fit in size_t.
size_t nearest_bytes(size_t k, size_t dim);
size_t nearest_thread_bytes(size_t dim, size_t top);

// The first rows choose the kernel. device: makes the products (search/search-device.h); until
// nearest_release nothing else may use it. NULL: this processor. The labels are the same.
int nearest_init_on(struct nearest *a, struct search_device *device, const float *centroids,
                    size_t k, size_t dim, int threads, struct err *e);
// The same with the kernel given.
int nearest_init_kernel(struct nearest *a, enum dot_kernel kernel, const float *centroids, size_t k,
                        size_t dim, int threads, struct err *e);
void nearest_release(struct nearest *a); // safe on a zeroed struct

// For each of n rows (n x dim, from unit_rows) the `top` nearest centroids, nearest first:
// labels n x top, -1 where there are fewer than top centroids and for failed rows (state, may be
// NULL). sims (n x top, or NULL): their inner products, 0 with label -1. 0 or -1.
int nearest_rows(struct nearest *a, int threads, const float *rows, size_t n, const uint8_t *state,
                 size_t top, int32_t *labels, double *sims, struct err *e);

#endif
