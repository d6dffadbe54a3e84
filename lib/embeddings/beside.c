// SPDX-License-Identifier: Apache-2.0
// The arrays that go with the embeddings, one file a shard: labels, masks, texts.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "embeddings/files.h"
#include "search/dot-block.h"
#include "system/threads.h"

// Was the array at `path` made from the rows of part i, and (unless hex is NULL) with the centroids
// of that digest? By its sidecar: the centroids come first among its inputs, the rows last.
static int made_from(const struct embedding_files *f, size_t i, const char *path,
                     const struct sidecar *s, const char *hex, const char *centroids, struct err *e)
{
    const struct sidecar_input *with = s->n_inputs > 1 ? &s->inputs[0] : NULL;
    const struct sidecar_input *rows = s->n_inputs ? &s->inputs[s->n_inputs - 1] : NULL;
    const char *data = f->sidecars[i].data;
    if (hex && with && *with->hex && strcmp(with->hex, hex) != 0)
        return err_set(e,
                       "%s was made with other centroids ('%s') than %s: give the labels that "
                       "kmeans-cluster made with these",
                       path, with->name, centroids);
    if (rows && *rows->hex && *data && strcmp(rows->hex, data) != 0)
        return err_set(e, "%s was made from other rows than those of %s: make it again", path,
                       f->set.parts[i].path);
    return 0;
}

// A file that goes with part i row by row; path is set for messages, heap. s: its sidecar, to be
// released.
static int open_rows(const struct embedding_files *f, size_t i, const char *dir, struct npy *a,
                     struct sidecar *s, char **path, struct err *e)
{
    const struct npy_part *p = &f->set.parts[i];
    *path = embedding_files_path(f, i, dir, e);
    if (!*path || npy_open(a, *path, e))
        return -1;
    if (a->h.rows != p->rows)
        return err_set(e, "%s has %llu rows, %s has %llu", *path, (unsigned long long)a->h.rows,
                       p->path, (unsigned long long)p->rows);
    return sidecar_open(*path, a->h.rows, s, e) < 0 ||
                   sidecar_same_keys(*path, s, p->path, &f->sidecars[i], e) < 0
               ? -1
               : 0;
}

// The same for one that was made from the rows of part i (made_from).
static int open_beside(const struct embedding_files *f, size_t i, const char *dir,
                       enum npy_type type, const char *hex, const char *centroids, struct npy *a,
                       char **path, struct err *e)
{
    struct sidecar s = {0};
    int r = open_rows(f, i, dir, a, &s, path, e);
    if (!r && a->h.type != type)
        r = err_set(e, "%s: its type is %s, but %s is needed", *path, npy_type_name(a->h.type),
                    npy_type_name(type));
    if (!r)
        r = made_from(f, i, *path, &s, hex, centroids, e);
    sidecar_release(&s);
    return r;
}

int embedding_files_check_labels(const struct embedding_files *f, const char *dir, size_t top,
                                 const char *hex, const char *centroids, struct err *e)
{
    for (size_t i = 0; i < f->set.n_parts; i++) {
        struct npy a = {0};
        char *path;
        int r = open_beside(f, i, dir, NPY_I4, hex, centroids, &a, &path, e);
        if (!r && a.h.dim < top)
            r = err_set(e, "%s has %zu labels a row, %zu are needed", path, a.h.dim, top);
        npy_close(&a);
        free(path);
        if (r)
            return -1;
    }
    return 0;
}

static int part_labels(const struct embedding_files *f, size_t i, const char *dir, uint64_t first,
                       uint64_t count, size_t top, int32_t *labels, struct err *e)
{
    struct npy a = {0};
    char *path;
    int r = open_beside(f, i, dir, NPY_I4, NULL, NULL, &a, &path, e);
    if (!r && a.h.dim < top)
        r = err_set(e, "%s has %zu labels a row, %zu are needed", path, a.h.dim, top);
    const int32_t *from = a.data;
    for (uint64_t k = 0; k < count && !r; k++)
        memcpy(labels + k * top, from + (first + k) * a.h.dim, top * sizeof *labels);
    npy_close(&a);
    free(path);
    return r;
}

int embedding_files_labels(const struct embedding_files *f, const char *dir, uint64_t first,
                           uint64_t count, size_t top, int32_t *labels, struct err *e)
{
    while (count) {
        size_t i = npy_set_find(&f->set, first);
        const struct npy_part *p = &f->set.parts[i];
        uint64_t left = p->first + p->rows - first, n = left < count ? left : count;
        if (part_labels(f, i, dir, first - p->first, n, top, labels, e))
            return -1;
        first += n;
        count -= n;
        labels += n * top;
    }
    return 0;
}

static int add_mask(const struct embedding_files *f, size_t i, const char *dir, uint32_t *rows,
                    uint64_t *n, struct err *e)
{
    const struct npy_part *p = &f->set.parts[i];
    struct npy mask = {0};
    char *path;
    int r = open_beside(f, i, dir, NPY_U1, NULL, NULL, &mask, &path, e);
    if (!r && mask.h.dim != 1)
        r = err_set(e, "%s is no mask: %zu values a row", path, mask.h.dim);
    for (uint64_t k = 0; k < p->rows && !r; k++)
        if (((const uint8_t *)mask.data)[k])
            rows[(*n)++] = (uint32_t)(p->first + k);
    npy_close(&mask);
    free(path);
    return r;
}

uint32_t *embedding_files_kept(const struct embedding_files *f, const char *dir, uint64_t *n,
                               struct err *e)
{
    *n = 0;
    if (f->set.rows > UINT32_MAX) {
        err_set(e, "too many rows: %llu", (unsigned long long)f->set.rows);
        return NULL;
    }
    uint32_t *rows = mem_alloc(f->set.rows, sizeof *rows, e);
    for (size_t i = 0; rows && i < f->set.n_parts; i++)
        if (add_mask(f, i, dir, rows, n, e)) {
            free(rows);
            rows = NULL;
        }
    return rows;
}

// The digest of an array's rows as its sidecar has it, else of the rows themselves.
static int data_digest(const char *path, const struct sidecar *s, char hex[DIGEST_HEX],
                       struct err *e)
{
    struct npy a;
    if (s && *s->data) {
        memcpy(hex, s->data, DIGEST_HEX);
        return 0;
    }
    if (npy_open(&a, path, e))
        return -1;
    digest_bytes(a.data, a.h.rows * a.h.row_bytes, hex);
    npy_close(&a);
    return 0;
}

int embedding_files_digest(const struct embedding_files *f, const char *masks, struct digest *d,
                           struct err *e)
{
    char hex[DIGEST_HEX];
    for (size_t i = 0; i < f->set.n_parts; i++) {
        const struct npy_part *p = &f->set.parts[i];
        if (data_digest(p->path, &f->sidecars[i], hex, e))
            return -1;
        digest_add(d, &p->rows, sizeof p->rows);
        digest_key(d, hex);
        digest_key(d, f->sidecars[i].model);
        char *mask = masks ? embedding_files_path(f, i, masks, e) : NULL;
        int r = masks ? mask && !data_digest(mask, NULL, hex, e) ? 0 : -1 : 0;
        free(mask);
        if (r)
            return -1;
        if (masks)
            digest_key(d, hex);
    }
    return 0;
}

// Does the row have a value other than zero, and none that is not finite?
static bool usable_row(const struct npy *a, uint64_t row)
{
    const uint16_t *half = a->h.type == NPY_F2 ? (const uint16_t *)a->data + row * a->h.dim : NULL;
    const float *full = half ? NULL : (const float *)a->data + row * a->h.dim;
    bool some = false;
    for (size_t d = 0; d < a->h.dim; d++) {
        // An exponent of ones is Inf or NaN.
        if (half ? (half[d] & 0x7c00) == 0x7c00 : !isfinite(full[d]))
            return false;
        some = some || (half ? (half[d] & 0x7fff) != 0 : full[d] != 0);
    }
    return some;
}

static int add_may(const struct embedding_files *f, size_t i, const char *dir, uint8_t *may,
                   uint64_t *n, struct err *e)
{
    const struct npy_part *p = &f->set.parts[i];
    struct npy a = {0};
    struct sidecar s = {0};
    char *path;
    int r = open_rows(f, i, dir, &a, &s, &path, e);
    bool mask = !r && a.h.type == NPY_U1 && a.h.dim == 1;
    bool rows = !r && (a.h.type == NPY_F2 || a.h.type == NPY_F4) && a.h.n_dims == 2;
    if (!r && !mask && !rows)
        r = err_set(e, "%s: neither a mask (|u1) nor text embeddings (<f2, <f4)", path);
    if (!r && rows && s.of && strcmp(s.of, "image") == 0)
        r = err_set(e, "%s is of image embeddings: those of the texts are needed", path);
    for (uint64_t k = 0; k < p->rows && !r; k++) {
        bool yes = mask ? ((const uint8_t *)a.data)[k] != 0 : usable_row(&a, k);
        may[p->first + k] = yes;
        *n += !yes;
    }
    sidecar_release(&s);
    npy_close(&a);
    free(path);
    return r;
}

uint8_t *embedding_files_may(const struct embedding_files *f, const char *dir, uint64_t *n,
                             struct err *e)
{
    uint8_t *may = mem_alloc(f->set.rows, 1, e);
    *n = 0;
    for (size_t i = 0; may && i < f->set.n_parts; i++)
        if (add_may(f, i, dir, may, n, e)) {
            free(may);
            may = NULL;
        }
    return may;
}

// -- scores

struct score_pass {
    const struct embedding_files *f;
    const char *dir;
    uint64_t first, end;
    float *score;
    struct loop_error fail;
};

static int check_texts(const struct score_pass *p, size_t i, const char *path, const struct npy *a,
                       const struct sidecar *s, struct err *e)
{
    const struct embedding_files *f = p->f;
    if ((a->h.type != NPY_F2 && a->h.type != NPY_F4) || a->h.n_dims != 2)
        return err_set(e, "%s: text embeddings are <f2 or <f4 of two dimensions", path);
    if (s->of && strcmp(s->of, "image") == 0)
        return err_set(e, "%s is of image embeddings: those of the texts are needed", path);
    if (a->h.dim != f->set.dim)
        return err_set(e, "%s has %zu columns, the pictures have %zu", path, a->h.dim, f->set.dim);
    return sidecar_same_model(path, s, f->set.parts[i].path, &f->sidecars[i], e) < 0 ? -1 : 0;
}

static float cosine(const float *x, const float *y, size_t dim)
{
    double xx = dot_exact(x, x, dim), yy = dot_exact(y, y, dim), xy = dot_exact(x, y, dim);
    if (!(xx > 0 && isfinite(xx)))
        return INFINITY;
    return yy > 0 && isfinite(yy) ? (float)(xy / sqrt(xx * yy)) : NAN;
}

// The rows of part i that are asked for.
static int score_part(struct score_pass *p, size_t i, const struct npy *a, struct err *e)
{
    const struct npy_part *part = &p->f->set.parts[i];
    size_t dim = p->f->set.dim;
    uint64_t at = part->first > p->first ? part->first : p->first, end = part->first + part->rows;
    float *x = mem_alloc(2 * dim, sizeof *x, e), *y = x + dim;
    const struct row_source *s = &p->f->source;
    int r = x ? 0 : -1;
    for (end = end < p->end ? end : p->end; at < end && !r; at++) {
        r = s->read(s->ctx, at, 1, x, e) || npy_rows_f32(a, at - part->first, 1, y, e) ? -1 : 0;
        if (!r)
            p->score[at] = cosine(x, y, dim);
    }
    free(x);
    return r;
}

static void score_task(void *ctx, size_t i)
{
    struct score_pass *p = ctx;
    const struct npy_part *part = &p->f->set.parts[i];
    struct npy a = {0};
    struct sidecar s = {0};
    struct err e;
    char *path;
    if (part->first + part->rows <= p->first || part->first >= p->end)
        return;
    if (open_rows(p->f, i, p->dir, &a, &s, &path, &e) || check_texts(p, i, path, &a, &s, &e) ||
        score_part(p, i, &a, &e))
        loop_error_set(&p->fail, &e);
    sidecar_release(&s);
    npy_close(&a);
    free(path);
}

int embedding_files_scores(const struct embedding_files *f, const char *dir, uint64_t first,
                           uint64_t count, int threads, float *score, struct err *e)
{
    struct score_pass p = {
        .f = f, .dir = dir, .first = first, .end = first + count, .score = score};
    return threads_for_stop(threads, f->set.n_parts, score_task, &p, e) ||
                   loop_error_check(&p.fail, e)
               ? -1
               : 0;
}

int embedding_files_open_texts(struct embedding_files *texts, const struct embedding_files *f,
                               const char *dir, struct err *e)
{
    size_t n = f->set.n_parts;
    char **paths = mem_alloc(n, sizeof *paths, e);
    int r = paths ? 0 : -1;
    for (size_t i = 0; i < n && !r; i++)
        r = (paths[i] = embedding_files_path(f, i, dir, e)) ? 0 : -1;
    if (!r)
        r = embedding_files_open(texts, (const char *const *)paths, n, e);
    if (!r && (texts->set.rows != f->set.rows || texts->set.dim != f->set.dim)) {
        embedding_files_close(texts);
        r = err_set(e, "%s: not the texts of these rows", dir);
    }
    for (size_t i = 0; paths && i < n; i++)
        free(paths[i]);
    free(paths);
    return r;
}
