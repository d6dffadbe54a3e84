// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "search/nearest.h"
#include "cluster/flat.h"
#include "cluster/run.h"
#include "base/clock.h"
#include "base/mem.h"
#include "system/threads.h"
#include "search/dot-block.h"

enum { SUM_CLUSTERS = 32 }; // clusters whose sums one task keeps

// One iteration.
struct lloyd {
    const struct kmeans_job *j;
    size_t k, dim;
    size_t first, own; // clusters that are summed here, [first, first + own)
    double *sums;      // own x dim
    uint64_t *counts;  // k
    struct kmeans_prefetch ahead;
    int32_t *labels; // of a chunk
    double *sims;
    uint32_t *order; // the rows to be summed by cluster
    uint32_t *start; // own + 1
    const float *chunk;
    struct kmeans_step step;
    double total;
};

double kmeans_lloyd_bytes(double k, size_t dim, int threads)
{
    double centroids = k * (8 * (double)dim + 12) + (double)nearest_bytes((size_t)k, dim) +
                       4 * k * (double)dim; // the last: the centroids before the iteration
    double chunk = KMEANS_CHUNK * (4.0 * (double)dim + 24);
    return centroids + chunk + threads * (double)nearest_thread_bytes(dim, 1) + 1e6;
}

// Sorts n rows by their labels, counted from `first`, in order within each.
static void sort_rows(struct lloyd *l, const int32_t *labels, size_t n)
{
    memset(l->start, 0, (l->own + 1) * sizeof *l->start);
    for (size_t i = 0; i < n; i++)
        if (labels[i] >= 0)
            l->start[labels[i] + 1]++;
    for (size_t c = 0; c < l->own; c++)
        l->start[c + 1] += l->start[c];
    for (size_t i = 0; i < n; i++)
        if (labels[i] >= 0)
            l->order[l->start[labels[i]]++] = (uint32_t)i;
    for (size_t c = l->own; c > 0; c--)
        l->start[c] = l->start[c - 1];
    l->start[0] = 0;
}

// Each cluster's rows are added in their order, by one thread: the sums depend on nothing else.
static void sum_task(void *ctx, size_t i)
{
    struct lloyd *l = ctx;
    size_t end = (i + 1) * SUM_CLUSTERS < l->own ? (i + 1) * SUM_CLUSTERS : l->own;
    for (size_t c = i * SUM_CLUSTERS; c < end; c++) {
        double *restrict sum = l->sums + c * l->dim;
        for (uint32_t at = l->start[c]; at < l->start[c + 1]; at++) {
            const float *restrict x = l->chunk + (size_t)l->order[at] * l->dim;
            for (size_t d = 0; d < l->dim; d++)
                sum[d] += x[d];
        }
    }
}

static int sum_rows(struct lloyd *l, const int32_t *labels, size_t n, struct err *e)
{
    sort_rows(l, labels, n);
    return threads_for_stop(l->j->threads, (l->own + SUM_CLUSTERS - 1) / SUM_CLUSTERS, sum_task, l,
                            e);
}

static void note(struct lloyd *l, const int32_t *labels, const double *sims, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        l->total += sims[i];
        l->step.failed += labels[i] < 0;
        l->step.points += labels[i] >= 0;
        if (labels[i] >= 0)
            l->counts[labels[i]]++;
    }
}

// Labels points [first, first + n); `next`: how many the next call will.
static int label_rows(struct lloyd *l, struct nearest *a, uint64_t first, size_t n, size_t next,
                      int32_t *labels, double *sims, struct err *e)
{
    const uint8_t *state;
    if (kmeans_prefetch_read(&l->ahead, first, n, next, &l->chunk, &state, e))
        return -1;
    return nearest_rows(a, l->j->threads, l->chunk, n, state, 1, labels, sims, e);
}

static uint64_t chunk_at(const struct lloyd *l, uint64_t first)
{
    uint64_t left = l->j->points->n - first;
    return left < KMEANS_CHUNK ? left : KMEANS_CHUNK;
}

static int take_points(struct lloyd *l, struct nearest *a, struct err *e)
{
    int r = 0;
    for (uint64_t at = 0, n; at < l->j->points->n && !r; at += n) {
        n = chunk_at(l, at);
        r = label_rows(l, a, at, n, chunk_at(l, at + n), l->labels, l->sims, e);
        if (!r)
            note(l, l->labels, l->sims, n);
        r = r || sum_rows(l, l->labels, n, e) ? -1 : 0;
    }
    return r;
}

// The same over ranks; r: what happened before on this one. The ranks agree once a round.
static int take_rounds(struct lloyd *l, struct nearest *a, int r, struct err *e)
{
    struct kmeans_flat *f = l->j->flat;
    int me = f->comm->rank;
    for (uint64_t i = 0; i < f->rounds; i++) {
        size_t n = kmeans_flat_count(f, i, me), at = (size_t)me * f->chunk;
        if (!r && n)
            r = label_rows(l, a, i * f->chunk, n, kmeans_flat_count(f, i + 1, me), f->labels + at,
                           f->sims + at, e);
        if (comm_agree(f->comm, r, e) || kmeans_flat_share(f, i, l->chunk, e))
            return -1;
        for (int k = 0; k < f->comm->size; k++)
            note(l, f->labels + (size_t)k * f->chunk, f->sims + (size_t)k * f->chunk,
                 kmeans_flat_count(f, i, k));
        l->chunk = f->in;
        r = sum_rows(l, f->own, f->n_in, e);
    }
    return comm_agree(f->comm, r, e);
}

static double imbalance(const uint64_t *counts, size_t k, uint64_t n)
{
    double sum = 0;
    for (size_t c = 0; c < k; c++)
        sum += (double)counts[c] * (double)counts[c];
    return n ? (double)k * sum / ((double)n * (double)n) : 1;
}

// New centroids from the sums; all are as before where it fails.
static int update(struct lloyd *l, int iteration, const float *before, struct err *e)
{
    const struct kmeans_job *j = l->j;
    size_t bytes = l->k * l->dim * sizeof *before;
    kmeans_means(j->centroids + l->first * l->dim, l->sums, l->counts + l->first, l->own, l->dim);
    if (j->flat && kmeans_flat_gather(j->flat, j->centroids, e)) {
        memcpy(j->centroids, before, bytes);
        return -1;
    }
    l->step.split =
        kmeans_split(j->centroids, l->counts, l->k, l->dim, j->seed, kmeans_stream(j, iteration));
    l->step.settled = !memcmp(before, j->centroids, bytes);
    return 0;
}

static int iterate(struct lloyd *l, int iteration, struct err *e)
{
    const struct kmeans_job *j = l->j;
    struct nearest a = {0};
    double began = clock_seconds();
    size_t bytes = l->k * l->dim * sizeof(float);
    l->step =
        (struct kmeans_step){.level = j->level, .part = j->part, .iteration = iteration, .k = l->k};
    l->total = 0;
    memset(l->sums, 0, l->own * l->dim * sizeof *l->sums);
    memset(l->counts, 0, l->k * sizeof *l->counts);
    int r = nearest_init_on(&a, j->device, j->centroids, l->k, l->dim, j->threads, e);
    if (j->flat)
        r = take_rounds(l, &a, r, e);
    else if (!r)
        r = take_points(l, &a, e);
    nearest_release(&a);
    float *before = r ? NULL : mem_alloc(bytes, 1, e);
    if (j->flat && !r)
        r = comm_agree(j->flat->comm, before ? 0 : -1, e);
    if (!before || r) {
        free(before);
        return -1;
    }
    memcpy(before, j->centroids, bytes);
    l->step.imbalance = imbalance(l->counts, l->k, l->step.points);
    r = update(l, iteration, before, e);
    free(before);
    l->step.objective = l->step.points ? l->total / (double)l->step.points : 0;
    l->step.seconds = clock_seconds() - began;
    return r;
}

static int allocate(struct lloyd *l, struct err *e)
{
    const struct kmeans_flat *f = l->j->flat;
    size_t items, n = f                                ? f->chunk
                      : l->j->points->n < KMEANS_CHUNK ? l->j->points->n
                                                       : KMEANS_CHUNK;
    size_t rows = f ? n * (size_t)f->comm->size : n;
    if (!mem_mul(l->own, l->dim, &items))
        return err_set(e, "too many centroids: %zu x %zu", l->k, l->dim);
    l->sums = mem_alloc(items ? items : 1, sizeof *l->sums, e);
    l->counts = l->sums ? mem_alloc(l->k, sizeof *l->counts, e) : NULL;
    l->start = l->counts ? mem_alloc(l->own + 1, sizeof *l->start, e) : NULL;
    l->labels = l->start ? mem_alloc(n, sizeof *l->labels, e) : NULL;
    l->sims = l->labels ? mem_alloc(n, sizeof *l->sims, e) : NULL;
    l->order = l->sims ? mem_alloc(rows, sizeof *l->order, e) : NULL;
    if (!l->order)
        return -1;
    return kmeans_prefetch_init(&l->ahead, l->j->points, n, l->j->threads, l->j->device, e);
}

int kmeans_lloyd(const struct kmeans_job *j, struct err *e)
{
    struct lloyd l = {.j = j, .k = j->k, .own = j->k, .dim = j->points->source->dim};
    if (j->flat) {
        l.first = j->flat->first[j->flat->comm->rank];
        l.own = j->flat->first[j->flat->comm->rank + 1] - l.first;
    }
    int r = allocate(&l, e);
    if (j->flat)
        r = comm_agree(j->flat->comm, r, e);
    for (int i = j->first; i < j->iterations && !r; i++) {
        if ((r = iterate(&l, i + 1, e)))
            break;
        r = j->step ? j->step(j->ctx, &l.step, e) : 0;
        if (j->flat)
            r = comm_agree(j->flat->comm, r, e);
        if (l.step.settled)
            break;
    }
    free(l.sums);
    free(l.counts);
    free(l.start);
    free(l.labels);
    free(l.sims);
    free(l.order);
    kmeans_prefetch_release(&l.ahead);
    return r;
}
