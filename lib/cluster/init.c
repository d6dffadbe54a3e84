// SPDX-License-Identifier: Apache-2.0
// The first centroids: the first k usable points of a permutation. They are read in the order of
// the rows, so that each file is opened about once and not once for each of its rows.
#include <stdlib.h>
#include <string.h>

#include "cluster/run.h"
#include "base/mem.h"
#include "base/rng.h"
#include "search/dot-block.h"

enum { AT_ONCE = 8192 }; // points read at once

struct drawn {
    uint64_t at;   // the point
    uint64_t slot; // its place among those drawn
};

static int by_point(const void *x, const void *y)
{
    const struct drawn *a = x, *b = y;
    return a->at < b->at ? -1 : a->at > b->at;
}

struct init_reading {
    const struct kmeans_job *j;
    struct drawn *drawn; // m
    uint64_t at[AT_ONCE];
    float *rows; // AT_ONCE x dim
    uint8_t state[AT_ONCE];
    uint8_t *failed; // per slot
};

// Reads the m points drawn, each to its slot behind `to`.
static int read_drawn(struct init_reading *r, uint64_t m, float *to, struct err *e)
{
    size_t dim = r->j->points->source->dim;
    qsort(r->drawn, m, sizeof *r->drawn, by_point);
    for (uint64_t first = 0; first < m; first += AT_ONCE) {
        uint64_t n = m - first < AT_ONCE ? m - first : AT_ONCE;
        for (uint64_t i = 0; i < n; i++)
            r->at[i] = r->drawn[first + i].at;
        if (kmeans_points_gather(r->j->points, r->j->threads, r->at, n, r->rows, r->state, e))
            return -1;
        for (uint64_t i = 0; i < n; i++) {
            uint64_t slot = r->drawn[first + i].slot;
            memcpy(to + slot * dim, r->rows + i * dim, dim * sizeof *to);
            r->failed[slot] = row_failed(r->state[i]);
        }
    }
    return 0;
}

// Fills the centroids; *found: how many usable points there were.
static int draw(struct init_reading *r, size_t *found, struct err *e)
{
    const struct kmeans_job *j = r->j;
    size_t dim = j->points->source->dim;
    *found = 0;
    for (uint64_t seen = 0, m; seen < j->points->n && *found < j->k; seen += m) {
        m = j->k - *found < j->points->n - seen ? j->k - *found : j->points->n - seen;
        for (uint64_t i = 0; i < m; i++)
            r->drawn[i] = (struct drawn){
                rng_permute(j->seed, kmeans_stream(j, 0), j->points->n, seen + i), i};
        float *to = j->centroids + *found * dim;
        if (read_drawn(r, m, to, e))
            return -1;
        for (uint64_t i = 0; i < m; i++)
            if (!r->failed[i])
                memmove(j->centroids + (*found)++ * dim, to + i * dim, dim * sizeof *to);
    }
    return 0;
}

int kmeans_init(const struct kmeans_job *j, struct err *e)
{
    size_t dim = j->points->source->dim, found = 0;
    struct init_reading *r = mem_alloc(1, sizeof *r, e);
    if (!r)
        return -1;
    r->j = j;
    r->drawn = mem_alloc(j->k, sizeof *r->drawn, e);
    r->failed = r->drawn ? mem_alloc(j->k, 1, e) : NULL;
    r->rows =
        r->failed ? mem_alloc((j->k < AT_ONCE ? j->k : AT_ONCE) * dim, sizeof *r->rows, e) : NULL;
    int rc = r->rows ? draw(r, &found, e) : -1;
    free(r->drawn);
    free(r->failed);
    free(r->rows);
    free(r);
    if (rc)
        return -1;
    if (found < j->k)
        return err_set(e, "%zu clusters need as many usable rows: there are %zu", j->k, found);
    for (size_t c = 0; !j->points->normalize && c < j->k; c++)
        unit_rows(j->centroids + c * dim, 1, dim, true, NULL);
    return 0;
}
