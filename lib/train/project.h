// SPDX-License-Identifier: Apache-2.0
// --project: a linear map from the student's width to the teacher's on each tower, for the terms
// that set the student against the teacher: p = unit(x P^T), x the student's unit rows, P [dim_t,
// dim]. Trained with the rest, kept beside the checkpoint, not exported.
#ifndef TRAIN_PROJECT_H
#define TRAIN_PROJECT_H

#include <stddef.h>
#include <stdint.h>

#include "device/dev.h"
#include "base/err.h"

struct train_project {
    struct dev *d;
    size_t dim, dim_t, n_max;
    float *map[2], *grad[2];        // device [dim_t, dim]: vision, text
    float *raw, *unit[2], *norm[2]; // device [n_max, dim_t], [n_max]
    float *dunit[2];                // device [n_max, dim_t]
};

// Allocates for batches of n_max rows; the maps get normal values of standard deviation dim^-1/2.
// 0 or -1.
int train_project_open(struct train_project *p, struct dev *d, size_t dim, size_t dim_t,
                       size_t n_max, uint64_t seed, struct err *e);
void train_project_close(struct train_project *p);
size_t train_project_bytes(size_t dim, size_t dim_t, size_t n_max);
// Computes p->unit[tower] from x, device [n_max, dim], for rows [at, at + n); zeroes dunit there.
void train_project_forward(struct train_project *p, int tower, size_t at, size_t n, const float *x);
// Adds the gradient of these rows that follows from dunit to dx, device [n_max, dim], and to grad;
// with `begins` grad is overwritten.
void train_project_back(struct train_project *p, int tower, bool begins, size_t at, size_t n,
                        const float *x, float *dx);

#endif
