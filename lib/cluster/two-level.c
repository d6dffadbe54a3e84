// SPDX-License-Identifier: Apache-2.0
// Level 2: every point to its coarse cluster, then each of these by itself. Coarse clusters are
// done in batches whose points fit in memory, one a thread; one that is larger than memory is
// streamed, on all threads. With several ranks a rank labels its share of the points, and is then
// given those of its own coarse clusters (deal.h).
#include <math.h>
#include <stdatomic.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "search/nearest.h"
#include "cluster/deal.h"
#include "cluster/run.h"
#include "base/mem.h"
#include "comm/tree.h"
#include "system/threads.h"
#include "system/signals.h"
#include "search/dot-block.h"

struct two {
    const struct kmeans_points *p;
    const struct kmeans_options *o;
    struct kmeans_state *s;
    size_t k1, dim;
    struct comm *comm;
    size_t begin, end; // of the coarse clusters that are this rank's
    uint64_t from, n;  // label is of points [from, from + n)
    int32_t *label;    // per point: coarse cluster, -1 for failed rows
    uint64_t *size;    // per coarse cluster: usable points, of all ranks
    size_t *share;     // per coarse cluster: its clusters
    size_t *first;     // the first of these among all
    double room;       // bytes for the points of a batch
    pthread_mutex_t lock;
};

// Coarse clusters [begin, end) with their points in memory.
struct batch {
    struct two *t;
    size_t begin, end;
    uint64_t *offset; // per coarse cluster of the batch: its first point in rows
    float *rows;
    uint8_t *state;
    uint32_t *list; // rows of the source, ascending
    uint64_t *slot; // where each goes
    uint64_t n;
    uint64_t *fill;
    struct loop_error fail;
};

static uint64_t chunk_at(const struct two *t, uint64_t first)
{
    return t->n - first < KMEANS_CHUNK ? t->n - first : KMEANS_CHUNK;
}

static int label_points(struct two *t, struct err *e)
{
    struct nearest a = {0};
    struct kmeans_prefetch ahead;
    int threads = t->o->threads;
    int r = kmeans_prefetch_init(&ahead, t->p, chunk_at(t, 0), threads, t->o->device, e) ||
            nearest_init_on(&a, t->o->device, t->s->coarse, t->k1, t->dim, threads, e);
    for (uint64_t at = 0, m; at < t->n && !r; at += m) {
        const float *rows;
        const uint8_t *state;
        m = chunk_at(t, at);
        r = kmeans_prefetch_read(&ahead, t->from + at, m, chunk_at(t, at + m), &rows, &state, e) ||
            nearest_rows(&a, threads, rows, m, state, 1, t->label + at, NULL, e);
        for (uint64_t i = 0; i < m && !r; i++)
            if (t->label[at + i] >= 0)
                t->size[t->label[at + i]]++;
    }
    nearest_release(&a);
    kmeans_prefetch_release(&ahead);
    return r ? -1 : 0;
}

// Clusters in proportion to size: the whole parts first, the rest to the greatest remainders (ties
// to the lowest); never more than there are points.
static int share_out(struct two *t, struct err *e)
{
    uint64_t n = 0;
    for (size_t c = 0; c < t->k1; c++)
        n += t->size[c];
    if (n < t->o->k)
        return err_set(e, "%zu clusters need as many usable rows: there are %llu", t->o->k,
                       (unsigned long long)n);
    double *rest = mem_alloc(t->k1, sizeof *rest, e);
    if (!rest)
        return -1;
    size_t given = 0;
    for (size_t c = 0; c < t->k1; c++) {
        double part = (double)t->o->k * ((double)t->size[c] / (double)n);
        t->share[c] = (size_t)part;
        if (t->size[c] && !t->share[c])
            t->share[c] = 1; // its points need a cluster
        if (t->share[c] > t->size[c])
            t->share[c] = t->size[c];
        rest[c] = part - (double)t->share[c];
        given += t->share[c];
    }
    while (given != t->o->k) { // one step to or from the coarse cluster that is furthest off
        bool more = given < t->o->k;
        size_t best = t->k1;
        for (size_t c = 0; c < t->k1; c++) {
            if (more ? t->share[c] >= t->size[c] : t->share[c] <= 1)
                continue;
            if (best == t->k1 || (more ? rest[c] > rest[best] : rest[c] < rest[best]))
                best = c;
        }
        if (best == t->k1) {
            free(rest);
            return err_set(e, "%zu clusters cannot be shared out over %zu coarse ones", t->o->k,
                           t->k1);
        }
        t->share[best] += more ? 1 : (size_t)-1;
        rest[best] -= more ? 1 : -1;
        given += more ? 1 : (size_t)-1;
    }
    for (size_t c = 0, at = 0; c < t->k1; c++) {
        t->first[c] = at;
        at += t->share[c];
    }
    free(rest);
    return 0;
}

static int locked_step(void *ctx, const struct kmeans_step *s, struct err *e)
{
    struct two *t = ctx;
    pthread_mutex_lock(&t->lock);
    int r = t->o->step ? t->o->step(t->o->ctx, s, e) : 0;
    pthread_mutex_unlock(&t->lock);
    return r;
}

static int train_part(struct two *t, size_t c, const struct kmeans_points *p, int threads,
                      struct err *e)
{
    struct kmeans_job j = {.points = p,
                           .k = t->share[c],
                           .centroids = t->s->centroids + t->first[c] * t->dim,
                           .level = 2,
                           .part = (uint32_t)c,
                           .iterations = t->o->iterations,
                           .seed = t->o->seed,
                           .threads = threads,
                           .device = t->o->device,
                           .step = locked_step,
                           .ctx = t};
    return kmeans_init(&j, e) || kmeans_lloyd(&j, e) ? -1 : 0;
}

enum { PART = 1024 };

// Reads a run of listed rows and puts each to the others of its coarse cluster.
static void read_task(void *ctx, size_t i)
{
    struct batch *b = ctx;
    const struct kmeans_points *p = b->t->p;
    const struct row_source *s = p->source;
    size_t at = i * PART, n = b->n - at < PART ? b->n - at : PART;
    uint64_t rows[PART];
    uint8_t state[PART];
    struct err e;
    float *x = mem_alloc(n * s->dim, sizeof *x, &e);
    for (size_t k = 0; k < n; k++)
        rows[k] = b->list[at + k];
    if (!x || s->gather(s->ctx, rows, n, x, &e)) {
        loop_error_set(&b->fail, &e);
        free(x);
        return;
    }
    unit_rows(x, n, s->dim, p->normalize, state);
    for (size_t k = 0; k < n; k++) {
        memcpy(b->rows + b->slot[at + k] * s->dim, x + k * s->dim, s->dim * sizeof *x);
        b->state[b->slot[at + k]] = state[k];
    }
    free(x);
}

// The rows of the batch's points, in the order of the source, and where each goes.
static void list_points(struct batch *b)
{
    const struct two *t = b->t;
    uint64_t n = 0;
    for (uint64_t i = 0; i < t->n; i++) {
        int32_t c = t->label[i];
        if (c < (int64_t)b->begin || c >= (int64_t)b->end || t->s->done[c])
            continue;
        b->list[n] = t->p->rows ? t->p->rows[i] : (uint32_t)i;
        b->slot[n++] = b->fill[c - (int64_t)b->begin]++;
    }
}

static void part_task(void *ctx, size_t i)
{
    struct batch *b = ctx;
    struct two *t = b->t;
    size_t c = b->begin + i;
    struct err e;
    if (t->s->done[c] || !t->share[c] || b->fail.failed)
        return; // an empty coarse cluster has no share
    struct kmeans_points p = {.source = t->p->source,
                              .n = t->size[c],
                              .normalize = t->p->normalize,
                              .cache = b->rows + b->offset[i] * t->dim,
                              .state = b->state + b->offset[i],
                              .borrowed = true};
    if (train_part(t, c, &p, t->o->device ? t->o->threads : 1, &e))
        loop_error_set(&b->fail, &e);
    else
        t->s->done[c] = 1; // a stop in the middle of the batch keeps it
}

// A part a thread; with a device, which takes one at a time, all threads serve each.
static int run_parts(struct batch *b, size_t n, struct err *e)
{
    if (!b->t->o->device)
        return threads_for_stop(b->t->o->threads, n, part_task, b, e);
    for (size_t i = 0; i < n; i++)
        part_task(b, i);
    return 0;
}

static int run_batch(struct batch *b, struct err *e)
{
    struct two *t = b->t;
    size_t n_parts = b->end - b->begin;
    b->offset = mem_alloc(n_parts, sizeof *b->offset, e);
    b->fill = b->offset ? mem_alloc(n_parts, sizeof *b->fill, e) : NULL;
    if (!b->fill)
        return -1;
    for (size_t i = 0; i < n_parts; i++) {
        b->offset[i] = b->fill[i] = b->n;
        b->n += t->s->done[b->begin + i] ? 0 : t->size[b->begin + i];
    }
    b->rows = mem_alloc(b->n * t->dim, sizeof *b->rows, e);
    b->state = b->rows ? mem_alloc(b->n, 1, e) : NULL;
    b->list = b->state ? mem_alloc(b->n, sizeof *b->list, e) : NULL;
    b->slot = b->list ? mem_alloc(b->n, sizeof *b->slot, e) : NULL;
    if (!b->slot)
        return -1;
    list_points(b);
    if (threads_for_stop(t->o->threads, (b->n + PART - 1) / PART, read_task, b, e) ||
        loop_error_check(&b->fail, e) || run_parts(b, n_parts, e) || loop_error_check(&b->fail, e))
        return -1;
    memset(t->s->done + b->begin, 1, n_parts);
    return 0;
}

static int batch_of(struct two *t, size_t begin, size_t end, struct err *e)
{
    struct batch b = {.t = t, .begin = begin, .end = end};
    int r = run_batch(&b, e);
    free(b.offset);
    free(b.fill);
    free(b.rows);
    free(b.state);
    free(b.list);
    free(b.slot);
    return r;
}

// One coarse cluster that memory does not hold.
static int stream_part(struct two *t, size_t c, struct err *e)
{
    uint32_t *list = mem_alloc(t->size[c], sizeof *list, e);
    uint64_t n = 0;
    if (!list)
        return -1;
    for (uint64_t i = 0; i < t->n; i++)
        if (t->label[i] == (int32_t)c)
            list[n++] = t->p->rows ? t->p->rows[i] : (uint32_t)i;
    struct kmeans_points p = {
        .source = t->p->source, .rows = list, .n = n, .normalize = t->p->normalize};
    int r = train_part(t, c, &p, t->o->threads, e);
    free(list);
    t->s->done[c] = r == 0;
    return r;
}

static double point_bytes(const struct two *t, size_t c)
{
    return t->s->done[c] ? 0 : (double)t->size[c] * (4.0 * (double)t->dim + 14);
}

// What training clusters of so many centroids takes, one a thread.
static double part_work(const struct two *t, double k)
{
    return t->o->threads * kmeans_lloyd_bytes(k, t->dim, 1);
}

static int train_all(struct two *t, struct err *e)
{
    for (size_t c = t->begin; c < t->end;) {
        size_t end = c;
        double bytes = 0, most = 0;
        for (; end < t->end; end++) {
            double k = (double)t->share[end];
            double work = part_work(t, k > most ? k : most);
            if (bytes + point_bytes(t, end) + work > t->room)
                break;
            bytes += point_bytes(t, end);
            most = k > most ? k : most;
        }
        if (end == c ? stream_part(t, end++, e) : batch_of(t, c, end, e))
            return -1;
        c = end;
        if (t->o->save && !signals_stop_wanted() && t->o->save(t->o->ctx, t->s, e))
            return -1;
    }
    return 0;
}

// Everything but the points and what Lloyd's algorithm takes.
static double fixed_bytes(const struct two *t)
{
    return (double)t->n * 4 + (double)t->o->k * (double)t->dim * 4 +
           (double)t->k1 * ((double)t->dim * 4 + 32) + 30e6 +
           (double)KMEANS_CHUNK * 4 * (double)t->dim;
}

// The sizes of all ranks' coarse clusters; *own, heap: those of this one's points alone.
static int sum_sizes(struct two *t, uint64_t **own, struct err *e)
{
    size_t bytes = t->k1 * sizeof *t->size;
    void *room = mem_alloc(1, comm_tree_room(t->comm, t->k1, sizeof *t->size), e);
    *own = room ? mem_alloc(1, bytes, e) : NULL;
    int r = *own ? 0 : -1;
    if (!r) {
        memcpy(*own, t->size, bytes);
        r = comm_tree_all(t->comm, "sizes of clusters", t->size, t->k1, sizeof *t->size,
                          comm_add_i64, NULL, room, e);
    }
    free(room);
    return r;
}

// The rows are in memory already: batches need not be large to be read in one go.
static void keep_small(struct two *t)
{
    double sum = 0, most = 0;
    for (size_t c = t->begin; c < t->end; c++) {
        double bytes = point_bytes(t, c) + part_work(t, (double)t->share[c]);
        sum += bytes;
        most = bytes > most ? bytes : most;
    }
    t->room = fmin(t->room, fmax(sum / 8, most));
}

// From here on the points are those of this rank's coarse clusters.
static int take_points(struct two *t, struct kmeans_dealt *d, const uint64_t *own, struct err *e)
{
    if (kmeans_deal(d, t->comm, t->p, t->from, t->n, t->label, own, t->size, t->k1, t->room, e))
        return -1;
    free(t->label);
    t->label = d->label;
    d->label = NULL;
    t->p = &d->points;
    t->from = 0;
    t->n = d->points.n;
    t->begin = d->first[t->comm->rank];
    t->end = d->first[t->comm->rank + 1];
    t->room -= kmeans_deal_bytes(d);
    keep_small(t);
    return 0;
}

static int label_share(struct two *t, struct err *e)
{
    t->from = comm_share(t->comm, t->p->n, t->comm->rank);
    t->n = comm_share(t->comm, t->p->n, t->comm->rank + 1) - t->from;
    t->end = t->k1;
    t->room = (double)t->o->mem - fixed_bytes(t);
    t->label = mem_alloc(t->n, sizeof *t->label, e);
    t->size = t->label ? mem_alloc(t->k1, sizeof *t->size, e) : NULL;
    t->share = t->size ? mem_alloc(t->k1, sizeof *t->share, e) : NULL;
    t->first = t->share ? mem_alloc(t->k1, sizeof *t->first, e) : NULL;
    return t->first && !label_points(t, e) ? 0 : -1;
}

static int prepare(struct two *t, struct kmeans_dealt *d, struct err *e)
{
    uint64_t *own = NULL;
    if (comm_agree(t->comm, label_share(t, e), e))
        return -1;
    if (t->comm->size == 1)
        return share_out(t, e);
    int r = sum_sizes(t, &own, e);
    if (!r)
        r = comm_agree(t->comm, share_out(t, e), e) || take_points(t, d, own, e) ? -1 : 0;
    free(own);
    return r;
}

static size_t first_centroid(const struct two *t, size_t c)
{
    return c < t->k1 ? t->first[c] : t->o->k;
}

// Each rank's centroids to all.
static int gather_centroids(struct two *t, const struct kmeans_dealt *d, struct err *e)
{
    size_t row = t->dim * sizeof(float), size = (size_t)t->comm->size;
    size_t *bytes = mem_alloc(size, sizeof *bytes, e);
    if (!bytes)
        return -1;
    for (size_t r = 0; r < size; r++)
        bytes[r] = (first_centroid(t, d->first[r + 1]) - first_centroid(t, d->first[r])) * row;
    int r = comm_gather_each(t->comm, "centroids",
                             t->s->centroids + first_centroid(t, t->begin) * t->dim, bytes,
                             t->s->centroids, e);
    free(bytes);
    return r;
}

int kmeans_two(const struct kmeans_points *p, const struct kmeans_options *o,
               struct kmeans_state *s, struct comm *c, struct err *e)
{
    struct kmeans_dealt dealt = {0};
    struct two t = {.p = p,
                    .o = o,
                    .s = s,
                    .k1 = s->k1,
                    .dim = s->dim,
                    .comm = c,
                    .lock = PTHREAD_MUTEX_INITIALIZER};
    int r = prepare(&t, &dealt, e);
    if (!r)
        r = comm_agree(c, train_all(&t, e), e);
    if (!r && c->size > 1)
        r = gather_centroids(&t, &dealt, e);
    kmeans_dealt_release(&dealt);
    free(t.label);
    free(t.size);
    free(t.share);
    free(t.first);
    return r ? -1 : 0;
}
