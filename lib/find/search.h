// SPDX-License-Identifier: Apache-2.0
// Searches over a find_set. Every cosine is exact (dot_exact), read from the files a run at a time,
// so that a set of any size needs little memory; results depend on neither threads nor runs.
#ifndef FIND_SEARCH_H
#define FIND_SEARCH_H

#include "find/set.h"
#include "find/top.h"
#include "system/log.h"

struct find_search {
    const struct find_set *set;
    struct log *log; // progress
    bool kept;       // only rows that the balance keeps
};

// The rows nearest to q, a unit row. 0 or -1, as with the others.
int find_nearest(const struct find_search *s, const float *q, struct find_top *top, struct err *e);
// Of the rows whose cluster (WORK/labels) is among the `probe` centroids (WORK/centroids.npy) that
// are nearest to q. *looked: how many rows that were.
int find_probe(const struct find_search *s, const float *q, uint64_t probe, struct find_top *top,
               uint64_t *looked, struct err *e);
// Of the rows of one cluster, those nearest to its centroid.
int find_cluster(const struct find_search *s, uint64_t cluster, struct find_top *top,
                 uint64_t *looked, struct err *e);
// The rows of the group of near duplicates that `row` is in (WORK/groups), nearest to the one that
// is kept first.
int find_group(const struct find_search *s, uint64_t row, struct find_top *top, struct err *e);
// The rows whose picture and caption are least alike. `texts`: the same shards' texts.
int find_worst(const struct find_search *s, const struct find_set *texts, struct find_top *top,
               struct err *e);
// The rows that the balance dropped as near duplicates, least like the one that is kept for them
// first.
int find_dropped(const struct find_search *s, struct find_top *top, struct err *e);

#endif
