// SPDX-License-Identifier: Apache-2.0
// One iteration of FAISS's k-means, through its C++ library. Internal; only a program built with
// FAISS has it.
#ifndef CLUSTER_FAISS_H
#define CLUSTER_FAISS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct faiss_iteration {
    size_t dim, k;
    uint64_t n;
    const float *points; // [n, dim], unit rows
    float *centroids;    // [k, dim], in and out; the caller's
    int seed;            // of the splits of empty clusters
    // What FAISS says of the iteration, of the centroids it began with:
    double objective; // sum of the inner products
    double imbalance; // k * sum of (share of a cluster)^2
    size_t split;     // empty clusters
    bool settled;     // the centroids did not change
};

// 0 or -1, the centroids then unchanged.
int faiss_iterate(struct faiss_iteration *it, struct err *e);

#endif
