// SPDX-License-Identifier: Apache-2.0
#include "cluster/kmeans.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "comm/comm.h"
#include "cluster/flat.h"
#include "cluster/run.h"
#include "base/mem.h"
#include "system/signals.h"
#include "search/dot-block.h"

#define SAMPLE_STREAM ((uint64_t)1 << 63)

size_t kmeans_coarse_count(const struct kmeans_options *o)
{
    size_t k1 = o->coarse ? o->coarse : (size_t)llround(sqrt((double)o->k));
    return k1 < 1 ? 1 : k1 > o->k ? o->k : k1;
}

uint64_t kmeans_coarse_points(const struct kmeans_options *o, uint64_t n)
{
    uint64_t want = o->coarse_points ? o->coarse_points : 2048 * kmeans_coarse_count(o);
    return want < n ? want : n;
}

// One level over ranks.
static bool is_flat(const struct kmeans_options *o)
{
    return o->comm && o->comm->size > 1 && o->levels == 1;
}

// Points that a rank labels.
static double own_points(uint64_t n, const struct kmeans_options *o)
{
    return ceil((double)n / (o->comm ? o->comm->size : 1));
}

// Everything but the points held in memory.
static double fixed_bytes(uint64_t n, size_t dim, const struct kmeans_options *o)
{
    double all = (double)o->k * (double)dim * 4 + 40e6;
    if (is_flat(o)) { // sums of its own clusters, the list of its points
        double ranks = o->comm->size, sums = 8 * (double)o->k * (double)dim * (1 - 1 / ranks);
        all += kmeans_flat_bytes(dim, o->comm->size) + 4 * own_points(n, o) - sums;
    }
    if (o->levels == 1)
        return all + kmeans_lloyd_bytes((double)o->k, dim, o->threads);
    double k1 = (double)kmeans_coarse_count(o), coarse = kmeans_lloyd_bytes(k1, dim, o->threads);
    double fine = o->threads * kmeans_lloyd_bytes(4 * ceil((double)o->k / k1), dim, 1);
    double sample = 4 * (double)kmeans_coarse_points(o, n);
    return all + 4 * own_points(n, o) + sample + k1 * (double)dim * 4 + fmax(coarse, fine);
}

uint64_t kmeans_min_mem(uint64_t n, size_t dim, const struct kmeans_options *o)
{
    double points = o->engine == KMEANS_FAISS ? (double)n * (4.0 * (double)dim + 1) * 1.1 : 0;
    double bytes = fixed_bytes(n, dim, o) + points;
    return bytes < 1e18 ? (uint64_t)bytes : 0;
}

static int check(const struct kmeans_points *p, const struct kmeans_options *o, struct err *e)
{
    uint64_t least = kmeans_min_mem(p->n, p->source->dim, o);
    if (o->k < 1 || o->k > INT32_MAX || o->threads < 1 || p->n > UINT32_MAX)
        return err_set(e, "cannot find %zu clusters in %llu rows", o->k, (unsigned long long)p->n);
    if (p->n < o->k)
        return err_set(e, "%zu clusters need as many usable rows: there are %llu", o->k,
                       (unsigned long long)p->n);
    if (o->levels == 2 && (o->engine == KMEANS_FAISS || o->init))
        return err_set(e, "two levels have neither given centroids nor another engine");
    if (is_flat(o) && o->engine == KMEANS_FAISS)
        return err_set(e, "several ranks have no other engine");
    if (!least || o->mem < least)
        return err_set(e, "%zu clusters of %llu rows of %zu values need at least %.0f MiB", o->k,
                       (unsigned long long)p->n, p->source->dim, ceil((double)least / 1048576));
    return 0;
}

struct saving {
    const struct kmeans_options *o;
    struct kmeans_state *s;
};

static int one_step(void *ctx, const struct kmeans_step *step, struct err *e)
{
    struct saving *v = ctx;
    v->s->iteration = step->iteration;
    if (step->settled)
        v->s->iteration = v->o->iterations;
    if (v->o->step && v->o->step(v->o->ctx, step, e))
        return -1;
    return v->o->save && !signals_stop_wanted() ? v->o->save(v->o->ctx, v->s, e) : 0;
}

// Its points in memory where there is room for them.
static int hold_points(struct kmeans_points *held, const struct kmeans_points *p,
                       const struct kmeans_options *o, uint64_t all, struct err *e)
{
    double bytes = (double)p->n * (4.0 * (double)p->source->dim + 1);
    *held = *p;
    held->borrowed = true; // nothing to give back yet
    if (p->cache ||
        (o->engine != KMEANS_FAISS && fixed_bytes(all, p->source->dim, o) + bytes > (double)o->mem))
        return 0;
    held->borrowed = false;
    return kmeans_points_load(held, o->threads, e);
}

// Level 1 from where the state is, over the points given.
static int level_one(const struct kmeans_points *p, const struct kmeans_options *o,
                     struct kmeans_state *s, float *centroids, size_t k, struct err *e)
{
    struct saving v = {o, s};
    struct kmeans_job j = {.points = p,
                           .k = k,
                           .centroids = centroids,
                           .level = 1,
                           .first = s->iteration,
                           .iterations = o->iterations,
                           .seed = o->seed,
                           .threads = o->threads,
                           .device = o->device,
                           .step = one_step,
                           .ctx = &v};
    struct kmeans_flat flat = {0};
    struct kmeans_points held = {.borrowed = true};
    bool ranks = is_flat(o);
    if (s->iteration >= o->iterations && s->level)
        return 0;
    int r = ranks ? kmeans_flat_init(&flat, o->comm, p, k, e) : 0;
    if (!r)
        r = hold_points(&held, ranks ? &flat.mine : p, o, p->n, e);
    j.points = ranks ? p : &held; // the first centroids are of all points
    if (!r && !s->level) {
        if (o->init)
            memcpy(centroids, o->init, k * p->source->dim * sizeof *centroids);
        else
            r = kmeans_init(&j, e);
        s->level = 1;
    }
    j.points = &held;
    j.flat = ranks ? &flat : NULL;
    if (ranks)
        r = comm_agree(o->comm, r, e);
    if (!r)
        r = o->engine == KMEANS_FAISS ? kmeans_faiss(&j, e) : kmeans_lloyd(&j, e);
    kmeans_points_release(&held);
    kmeans_flat_release(&flat);
    return r;
}

// The coarse level looks at a sample only.
static int coarse_level(const struct kmeans_points *p, const struct kmeans_options *o,
                        struct kmeans_state *s, struct err *e)
{
    struct kmeans_points sample = *p;
    uint64_t n = kmeans_coarse_points(o, p->n);
    uint32_t *rows = kmeans_sample(n, p->n, o->seed, SAMPLE_STREAM, e);
    if (!rows)
        return -1;
    for (uint64_t i = 0; p->rows && i < n; i++)
        rows[i] = p->rows[rows[i]];
    sample.rows = n < p->n ? rows : p->rows;
    sample.n = n;
    int r = level_one(&sample, o, s, s->coarse, s->k1, e);
    free(rows);
    return r;
}

static int allocate(struct kmeans_state *s, size_t dim, const struct kmeans_options *o,
                    struct err *e)
{
    size_t items, coarse;
    s->k = o->k;
    s->dim = dim;
    s->k1 = o->levels == 2 ? kmeans_coarse_count(o) : 0;
    if (!mem_mul(o->k, dim, &items) || !mem_mul(s->k1, dim, &coarse))
        return err_set(e, "too many centroids: %zu x %zu", o->k, dim);
    s->centroids = mem_alloc(items, sizeof *s->centroids, e);
    if (!s->centroids || o->levels == 1)
        return s->centroids ? 0 : -1;
    s->coarse = mem_alloc(coarse, sizeof *s->coarse, e);
    s->done = s->coarse ? mem_alloc(s->k1, 1, e) : NULL;
    return s->done ? 0 : -1;
}

static int train(const struct kmeans_points *p, const struct kmeans_options *o,
                 struct kmeans_state *s, struct err *e)
{
    struct comm alone = COMM_ALONE, *c = o->comm ? o->comm : &alone;
    size_t dim = p->source->dim;
    if (check(p, o, e))
        return -1;
    if (!s->centroids && allocate(s, dim, o, e))
        return -1;
    if (s->k != o->k || s->dim != dim || s->k1 != (o->levels == 2 ? kmeans_coarse_count(o) : 0))
        return err_set(e, "the saved state is of another run");
    if (o->levels == 1)
        return level_one(p, o, s, s->centroids, o->k, e);
    if (comm_agree(c, s->level < 2 ? coarse_level(p, o, s, e) : 0, e))
        return -1;
    s->level = 2;
    return kmeans_two(p, o, s, c, e);
}

int kmeans_train(const struct kmeans_points *p, const struct kmeans_options *o,
                 struct kmeans_state *s, struct err *e)
{
    if (train(p, o, s, e) == 0)
        return 0;
    struct err why;
    if (signals_stop_wanted() && s->level && o->save && o->save(o->ctx, s, &why))
        *e = why;
    return -1;
}
