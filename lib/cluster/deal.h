// SPDX-License-Identifier: Apache-2.0
// Level 2 over ranks: each coarse cluster is one rank's alone, so what comes of it does not depend
// on the number of ranks. Internal.
#ifndef CLUSTER_DEAL_H
#define CLUSTER_DEAL_H

#include "cluster/kmeans.h"
#include "comm/comm.h"
#include "search/row-store.h"

// The points of this rank's coarse clusters, from all ranks, in the order of the source.
struct kmeans_dealt {
    size_t *first; // size + 1: rank r has coarse clusters [first[r], first[r + 1])
    size_t ranks;
    struct row_store rows;
    int32_t *label; // per point: its coarse cluster, of all
    struct row_source source;
    struct kmeans_points points; // without failed ones
};

// Deals the points out: `label` has the coarse clusters (-1: failed) of points [from, from + n) of
// p, this rank's share of all; own: how many of these are in each of the k1 coarse clusters; all:
// how many of all ranks' are. Rows travel as they are stored, float16 or float32, in rounds, so
// that a rank holds its own and little more: kmeans_deal_bytes, which `mem` must allow. 0 or -1.
int kmeans_deal(struct kmeans_dealt *d, struct comm *c, const struct kmeans_points *p,
                uint64_t from, uint64_t n, const int32_t *label, const uint64_t *own,
                const uint64_t *all, size_t k1, double mem, struct err *e);
double kmeans_deal_bytes(const struct kmeans_dealt *d);
void kmeans_dealt_release(struct kmeans_dealt *d); // safe on a zeroed struct
#endif
