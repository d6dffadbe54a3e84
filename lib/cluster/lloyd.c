// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "search/nearest.h"
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
    double *sums;     // k x dim
    uint64_t *counts; // k
    struct kmeans_prefetch ahead;
    int32_t *labels; // of a chunk
    double *sims;
    uint32_t *order; // the chunk's rows by label
    uint32_t *start; // k + 1
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

// Sorts the chunk's rows by label, in order within each.
static void sort_chunk(struct lloyd *l, size_t n)
{
    memset(l->start, 0, (l->k + 1) * sizeof *l->start);
    for (size_t i = 0; i < n; i++)
        if (l->labels[i] >= 0)
            l->start[l->labels[i] + 1]++;
    for (size_t c = 0; c < l->k; c++) {
        l->counts[c] += l->start[c + 1];
        l->start[c + 1] += l->start[c];
    }
    for (size_t i = 0; i < n; i++)
        if (l->labels[i] >= 0)
            l->order[l->start[l->labels[i]]++] = (uint32_t)i;
    for (size_t c = l->k; c > 0; c--)
        l->start[c] = l->start[c - 1];
    l->start[0] = 0;
}

// Each cluster's rows are added in their order, by one thread: the sums depend on nothing else.
static void sum_task(void *ctx, size_t i)
{
    struct lloyd *l = ctx;
    size_t end = (i + 1) * SUM_CLUSTERS < l->k ? (i + 1) * SUM_CLUSTERS : l->k;
    for (size_t c = i * SUM_CLUSTERS; c < end; c++) {
        double *restrict sum = l->sums + c * l->dim;
        for (uint32_t at = l->start[c]; at < l->start[c + 1]; at++) {
            const float *restrict x = l->chunk + (size_t)l->order[at] * l->dim;
            for (size_t d = 0; d < l->dim; d++)
                sum[d] += x[d];
        }
    }
}

static uint64_t chunk_at(const struct lloyd *l, uint64_t first)
{
    uint64_t left = l->j->points->n - first;
    return left < KMEANS_CHUNK ? left : KMEANS_CHUNK;
}

static int take_chunk(struct lloyd *l, struct nearest *a, uint64_t first, struct err *e)
{
    const struct kmeans_job *j = l->j;
    const uint8_t *state;
    size_t n = chunk_at(l, first);
    if (kmeans_prefetch_read(&l->ahead, first, n, chunk_at(l, first + n), &l->chunk, &state, e) ||
        nearest_rows(a, j->threads, l->chunk, n, state, 1, l->labels, l->sims, e))
        return -1;
    for (size_t i = 0; i < n; i++) {
        l->total += l->sims[i];
        l->step.failed += l->labels[i] < 0;
        l->step.points += l->labels[i] >= 0;
    }
    sort_chunk(l, n);
    return threads_for_stop(j->threads, (l->k + SUM_CLUSTERS - 1) / SUM_CLUSTERS, sum_task, l, e);
}

static double imbalance(const uint64_t *counts, size_t k, uint64_t n)
{
    double sum = 0;
    for (size_t c = 0; c < k; c++)
        sum += (double)counts[c] * (double)counts[c];
    return n ? (double)k * sum / ((double)n * (double)n) : 1;
}

static int iterate(struct lloyd *l, int iteration, struct err *e)
{
    const struct kmeans_job *j = l->j;
    struct nearest a;
    double began = clock_seconds();
    size_t bytes = l->k * l->dim * sizeof(float);
    l->step =
        (struct kmeans_step){.level = j->level, .part = j->part, .iteration = iteration, .k = l->k};
    l->total = 0;
    memset(l->sums, 0, l->k * l->dim * sizeof *l->sums);
    memset(l->counts, 0, l->k * sizeof *l->counts);
    if (nearest_init_on(&a, j->device, j->centroids, l->k, l->dim, j->threads, e))
        return -1;
    int r = 0;
    for (uint64_t at = 0; at < j->points->n && !r; at += KMEANS_CHUNK)
        r = take_chunk(l, &a, at, e);
    nearest_release(&a);
    if (r)
        return -1;
    float *before = mem_alloc(bytes, 1, e);
    if (!before)
        return -1;
    memcpy(before, j->centroids, bytes);
    l->step.imbalance = imbalance(l->counts, l->k, l->step.points);
    l->step.split = kmeans_update(j->centroids, l->sums, l->counts, l->k, l->dim, j->seed,
                                  kmeans_stream(j, iteration));
    l->step.settled = !memcmp(before, j->centroids, bytes);
    free(before);
    l->step.objective = l->step.points ? l->total / (double)l->step.points : 0;
    l->step.seconds = clock_seconds() - began;
    return 0;
}

static int allocate(struct lloyd *l, struct err *e)
{
    size_t items, n = l->j->points->n < KMEANS_CHUNK ? l->j->points->n : KMEANS_CHUNK;
    if (!mem_mul(l->k, l->dim, &items))
        return err_set(e, "too many centroids: %zu x %zu", l->k, l->dim);
    l->sums = mem_alloc(items, sizeof *l->sums, e);
    l->counts = l->sums ? mem_alloc(l->k, sizeof *l->counts, e) : NULL;
    l->start = l->counts ? mem_alloc(l->k + 1, sizeof *l->start, e) : NULL;
    l->labels = l->start ? mem_alloc(n, sizeof *l->labels, e) : NULL;
    l->sims = l->labels ? mem_alloc(n, sizeof *l->sims, e) : NULL;
    l->order = l->sims ? mem_alloc(n, sizeof *l->order, e) : NULL;
    if (!l->order)
        return -1;
    return kmeans_prefetch_init(&l->ahead, l->j->points, n, l->j->threads, l->j->device, e);
}

int kmeans_lloyd(const struct kmeans_job *j, struct err *e)
{
    struct lloyd l = {.j = j, .k = j->k, .dim = j->points->source->dim};
    int r = allocate(&l, e);
    for (int i = j->first; i < j->iterations && !r; i++) {
        r = iterate(&l, i + 1, e);
        if (!r && j->step)
            r = j->step(j->ctx, &l.step, e);
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
