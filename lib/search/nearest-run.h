// SPDX-License-Identifier: Apache-2.0
// What the nearest*.c files share. Internal.
#ifndef SEARCH_NEAREST_RUN_H
#define SEARCH_NEAREST_RUN_H

#include "search/nearest.h"

struct assign_pick {
    double sim;
    uint32_t at;
};
// Puts a centroid among the best, by sim descending, then number; *n of at most top.
void assign_keep(struct assign_pick *best, size_t *n, size_t top, double sim, uint32_t at);
// The labels of a row from its best.
void assign_write(const struct assign_pick *best, size_t n, size_t top, int32_t *labels,
                  double *sims);
// The float below v.
float assign_below(double v);
// assign_rows here, by the panel, which is packed where it is not there yet.
int assign_rows_here(struct assign *a, int threads, const float *rows, size_t n,
                     const uint8_t *state, size_t top, int32_t *labels, double *sims,
                     struct err *e);

int assign_pack(struct assign *a, enum sim_kernel kernel, int threads, struct err *e);
// search/nearest-kernel.c: packs the panel for the kernel that is fastest for such rows.
int assign_choose(struct assign *a, int threads, const float *rows, size_t n, const uint8_t *state,
                  size_t top, struct err *e);

// search/nearest-device.c: the centroids to a->device, and assign_rows with it.
int assign_device_init(struct assign *a, int threads, struct err *e);
int assign_rows_device(struct assign *a, int threads, const float *rows, size_t n,
                       const uint8_t *state, size_t top, int32_t *labels, double *sims,
                       struct err *e);

#endif
