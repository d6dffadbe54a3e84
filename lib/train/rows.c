// SPDX-License-Identifier: Apache-2.0
#include "train/rows.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/path.h"

static int right_type(const struct train_rows *r, const struct npy_header *h)
{
    if (r->labels)
        return h->type == NPY_I4 && (h->n_dims == 1 || h->n_dims == 2);
    return (h->type == NPY_F2 || h->type == NPY_F4) && h->n_dims == 2;
}

static int open_file(struct train_rows *r, const char *name, struct npy *a, struct err *e)
{
    char path[PATH_MAX];
    if (path_join(path, r->dir, name, e) || npy_open(a, path, e))
        return -1;
    if (!right_type(r, &a->h) || !a->h.dim) {
        npy_close(a);
        return err_set(e, "%s: has type %s and %d dimensions, not %s", path,
                       npy_type_name(a->h.type), a->h.n_dims,
                       r->labels ? "labels (<i4)" : "embeddings (<f2 or <f4, 2 dimensions)");
    }
    if (a->h.dim == r->dim)
        return 0;
    size_t dim = a->h.dim;
    npy_close(a);
    return err_set(e, "%s: has %zu columns, others have %zu", path, dim, r->dim);
}

void train_rows_open(struct train_rows *r, const char *dir, bool labels, size_t dim)
{
    *r = (struct train_rows){.dir = dir, .labels = labels, .dim = dim};
}

static void close_file(struct train_file *f)
{
    if (!f->open)
        return;
    npy_close(&f->npy);
    sidecar_release(&f->side);
    f->open = false;
}

void train_rows_restart(struct train_rows *r)
{
    for (size_t i = 0; i < r->n; i++)
        close_file(&r->files[i]);
    r->n = 0;
}

void train_rows_close(struct train_rows *r)
{
    train_rows_restart(r);
    free(r->files);
    memset(r, 0, sizeof *r);
}

// 00000.tar, 00000.tar.gz -> 00000.npy
static int file_name(const char *shard, char *name, size_t room, struct err *e)
{
    size_t n = path_stem(shard);
    if (!n || strchr(shard, '/') || n + 5 > room)
        return err_set(e, "'%s' is no name of a shard", shard);
    snprintf(name, room, "%.*s.npy", (int)n, shard);
    return 0;
}

static int need_file(struct train_rows *r, const struct samples_record *s, struct err *e)
{
    char name[NAME_MAX + 1], path[PATH_MAX];
    void *p = r->files;
    if (s->shard >= r->n) {
        int rc = mem_grow(&p, &r->cap, (size_t)s->shard + 1, sizeof *r->files, e);
        r->files = p;
        if (rc)
            return -1;
        memset(r->files + r->n, 0, ((size_t)s->shard + 1 - r->n) * sizeof *r->files);
        r->n = (size_t)s->shard + 1;
    }
    struct train_file *f = &r->files[s->shard];
    if (f->open)
        return 0;
    if (file_name(s->shard_name, name, sizeof name, e) || path_join(path, r->dir, name, e) ||
        open_file(r, name, &f->npy, e))
        return -1;
    int has = sidecar_open(path, f->npy.h.rows, &f->side, e);
    if (has < 0) {
        npy_close(&f->npy);
        return -1;
    }
    r->no_sidecar += !has;
    r->partial += f->side.partial;
    f->open = true;
    return 0;
}

static int row_live(const struct train_rows *r, const void *row)
{
    if (r->labels)
        return *(const int32_t *)row >= 0;
    const float *x = row;
    for (size_t i = 0; i < r->dim; i++)
        if (x[i] != 0)
            return 1;
    return 0;
}

int train_rows_get(struct train_rows *r, const struct samples_record *s, void *out, struct err *e)
{
    if (need_file(r, s, e))
        return -1;
    const struct npy *a = &r->files[s->shard].npy;
    if (s->ordinal >= a->h.rows)
        return err_set(e, "%s: shard %s has a sample %" PRIu64 ", its file only %" PRIu64 " rows",
                       r->dir, s->shard_name, s->ordinal, a->h.rows);
    if (!r->labels) {
        if (npy_rows_f32(a, s->ordinal, 1, out, e))
            return -1;
    } else {
        int32_t *y = out;
        memcpy(y, (const int32_t *)a->data + s->ordinal * r->dim, r->dim * sizeof *y);
        for (size_t i = 1; i < r->dim; i++) // fewer labels than columns: the first again
            y[i] = y[i] < 0 ? y[0] : y[i];
    }
    return row_live(r, out);
}

int train_rows_sweep(struct train_rows *r, const struct samples_reader *stream, struct err *e)
{
    for (size_t i = 0; i < r->n && i < samples_n_shards(stream); i++) {
        const struct samples_shard *s = samples_shard(stream, i);
        struct train_file *f = &r->files[i];
        if (!f->open || !s->ended)
            continue;
        if (s->counted && s->rows != f->npy.h.rows)
            return err_set(e, "%s: shard %s has %" PRIu64 " samples, its file %" PRIu64 " rows",
                           r->dir, s->name, s->rows, f->npy.h.rows);
        if (s->counted && s->keys[0] && f->side.keys[0] && strcmp(s->keys, f->side.keys))
            return err_set(e,
                           "%s: the file for shard %s was made from other samples (key digests "
                           "differ)",
                           r->dir, s->name);
        r->partial -= f->side.partial && s->counted && s->keys[0] && f->side.keys[0];
        close_file(f);
    }
    return 0;
}
