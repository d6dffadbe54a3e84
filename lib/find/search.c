// SPDX-License-Identifier: Apache-2.0
#include "find/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/npy.h"
#include "search/dot-block.h"
#include "system/progress.h"
#include "system/threads.h"

enum { RUN = 1 << 15, BLOCK = 256 }; // rows between two looks at the heap; of a thread's turn

// Rows of one side, compared with one vector or with rows of another side.
struct side {
    const struct find_set *set;
    const uint64_t *rows; // of the run, or NULL: first ...
    uint64_t first;
};
struct compared {
    struct side a, b;
    const float *q; // instead of b
    size_t n, dim;
    double *cosine; // [n]
    struct loop_error error;
};

static int read_side(const struct side *s, size_t at, size_t n, float *to, struct err *e)
{
    const struct row_source *r = &s->set->files.source;
    return s->rows ? r->gather(r->ctx, s->rows + at, n, to, e)
                   : r->read(r->ctx, s->first + at, n, to, e);
}

static double cosine_of(const float *x, const float *y, size_t dim)
{
    double xx = dot_exact(x, x, dim), yy = dot_exact(y, y, dim);
    double c = dot_exact(x, y, dim) / sqrt(xx * yy);
    return xx > 0 && yy > 0 && isfinite(c) ? c : NAN;
}

static void compare_block(void *ctx, size_t i)
{
    struct compared *r = ctx;
    struct err e;
    size_t at = i * BLOCK, n = r->n - at < BLOCK ? r->n - at : BLOCK;
    if (loop_error_check(&r->error, &e))
        return;
    float *x = mem_alloc(n * r->dim * (r->q ? 1 : 2), sizeof *x, &e);
    float *y = x && !r->q ? x + n * r->dim : NULL;
    if (!x || read_side(&r->a, at, n, x, &e) || (y && read_side(&r->b, at, n, y, &e)))
        loop_error_set(&r->error, &e);
    else
        for (size_t k = 0; k < n; k++)
            r->cosine[at + k] = cosine_of(x + k * r->dim, y ? y + k * r->dim : r->q, r->dim);
    free(x);
}

static int compare(struct compared *r, int threads, struct err *e)
{
    r->error.failed = 0;
    if (threads_for_stop(threads, (r->n + BLOCK - 1) / BLOCK, compare_block, r, e))
        return -1;
    return loop_error_check(&r->error, e);
}

// ---- lists of rows

struct row_list {
    uint64_t *at;
    size_t n, cap;
};

static int add_row(struct row_list *r, uint64_t row, struct err *e)
{
    void *p = r->at;
    if (mem_grow(&p, &r->cap, r->n + 1, sizeof *r->at, e))
        return -1;
    r->at = p;
    r->at[r->n++] = row;
    return 0;
}

// ---- the rows of a list, or all, against one vector or each against another row

struct find_pass {
    const struct find_search *s;
    const struct find_set *b; // the other side's set, with `other` or row by row
    const float *q;
    const uint64_t *rows, *other; // NULL: all rows; NULL: the same row
    uint64_t n;
    bool least; // the least cosine is the best
};

static void keep_best(const struct find_pass *j, const struct compared *r, uint64_t at,
                      const uint8_t *kept, struct find_top *top)
{
    for (size_t i = 0; i < r->n; i++) {
        uint64_t row = j->rows ? j->rows[at + i] : at + i;
        if (kept && !kept[row])
            continue;
        find_top_add(top, &(struct find_hit){.score = j->least ? -r->cosine[i] : r->cosine[i],
                                             .cosine = r->cosine[i],
                                             .row = row,
                                             .other = j->other ? j->other[at + i] : FIND_NONE});
    }
}

static int take_kept(void *ctx, uint64_t row, int64_t value, struct err *e)
{
    uint8_t *kept = ctx;
    (void)e;
    kept[row] = value == 1;
    return 0;
}

// With --kept a byte a row; *kept NULL without.
static int read_kept(const struct find_search *s, uint8_t **kept, struct err *e)
{
    *kept = NULL;
    if (!s->kept)
        return 0;
    *kept = mem_alloc(s->set->files.set.rows, 1, e);
    return *kept ? find_set_each(s->set, "keep", take_kept, *kept, e) : -1;
}

static int run_job(const struct find_pass *j, struct find_top *top, struct err *e)
{
    const struct find_set *set = j->s->set;
    struct progress bar;
    uint8_t *kept;
    struct compared r = {.q = j->q, .dim = set->files.set.dim};
    r.cosine = mem_alloc(RUN, sizeof *r.cosine, e);
    int rc = !r.cosine || read_kept(j->s, &kept, e) ? -1 : 0;
    progress_start(&bar, j->s->log, j->n, "rows");
    for (uint64_t at = 0; rc == 0 && at < j->n; at += RUN) {
        r.n = j->n - at < RUN ? (size_t)(j->n - at) : RUN;
        r.a = (struct side){set, j->rows ? j->rows + at : NULL, at};
        r.b = (struct side){j->b, j->other ? j->other + at : j->rows ? j->rows + at : NULL, at};
        rc = compare(&r, set->threads, e);
        if (!rc)
            keep_best(j, &r, at, kept, top);
        progress_to(&bar, at + r.n);
    }
    progress_end(&bar);
    if (r.cosine)
        free(kept);
    free(r.cosine);
    find_top_sort(top);
    return rc ? -1 : 0;
}

int find_nearest(const struct find_search *s, const float *q, struct find_top *top, struct err *e)
{
    const struct find_pass j = {.s = s, .q = q, .n = s->set->files.set.rows};
    return run_job(&j, top, e);
}

// ---- clusters

// Reads WORK/centroids.npy. 0 or -1.
static int open_centroids(const struct find_set *s, struct npy *a, struct err *e)
{
    char path[PATH_BYTES];
    if (path_format(path, e, "%s/centroids.npy", s->work) || npy_open(a, path, e))
        return -1;
    if (a->h.n_dims == 2 && a->h.dim == s->files.set.dim && a->h.type == NPY_F4)
        return 0;
    npy_close(a);
    return err_set(e, "'%s' is not of these embeddings: it has no rows of %zu float32", path,
                   s->files.set.dim);
}

// The clusters whose centroids are nearest to q, a byte a cluster.
static uint8_t *near_clusters(const struct find_set *s, const float *q, uint64_t probe, uint64_t *n,
                              struct err *e)
{
    struct npy a;
    struct find_top top = {0};
    if (open_centroids(s, &a, e))
        return NULL;
    *n = a.h.rows;
    uint8_t *near = find_top_init(&top, probe < *n ? probe : *n, e) ? NULL : mem_alloc(*n, 1, e);
    float *row = near ? mem_alloc(a.h.dim, sizeof *row, e) : NULL;
    int rc = row ? 0 : -1;
    for (uint64_t i = 0; rc == 0 && i < *n; i++) {
        rc = npy_rows_f32(&a, i, 1, row, e);
        double c = rc ? 0 : cosine_of(row, q, a.h.dim);
        find_top_add(&top, &(struct find_hit){.score = c, .row = i});
    }
    for (size_t i = 0; rc == 0 && i < top.n; i++)
        near[top.hit[i].row] = 1;
    find_top_release(&top);
    npy_close(&a);
    free(row);
    if (!rc)
        return near;
    free(near);
    return NULL;
}

struct label_pick {
    const uint8_t *wanted; // a byte a value
    uint64_t n;            // values
    struct row_list rows;
};

static int pick_row(void *ctx, uint64_t row, int64_t value, struct err *e)
{
    struct label_pick *p = ctx;
    if (value >= 0 && (uint64_t)value >= p->n)
        return err_set(e, "a label is %lld, and there are %llu centroids: the labels are of others",
                       (long long)value, (unsigned long long)p->n);
    return value >= 0 && p->wanted[value] ? add_row(&p->rows, row, e) : 0;
}

static int search_clusters(const struct find_search *s, const float *q, const uint8_t *wanted,
                           uint64_t n, struct find_top *top, uint64_t *looked, struct err *e)
{
    struct label_pick p = {.wanted = wanted, .n = n};
    int rc = find_set_each(s->set, "labels", pick_row, &p, e);
    const struct find_pass j = {.s = s, .q = q, .rows = p.rows.at, .n = p.rows.n};
    *looked = p.rows.n;
    if (!rc && p.rows.n)
        rc = run_job(&j, top, e);
    free(p.rows.at);
    return rc;
}

int find_probe(const struct find_search *s, const float *q, uint64_t probe, struct find_top *top,
               uint64_t *looked, struct err *e)
{
    uint64_t n;
    uint8_t *wanted = near_clusters(s->set, q, probe, &n, e);
    int rc = wanted ? search_clusters(s, q, wanted, n, top, looked, e) : -1;
    free(wanted);
    return rc;
}

int find_cluster(const struct find_search *s, uint64_t cluster, struct find_top *top,
                 uint64_t *looked, struct err *e)
{
    struct npy a;
    if (open_centroids(s->set, &a, e))
        return -1;
    uint64_t n = a.h.rows;
    float *q = mem_alloc(a.h.dim, sizeof *q, e);
    uint8_t *wanted = q ? mem_alloc(n, 1, e) : NULL;
    int rc = wanted ? 0 : -1;
    if (!rc && cluster >= n)
        rc = err_set(e, "there is no cluster %llu: they are 0 to %llu", (unsigned long long)cluster,
                     (unsigned long long)n - 1);
    rc = rc || npy_rows_f32(&a, cluster, 1, q, e) ? -1 : 0;
    npy_close(&a);
    if (!rc) {
        wanted[cluster] = 1;
        rc = search_clusters(s, q, wanted, n, top, looked, e);
    }
    free(q);
    free(wanted);
    return rc;
}

// ---- groups

// The number of a group is that of its kept row over all inputs of the balance, in their order,
// which need not be that of this set. A row whose group is its own number tells where its shard
// begins there.
struct group_rows {
    const struct find_set *set;
    const uint8_t *kept;      // per row
    struct row_list row, own; // dropped rows, and the numbers of the rows kept for them
    int64_t wanted;           // only this group; -1: all
    struct begin {
        uint64_t at; // FIND_NONE: not known
        size_t shard;
    } * begin; // per shard; then sorted
};

static int by_begin(const void *x, const void *y)
{
    const struct begin *a = x, *b = y;
    return a->at < b->at ? -1 : a->at > b->at;
}

static int note_group(void *ctx, uint64_t row, int64_t value, struct err *e)
{
    struct group_rows *g = ctx;
    uint64_t in_shard;
    size_t shard = find_set_shard(g->set, row, &in_shard);
    if (value < 0)
        return 0;
    if (g->kept[row] && (uint64_t)value >= in_shard)
        g->begin[shard].at = (uint64_t)value - in_shard;
    if (g->wanted >= 0 ? value != g->wanted : g->kept[row])
        return 0;
    return add_row(&g->row, row, e) || add_row(&g->own, (uint64_t)value, e) ? -1 : 0;
}

// The row of the set that has the number `own` in the balance, or FIND_NONE.
static uint64_t row_of(const struct group_rows *g, uint64_t own)
{
    size_t low = 0, high = g->set->names.n; // the last that begins at `own` or before
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (g->begin[mid].at <= own)
            low = mid + 1;
        else
            high = mid;
    }
    if (!low)
        return FIND_NONE;
    const struct begin *b = &g->begin[low - 1];
    const struct npy_part *p = &g->set->files.set.parts[b->shard];
    return own - b->at < p->rows ? p->first + (own - b->at) : FIND_NONE;
}

static int read_groups(struct group_rows *g, const struct find_search *s, int64_t wanted,
                       struct err *e)
{
    struct find_search all = *s;
    uint8_t *kept;
    all.kept = true;
    *g = (struct group_rows){.set = s->set, .wanted = wanted};
    if (read_kept(&all, &kept, e)) {
        free(kept);
        return -1;
    }
    g->kept = kept;
    g->begin = mem_alloc(s->set->names.n, sizeof *g->begin, e);
    for (size_t i = 0; g->begin && i < s->set->names.n; i++)
        g->begin[i] = (struct begin){FIND_NONE, i};
    return g->begin ? find_set_each(s->set, "groups", note_group, g, e) : -1;
}

// Numbers of the balance to rows of the set; rows without one are left out.
static void resolve(struct group_rows *g)
{
    size_t n = 0;
    qsort(g->begin, g->set->names.n, sizeof *g->begin, by_begin);
    for (size_t i = 0; i < g->row.n; i++) {
        uint64_t other = row_of(g, g->own.at[i]);
        if (other == FIND_NONE)
            continue;
        g->row.at[n] = g->row.at[i];
        g->own.at[n++] = other;
    }
    g->row.n = g->own.n = n;
}

static void release_groups(struct group_rows *g)
{
    free((void *)(uintptr_t)g->kept);
    free(g->row.at);
    free(g->own.at);
    free(g->begin);
}

static int search_groups(const struct find_search *s, int64_t wanted, bool least,
                         struct find_top *top, struct err *e)
{
    struct group_rows g;
    int rc = read_groups(&g, s, wanted, e);
    if (!rc)
        resolve(&g);
    const struct find_pass j = {
        .s = s, .b = s->set, .rows = g.row.at, .other = g.own.at, .n = g.row.n, .least = least};
    if (!rc && g.row.n)
        rc = run_job(&j, top, e);
    release_groups(&g);
    return rc;
}

int find_group(const struct find_search *s, uint64_t row, struct find_top *top, struct err *e)
{
    uint64_t in_shard;
    size_t shard = find_set_shard(s->set, row, &in_shard);
    int64_t group = find_set_value(s->set, "groups", row);
    if (group < 0)
        return err_set(e,
                       "row %llu of shard '%s' is in no group: it failed, was left out, or there "
                       "is no balance yet",
                       (unsigned long long)in_shard, s->set->names.names[shard]);
    return search_groups(s, group, false, top, e);
}

int find_dropped(const struct find_search *s, struct find_top *top, struct err *e)
{
    return search_groups(s, -1, true, top, e);
}

int find_worst(const struct find_search *s, const struct find_set *texts, struct find_top *top,
               struct err *e)
{
    if (texts->files.set.rows != s->set->files.set.rows ||
        texts->files.set.dim != s->set->files.set.dim)
        return err_set(e, "'%s/embed/text' is not of the pictures in embed/image", s->set->work);
    const struct find_pass j = {.s = s, .b = texts, .n = s->set->files.set.rows, .least = true};
    return run_job(&j, top, e);
}
