// SPDX-License-Identifier: Apache-2.0
// What the nearest*.c files share. Internal.
#ifndef SEARCH_NEAREST_RUN_H
#define SEARCH_NEAREST_RUN_H

#include "search/nearest.h"

struct nearest_pick {
    double sim;
    uint32_t at;
};
// Puts a centroid among the best, by sim descending, then number; *n of at most top.
void nearest_keep(struct nearest_pick *best, size_t *n, size_t top, double sim, uint32_t at);
// The labels of a row from its best.
void nearest_write(const struct nearest_pick *best, size_t n, size_t top, int32_t *labels,
                   double *sims);
// The float below v.
float nearest_below(double v);
// nearest_rows on this processor. Packs the panel if that has not been done.
int nearest_rows_here(struct nearest *a, int threads, const float *rows, size_t n,
                      const uint8_t *state, size_t top, int32_t *labels, double *sims,
                      struct err *e);

int nearest_pack(struct nearest *a, enum dot_kernel kernel, int threads, struct err *e);
// search/nearest-kernel.c: packs the panel for the kernel that is fastest for such rows.
int nearest_choose(struct nearest *a, int threads, const float *rows, size_t n,
                   const uint8_t *state, size_t top, struct err *e);

// search/nearest-device.c: the centroids to a->device, and nearest_rows with it.
int nearest_device_init(struct nearest *a, int threads, struct err *e);
int nearest_rows_device(struct nearest *a, int threads, const float *rows, size_t n,
                        const uint8_t *state, size_t top, int32_t *labels, double *sims,
                        struct err *e);

#endif
