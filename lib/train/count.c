// SPDX-License-Identifier: Apache-2.0
#include "train/count.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "system/lines.h"
#include "base/mem.h"
#include "formats/npy.h"
#include "base/path.h"
#include "system/pool.h"
#include "formats/sidecar.h"

enum { IMAGE, TEXT, LABELS, KEEP, OTHERS, FOLDERS = OTHERS + 2 * (LOSS_TEACHERS_MAX - 1) };
enum { MAX_THREADS = 16 }; // more do not make a disk faster

struct shard_files {
    char *stem;
    size_t dim[FOLDERS]; // columns; 0: no such file, or not of this kind
    uint64_t rows, dropped, no_teacher, no_label;
    bool bad;
    struct err err;
};

struct survey {
    const char *dir[FOLDERS];
    bool listed;  // the shards were named: each must be there
    bool partial; // or not yet
    struct shard_files *s;
    size_t n, cap;
    size_t dim[FOLDERS]; // of the data
    struct train_count *c;
};

static bool right_kind(int folder, const struct npy_header *h)
{
    if (folder == KEEP)
        return h->type == NPY_U1 && h->n_dims == 1;
    if (folder == LABELS)
        return h->type == NPY_I4 && (h->n_dims == 1 || h->n_dims == 2) && h->dim;
    return (h->type == NPY_F2 || h->type == NPY_F4) && h->n_dims == 2 && h->dim;
}

static const char *kind_name(int folder)
{
    return folder == KEEP     ? "a keep mask (|u1, 1 dimension)"
           : folder == LABELS ? "labels (<i4)"
                              : "embeddings (<f2 or <f4, 2 dimensions)";
}

static int path_of(const struct survey *v, int folder, const char *stem, char path[PATH_MAX],
                   struct err *e)
{
    return path_format(path, e, "%s/%s.npy", v->dir[folder], stem);
}

static int add_shard(struct survey *v, const char *stem, size_t len, struct err *e)
{
    void *p = v->s;
    int rc = mem_grow(&p, &v->cap, v->n + 1, sizeof *v->s, e);
    v->s = p;
    if (rc)
        return -1;
    struct shard_files *s = &v->s[v->n];
    *s = (struct shard_files){.stem = mem_alloc(len + 1, 1, e)};
    if (!s->stem)
        return -1;
    memcpy(s->stem, stem, len);
    v->n++;
    return 0;
}

// The folder whose files are listed if no list is given; KEEP: there is none.
static int first_folder(const struct survey *v)
{
    int k = 0;
    while (k < KEEP && !v->dir[k])
        k++;
    return k;
}

static void foreign(struct survey *v, int folder, const char *stem)
{
    if (!v->partial && !v->c->foreign++)
        snprintf(v->c->foreign_name, sizeof v->c->foreign_name, "%s/%s.npy", v->dir[folder], stem);
}

static int by_stem(const void *a, const void *b)
{
    const struct shard_files *x = a, *y = b;
    return strcmp(x->stem, y->stem);
}

// -- which shards

// Drops the folders that do not exist yet.
static void forget_unmade(struct survey *v)
{
    for (int k = 0; k < FOLDERS; k++)
        if (v->dir[k] && access(v->dir[k], F_OK)) {
            v->c->missing = true;
            v->dir[k] = NULL;
        }
}

static int from_list(struct survey *v, const char *path, struct err *e)
{
    struct lines l;
    if (lines_read(&l, path, e))
        return -1;
    int rc = 0;
    for (size_t i = 0; i < l.n && !rc; i++) {
        const char *name = path_base(l.line[i]);
        if (*name)
            rc = add_shard(v, name, path_stem(name), e);
    }
    lines_release(&l);
    if (rc)
        return -1;
    v->listed = true;
    qsort(v->s, v->n, sizeof *v->s, by_stem);
    for (size_t i = 1; i < v->n; i++)
        if (!strcmp(v->s[i - 1].stem, v->s[i].stem))
            return err_set(e, "%s: two shards are called '%s'", path, v->s[i].stem);
    return v->n ? 0 : err_set(e, "%s: names no shard", path);
}

static int from_folder(struct survey *v, int folder, struct err *e)
{
    DIR *d = opendir(v->dir[folder]);
    if (!d)
        return err_errno(e, "cannot open '%s'", v->dir[folder]);
    int rc = 0;
    for (struct dirent *f; !rc && (f = readdir(d));) {
        size_t n = strlen(f->d_name);
        if (f->d_name[0] != '.' && n > 4 && !strcmp(f->d_name + n - 4, ".npy"))
            rc = add_shard(v, f->d_name, n - 4, e);
    }
    closedir(d);
    if (v->n)
        qsort(v->s, v->n, sizeof *v->s, by_stem);
    return rc || v->n ? rc : err_set(e, "%s: no .npy file in it", v->dir[folder]);
}

static void drop(struct survey *v, size_t i)
{
    free(v->s[i].stem);
    v->s[i].stem = NULL;
}

static void close_ranks(struct survey *v)
{
    size_t n = 0;
    for (size_t i = 0; i < v->n; i++)
        if (v->s[i].stem)
            v->s[n++] = v->s[i];
    v->n = n;
}

// -- their headers

// Reads columns and rows of a shard's file: 1; 0 if it is no file of the data; -1.
static int look(struct survey *v, struct shard_files *s, int folder, struct err *e)
{
    char path[PATH_MAX];
    struct npy a;
    if (path_of(v, folder, s->stem, path, e))
        return -1;
    if ((!v->listed || v->partial) && access(path, F_OK)) {
        v->c->missing = v->c->missing || v->partial;
        return 0;
    }
    if (npy_open(&a, path, e))
        return -1;
    bool right = right_kind(folder, &a.h);
    if (!right && v->listed)
        err_set(e, "%s: has type %s and %d dimensions, not %s", path, npy_type_name(a.h.type),
                a.h.n_dims, kind_name(folder));
    s->dim[folder] = a.h.dim;
    s->rows = a.h.rows;
    npy_close(&a);
    return right ? 1 : v->listed ? -1 : 0;
}

// A file is no part of the data if another folder has none for its shard, or if it is of another
// kind.
static int look_at_all(struct survey *v, bool all, struct err *e)
{
    for (size_t i = 0; i < v->n; i++) {
        int rc = 1;
        for (int k = 0; k < FOLDERS && rc > 0; k++) {
            rc = v->dir[k] ? look(v, &v->s[i], k, e) : 1;
            if (rc == 0) {
                foreign(v, first_folder(v), v->s[i].stem);
                drop(v, i);
            }
        }
        if (rc < 0)
            return -1;
        if (rc > 0 && !all) { // the columns are all that is asked
            for (size_t j = i + 1; j < v->n; j++)
                drop(v, j);
            break;
        }
    }
    close_ranks(v);
    return v->n || v->partial
               ? 0
               : err_set(e, "no shard has a file in every folder (%s was passed over)",
                         v->c->foreign_name);
}

static size_t usual_dim(const struct survey *v, int folder)
{
    size_t best = 0, most = 0;
    for (size_t i = 0; i < v->n && most <= v->n / 2; i++) {
        size_t n = 0;
        for (size_t j = 0; j < v->n; j++)
            n += v->s[j].dim[folder] == v->s[i].dim[folder];
        if (n > most) {
            most = n;
            best = v->s[i].dim[folder];
        }
    }
    return best;
}

// Returns the number of columns that most files have; other files are foreign, or an error if the
// list names their shard.
static int settle_dims(struct survey *v, struct err *e)
{
    for (int k = 0; k < FOLDERS; k++) {
        v->dim[k] = v->dir[k] ? usual_dim(v, k) : 0;
        for (size_t i = 0; i < v->n; i++) {
            if (!v->s[i].stem || !v->dir[k] || v->s[i].dim[k] == v->dim[k])
                continue;
            if (v->listed)
                return err_set(e, "%s/%s.npy: has %zu columns, others have %zu", v->dir[k],
                               v->s[i].stem, v->s[i].dim[k], v->dim[k]);
            foreign(v, k, v->s[i].stem);
            drop(v, i);
        }
        close_ranks(v);
    }
    for (int k = IMAGE; k < FOLDERS; k = k == IMAGE ? OTHERS : k + 2)
        if (v->dir[k] && v->dir[k + 1] && v->dim[k] != v->dim[k + 1])
            return err_set(e, "the teacher's images have %zu columns, its texts %zu", v->dim[k],
                           v->dim[k + 1]);
    return 0;
}

// -- their rows

static bool is_zero(const struct npy *a, uint64_t row)
{
    const uint8_t *x = (const uint8_t *)a->data + row * a->h.row_bytes;
    // Zeros of either sign: every byte is 0 except the highest of each value, which may hold the
    // sign.
    size_t item = npy_type_size(a->h.type);
    for (size_t i = 0; i < a->h.row_bytes; i++)
        if (i % item == item - 1 ? x[i] & 0x7f : x[i])
            return false;
    return true;
}

// A shard's files, and what the sidecars of its embeddings say about rows of zeros.
struct open_shard {
    struct npy a[FOLDERS];
    struct sidecar side[FOLDERS];
    size_t next[FOLDERS]; // of side.failed
};

static bool failed_row(struct open_shard *o, int k, uint64_t row)
{
    const struct sidecar_rows *f = &o->side[k].failed;
    if (!o->a[k].data)
        return false;
    if (!o->side[k].has_failed)
        return is_zero(&o->a[k], row);
    while (o->next[k] < f->n && f->at[o->next[k]] < row)
        o->next[k]++;
    return o->next[k] < f->n && f->at[o->next[k]] == row;
}

static bool failed_any(struct open_shard *o, uint64_t row)
{
    bool failed = failed_row(o, IMAGE, row) || failed_row(o, TEXT, row);
    for (int k = OTHERS; k < FOLDERS && !failed; k++)
        failed = failed_row(o, k, row);
    return failed;
}

static void count_rows(struct shard_files *s, struct open_shard *o)
{
    const struct npy *keep = &o->a[KEEP], *labels = &o->a[LABELS];
    for (uint64_t i = 0; i < s->rows; i++) {
        if (keep->data && !npy_item_i64(keep, i))
            s->dropped++;
        else if (labels->data && npy_item_i64(labels, i * labels->h.dim) < 0)
            s->no_label++;
        else if (failed_any(o, i))
            s->no_teacher++;
    }
}

static int open_one(const struct survey *v, const struct shard_files *s, int k,
                    struct open_shard *o, struct err *e)
{
    char path[PATH_MAX];
    struct npy *a = &o->a[k];
    if (path_of(v, k, s->stem, path, e) || npy_open(a, path, e))
        return -1;
    if (a->h.rows != s->rows)
        return err_set(e, "%s: has %llu rows, other files of shard %s %llu", path,
                       (unsigned long long)a->h.rows, s->stem, (unsigned long long)s->rows);
    bool embeddings = k != LABELS && k != KEEP;
    return embeddings && sidecar_open(path, s->rows, &o->side[k], e) < 0 ? -1 : 0;
}

static void count_shard(void *ctx, size_t i, int worker)
{
    struct survey *v = ctx;
    struct shard_files *s = &v->s[i];
    struct open_shard o = {0};
    (void)worker;
    for (int k = 0; k < FOLDERS && !s->bad; k++)
        s->bad = v->dir[k] && open_one(v, s, k, &o, &s->err);
    if (!s->bad)
        count_rows(s, &o);
    for (int k = 0; k < FOLDERS; k++) {
        npy_close(&o.a[k]);
        sidecar_release(&o.side[k]);
    }
}

static int count_all(struct survey *v, int threads, struct err *e)
{
    struct train_count *c = v->c;
    struct pool *pool = pool_new(threads < MAX_THREADS ? threads : MAX_THREADS, e);
    if (!pool)
        return -1;
    pool_for(pool, v->n, count_shard, v);
    pool_free(pool);
    c->shards = v->n;
    for (size_t i = 0; i < v->n; i++) {
        const struct shard_files *s = &v->s[i];
        if (s->bad) {
            *e = s->err;
            return -1;
        }
        c->rows += s->rows;
        c->dropped += s->dropped;
        c->no_teacher += s->no_teacher;
        c->no_label += s->no_label;
    }
    c->samples = c->rows - c->dropped - c->no_teacher - c->no_label;
    c->counted = true;
    return 0;
}

int train_count_read(const struct train_folders *f, bool count, int threads, struct train_count *c,
                     struct err *e)
{
    struct survey v = {
        .dir = {f->image, f->text, f->labels, f->keep}, .partial = f->partial, .c = c};
    memset(c, 0, sizeof *c);
    for (int k = OTHERS; k < FOLDERS; k++)
        v.dir[k] = f->others[(k - OTHERS) / 2][(k - OTHERS) % 2];
    if (f->partial)
        forget_unmade(&v);
    int first = first_folder(&v);
    if (first == KEEP)
        return 0; // nothing but the stream says what there is
    for (int k = 0; k < FOLDERS; k++)
        if (v.dir[k] && access(v.dir[k], R_OK | X_OK))
            return err_errno(e, "cannot open '%s'", v.dir[k]);
    int rc = f->shards ? from_list(&v, f->shards, e) : from_folder(&v, first, e);
    rc = rc || look_at_all(&v, count, e) || settle_dims(&v, e) ? -1 : 0;
    if (!rc) {
        c->dim_t = v.dir[IMAGE] ? v.dim[IMAGE] : v.dim[TEXT];
        c->n_label = v.dim[LABELS];
        for (int i = 0; i < LOSS_TEACHERS_MAX - 1; i++)
            c->dim_others[i] =
                v.dim[OTHERS + 2 * i] ? v.dim[OTHERS + 2 * i] : v.dim[OTHERS + 2 * i + 1];
        rc = count && !c->missing ? count_all(&v, threads, e) : 0;
    }
    for (size_t i = 0; i < v.n; i++)
        free(v.s[i].stem);
    free(v.s);
    return rc;
}
