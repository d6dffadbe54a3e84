// SPDX-License-Identifier: Apache-2.0
// What the files of lib/cluster share. Internal.
#ifndef CLUSTER_RUN_H
#define CLUSTER_RUN_H

#include "cluster/kmeans.h"

struct kmeans_flat;

enum { KMEANS_CHUNK = 16384 }; // points looked at at once

// One run of Lloyd's algorithm.
struct kmeans_job {
    const struct kmeans_points *points;
    size_t k;
    float *centroids; // k x dim, in and out
    int level;
    uint32_t part;
    int first, iterations; // iterations done already; in all
    uint64_t seed;
    int threads;
    struct search_device *device; // or NULL
    struct kmeans_flat *flat;     // ranks, whose own points these are; NULL: one
    // After each iteration: 0 or -1.
    int (*step)(void *ctx, const struct kmeans_step *s, struct err *e);
    void *ctx;
};

// The random stream of iteration `what` (0: of the first centroids).
static inline uint64_t kmeans_stream(const struct kmeans_job *j, int what)
{
    return (uint64_t)j->level << 56 | (uint64_t)j->part << 16 | (uint64_t)(what & 0xffff);
}

// k usable points drawn at random as the first centroids. Fewer usable points than k is an error.
int kmeans_init(const struct kmeans_job *j, struct err *e);
int kmeans_lloyd(const struct kmeans_job *j, struct err *e);
// The same with FAISS; points must be loaded. cluster/faiss.c.
int kmeans_faiss(const struct kmeans_job *j, struct err *e);
// Bytes that kmeans_lloyd takes, the centroids and points not counted.
double kmeans_lloyd_bytes(double k, size_t dim, int threads);
// cluster/update.c: sums of n clusters to unit centroids; then the empty ones of all k split, the
// number of these.
void kmeans_means(float *centroids, const double *sums, const uint64_t *counts, size_t n,
                  size_t dim);
size_t kmeans_split(float *centroids, uint64_t *counts, size_t k, size_t dim, uint64_t seed,
                    uint64_t stream);
// Level 2. cluster/two-level.c.
int kmeans_two(const struct kmeans_points *p, const struct kmeans_options *o,
               struct kmeans_state *s, struct comm *c, struct err *e);
size_t kmeans_coarse_count(const struct kmeans_options *o);
uint64_t kmeans_coarse_points(const struct kmeans_options *o, uint64_t n);

#endif
