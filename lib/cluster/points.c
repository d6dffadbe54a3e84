// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "cluster/kmeans.h"
#include "base/mem.h"
#include "system/threads.h"
#include "base/rng.h"
#include "search/dot-block.h"

enum { PART = 512 }; // points read by one task

// The points `first` and on, or, with `at`, those that it lists.
struct points_reading {
    const struct kmeans_points *p;
    const uint64_t *at;
    uint64_t first, n;
    float *out;
    uint8_t *state;
    struct loop_error fail;
};

static int read_part(const struct points_reading *r, uint64_t from, uint64_t n, float *out,
                     struct err *e)
{
    const struct kmeans_points *p = r->p;
    const struct row_source *s = p->source;
    uint64_t rows[PART];
    if (!r->at && !p->rows)
        return s->read(s->ctx, r->first + from, n, out, e);
    for (uint64_t k = 0; k < n; k++) {
        uint64_t at = r->at ? r->at[from + k] : r->first + from + k;
        rows[k] = p->rows ? p->rows[at] : at;
    }
    return s->gather(s->ctx, rows, n, out, e);
}

static void copy_part(const struct points_reading *r, uint64_t from, uint64_t n, float *out)
{
    size_t dim = r->p->source->dim;
    for (uint64_t k = from; k < from + n; k++, out += dim) {
        memcpy(out, r->p->cache + r->at[k] * dim, dim * sizeof *out);
        r->state[k] = r->p->state[r->at[k]];
    }
}

static void read_task(void *ctx, size_t i)
{
    struct points_reading *r = ctx;
    const struct kmeans_points *p = r->p;
    size_t dim = p->source->dim;
    uint64_t from = i * PART, n = r->n - from < PART ? r->n - from : PART;
    float *out = r->out + from * dim;
    struct err e;
    if (r->at && p->cache)
        copy_part(r, from, n, out);
    else if (read_part(r, from, n, out, &e))
        loop_error_set(&r->fail, &e);
    else
        unit_rows(out, n, dim, p->normalize, r->state + from);
}

static int read_all(struct points_reading *r, int threads, struct err *e)
{
    return threads_for_stop(threads, (r->n + PART - 1) / PART, read_task, r, e) ||
                   loop_error_check(&r->fail, e)
               ? -1
               : 0;
}

int kmeans_points_load(struct kmeans_points *p, int threads, struct err *e)
{
    size_t items;
    if (!mem_mul(p->n, p->source->dim, &items))
        return err_set(e, "too many points for memory: %llu", (unsigned long long)p->n);
    p->cache = mem_alloc(items, sizeof *p->cache, e);
    p->state = p->cache ? mem_alloc(p->n, 1, e) : NULL;
    struct points_reading r = {.p = p, .n = p->n, .out = p->cache, .state = p->state};
    if (p->state && read_all(&r, threads, e) == 0)
        return 0;
    kmeans_points_release(p);
    return -1;
}

void kmeans_points_release(struct kmeans_points *p)
{
    if (!p->borrowed) {
        free(p->cache);
        free(p->state);
    }
    p->cache = NULL;
    p->state = NULL;
}

int kmeans_points_read(const struct kmeans_points *p, int threads, uint64_t first, uint64_t count,
                       float *out, uint8_t *out_state, const float **rows, const uint8_t **state,
                       struct err *e)
{
    if (p->cache) {
        *rows = p->cache + first * p->source->dim;
        *state = p->state + first;
        return 0;
    }
    *rows = out;
    *state = out_state;
    struct points_reading r = {.p = p, .first = first, .n = count, .out = out, .state = out_state};
    return read_all(&r, threads, e);
}

int kmeans_points_gather(const struct kmeans_points *p, int threads, const uint64_t *at, uint64_t n,
                         float *out, uint8_t *state, struct err *e)
{
    struct points_reading r = {.p = p, .at = at, .n = n, .out = out, .state = state};
    return read_all(&r, threads, e);
}

static int by_u32(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    return a < b ? -1 : a > b;
}

uint32_t *kmeans_sample(uint64_t n, uint64_t of, uint64_t seed, uint64_t stream, struct err *e)
{
    if (of > UINT32_MAX || n > of) {
        err_set(e, "cannot draw %llu of %llu rows", (unsigned long long)n, (unsigned long long)of);
        return NULL;
    }
    uint32_t *rows = mem_alloc(n, sizeof *rows, e);
    if (!rows)
        return NULL;
    for (uint64_t i = 0; i < n; i++)
        rows[i] = (uint32_t)(n == of ? i : rng_permute(seed, stream, of, i));
    if (n && n < of)
        qsort(rows, n, sizeof *rows, by_u32);
    return rows;
}

struct keyed {
    uint64_t hash;
    uint32_t at;
};

static int by_hash(const void *x, const void *y)
{
    const struct keyed *a = x, *b = y;
    if (a->hash != b->hash)
        return a->hash < b->hash ? -1 : 1;
    return a->at < b->at ? -1 : a->at > b->at;
}

// FNV-1a over the words: only a first sieve.
static uint64_t hash_row(const float *x, size_t dim)
{
    uint64_t h = 14695981039346656037u;
    for (size_t d = 0; d < dim; d++) {
        uint32_t word;
        memcpy(&word, x + d, sizeof word);
        h = (h ^ word) * 1099511628211u;
    }
    return h;
}

int64_t kmeans_duplicates(const float *centroids, size_t k, size_t dim)
{
    struct err e;
    struct keyed *s = mem_alloc(k, sizeof *s, &e);
    int64_t same = 0;
    if (!s)
        return -1;
    for (size_t i = 0; i < k; i++)
        s[i] = (struct keyed){hash_row(centroids + i * dim, dim), (uint32_t)i};
    qsort(s, k, sizeof *s, by_hash);
    for (size_t i = 1; i < k; i++)
        same += s[i].hash == s[i - 1].hash &&
                !memcmp(centroids + s[i].at * dim, centroids + s[i - 1].at * dim,
                        dim * sizeof *centroids);
    free(s);
    return same;
}
