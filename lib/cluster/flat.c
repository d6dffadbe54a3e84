// SPDX-License-Identifier: Apache-2.0
#include "cluster/flat.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cluster/run.h"

enum { CHUNK_LEAST = 1024 };

// So that what a rank may be sent in a round is a chunk of one process, whose rows may all be of
// one cluster; with many ranks more, as small chunks are slow to label.
static size_t chunk_of(int ranks)
{
    size_t n = KMEANS_CHUNK / (size_t)ranks;
    return n < CHUNK_LEAST ? CHUNK_LEAST : n;
}

double kmeans_flat_bytes(size_t dim, int ranks)
{
    double mine = (double)chunk_of(ranks), all = mine * ranks;
    return (mine + all) * (double)dim * 4 + all * 16;
}

size_t kmeans_flat_count(const struct kmeans_flat *f, uint64_t round, int rank)
{
    uint64_t at = (round * (uint64_t)f->comm->size + (uint64_t)rank) * f->chunk;
    uint64_t left = at < f->n ? f->n - at : 0;
    return left < f->chunk ? left : f->chunk;
}

static int list_points(struct kmeans_flat *f, const struct kmeans_points *p, struct err *e)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < f->rounds; i++)
        n += kmeans_flat_count(f, i, f->comm->rank);
    if (!(f->rows = mem_alloc(n ? n : 1, sizeof *f->rows, e)))
        return -1;
    f->mine = *p;
    f->mine.rows = f->rows;
    f->mine.n = 0;
    for (uint64_t i = 0; i < f->rounds; i++) {
        uint64_t at = (i * (uint64_t)f->comm->size + (uint64_t)f->comm->rank) * f->chunk;
        for (size_t m = kmeans_flat_count(f, i, f->comm->rank), k = 0; k < m; k++, at++)
            f->rows[f->mine.n++] = p->rows ? p->rows[at] : (uint32_t)at;
    }
    return 0;
}

static int allocate(struct kmeans_flat *f, struct err *e)
{
    size_t size = (size_t)f->comm->size, all = size * f->chunk, rows;
    if (!mem_mul(all, f->dim, &rows))
        return err_set(e, "too many values of a row: %zu", f->dim);
    f->labels = mem_alloc(all, sizeof *f->labels, e);
    f->own = f->labels ? mem_alloc(all, sizeof *f->own, e) : NULL;
    f->sims = f->own ? mem_alloc(all, sizeof *f->sims, e) : NULL;
    f->out = f->sims ? mem_alloc(rows / size, sizeof *f->out, e) : NULL;
    f->in = f->out ? mem_alloc(rows, sizeof *f->in, e) : NULL;
    f->give = f->in ? mem_alloc(size, sizeof *f->give, e) : NULL;
    f->take = f->give ? mem_alloc(size, sizeof *f->take, e) : NULL;
    return f->take ? 0 : -1;
}

int kmeans_flat_init(struct kmeans_flat *f, struct comm *c, const struct kmeans_points *p, size_t k,
                     struct err *e)
{
    *f = (struct kmeans_flat){.comm = c, .k = k, .dim = p->source->dim, .n = p->n};
    f->chunk = chunk_of(c->size);
    uint64_t round = (uint64_t)f->chunk * (uint64_t)c->size;
    f->rounds = (p->n + round - 1) / round;
    if (!(f->first = mem_alloc((size_t)c->size + 1, sizeof *f->first, e)))
        return -1;
    for (int r = 0; r <= c->size; r++)
        f->first[r] = comm_share(c, k, r);
    return list_points(f, p, e) || allocate(f, e) ? -1 : 0;
}

void kmeans_flat_release(struct kmeans_flat *f)
{
    free(f->first);
    free(f->rows);
    free(f->labels);
    free(f->own);
    free(f->sims);
    free(f->out);
    free(f->in);
    free(f->give);
    free(f->take);
    memset(f, 0, sizeof *f);
}

static int owner(const struct kmeans_flat *f, int32_t label)
{
    size_t c = (size_t)label;
    int r = (int)(c * (size_t)f->comm->size / f->k);
    while (f->first[r] > c)
        r--;
    while (f->first[r + 1] <= c)
        r++;
    return r;
}

// This rank's rows in `out`: those of the first rank's clusters, then of the next one's, in order.
static void pack(struct kmeans_flat *f, size_t n, const float *rows, const int32_t *label)
{
    size_t size = (size_t)f->comm->size, bytes = f->dim * sizeof *rows;
    char *to = (char *)f->out;
    memset(f->give, 0, size * sizeof *f->give);
    for (size_t i = 0; i < n; i++)
        if (label[i] >= 0)
            f->give[owner(f, label[i])] += bytes;
    for (size_t r = 0, at = 0, count; r < size; r++, at += count) { // where each begins
        count = f->give[r];
        f->take[r] = at;
    }
    for (size_t i = 0; i < n; i++) {
        if (label[i] < 0)
            continue;
        size_t *at = &f->take[owner(f, label[i])];
        memcpy(to + *at, rows + i * f->dim, bytes);
        *at += bytes;
    }
}

// What this rank will be sent, and the clusters of those rows.
static void expect(struct kmeans_flat *f, uint64_t round)
{
    size_t first = f->first[f->comm->rank], end = f->first[f->comm->rank + 1];
    f->n_in = 0;
    for (int r = 0; r < f->comm->size; r++) {
        const int32_t *label = f->labels + (size_t)r * f->chunk;
        size_t before = f->n_in;
        for (size_t i = 0, n = kmeans_flat_count(f, round, r); i < n; i++)
            if (label[i] >= 0 && (size_t)label[i] >= first && (size_t)label[i] < end)
                f->own[f->n_in++] = label[i] - (int32_t)first;
        f->take[r] = (f->n_in - before) * f->dim * sizeof *f->in;
    }
}

int kmeans_flat_share(struct kmeans_flat *f, uint64_t round, const float *rows, struct err *e)
{
    size_t at = (size_t)f->comm->rank * f->chunk;
    int32_t *label = f->labels + at;
    pack(f, kmeans_flat_count(f, round, f->comm->rank), rows, label);
    if (comm_gather(f->comm, "labels", label, f->chunk * sizeof *label, f->labels, e) ||
        comm_gather(f->comm, "similarities", f->sims + at, f->chunk * sizeof *f->sims, f->sims, e))
        return -1;
    expect(f, round);
    return comm_spread(f->comm, "rows", f->out, f->give, f->in, f->take, e);
}

int kmeans_flat_gather(struct kmeans_flat *f, float *centroids, struct err *e)
{
    size_t row = f->dim * sizeof *centroids;
    for (int r = 0; r < f->comm->size; r++)
        f->give[r] = (f->first[r + 1] - f->first[r]) * row;
    return comm_gather_each(f->comm, "centroids", centroids + f->first[f->comm->rank] * f->dim,
                            f->give, centroids, e);
}
