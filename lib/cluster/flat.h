// SPDX-License-Identifier: Apache-2.0
// One level of Lloyd's algorithm over ranks. The points are dealt to them in turns, a chunk each; a
// rank labels its own. Of the clusters each has a run, and adds up the rows of these, which the
// other ranks send it in each round of turns: so they come in the order of all points, and the sums
// are those of one rank to the bit, for any number of ranks and any chunk. Internal.
#ifndef CLUSTER_FLAT_H
#define CLUSTER_FLAT_H

#include "cluster/kmeans.h"
#include "comm/comm.h"

struct kmeans_flat {
    struct comm *comm;
    size_t k, dim, chunk;      // points of a rank in a round
    uint64_t n, rounds;        // points of all
    size_t *first;             // [size + 1]: rank r has clusters [first[r], first[r + 1])
    struct kmeans_points mine; // those of this rank; not in memory
    uint32_t *rows;            // of these
    // Of a round
    int32_t *labels;     // [size, chunk]: of the points of all ranks; -1: failed
    double *sims;        // [size, chunk]
    float *out, *in;     // [chunk, dim], [size * chunk, dim]: rows sent, rows of own clusters
    int32_t *own;        // [size * chunk]: the clusters of `in`, counted from this rank's first
    size_t n_in;         // rows of `in`
    size_t *give, *take; // [size]: bytes
};

// `p` must outlive it. All ranks call it, with the same points. 0 or -1.
int kmeans_flat_init(struct kmeans_flat *f, struct comm *c, const struct kmeans_points *p, size_t k,
                     struct err *e);
void kmeans_flat_release(struct kmeans_flat *f); // safe on a zeroed struct
// Points of a rank in a round; they are [round * chunk, ...) of its own.
size_t kmeans_flat_count(const struct kmeans_flat *f, uint64_t round, int rank);
// All ranks, with labels and sims of their own points in place and `rows` of these: gets those of
// all, and in and own. 0 or -1.
int kmeans_flat_share(struct kmeans_flat *f, uint64_t round, const float *rows, struct err *e);
// All of centroids [k, dim] from the ranks that have them. 0 or -1.
int kmeans_flat_gather(struct kmeans_flat *f, float *centroids, struct err *e);
// Bytes that it takes, the lists of points not counted.
double kmeans_flat_bytes(size_t dim, int ranks);

#endif
