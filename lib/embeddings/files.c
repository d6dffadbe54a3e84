// SPDX-License-Identifier: Apache-2.0
#include "embeddings/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/path.h"
#include "system/io.h"
#include "system/lines.h"
#include "base/mem.h"
#include "search/dot-block.h"

static int read_files(void *ctx, uint64_t first, uint64_t count, float *out, struct err *e)
{
    const struct embedding_files *f = ctx;
    return npy_set_rows(&f->set, first, count, out, e);
}

static int gather_files(void *ctx, const uint64_t *rows, size_t count, float *out, struct err *e)
{
    const struct embedding_files *f = ctx;
    return npy_set_gather(&f->set, rows, count, out, e);
}

static int read_half(void *ctx, uint64_t first, uint64_t count, uint16_t *out, struct err *e)
{
    const struct embedding_files *f = ctx;
    return npy_set_rows_f16(&f->set, first, count, out, e);
}

static int gather_half(void *ctx, const uint64_t *rows, size_t count, uint16_t *out, struct err *e)
{
    const struct embedding_files *f = ctx;
    return npy_set_gather_f16(&f->set, rows, count, out, e);
}

static void close_maps(struct embedding_files *f)
{
    for (size_t i = 0; f->maps && i < f->set.n_parts; i++)
        map_close(&f->maps[i]);
    free(f->maps);
    free(f->mapped);
    f->maps = NULL;
    f->mapped = NULL;
}

// In place only where the system has read all files already: from a cold disk, or one far away, it
// is faster to read them in order into memory of our own.
static const struct row_part *file_parts(void *ctx, size_t *n)
{
    struct embedding_files *f = ctx;
    struct err why;
    bool uniform = npy_set_all(&f->set, f->source.read_half ? NPY_F2 : NPY_F4), resident = true;
    close_maps(f);
    f->maps = uniform ? mem_alloc(f->set.n_parts, sizeof *f->maps, &why) : NULL;
    f->mapped = f->maps ? mem_alloc(f->set.n_parts, sizeof *f->mapped, &why) : NULL;
    *n = f->set.n_parts;
    for (size_t i = 0; f->mapped && i < f->set.n_parts; i++) {
        f->mapped[i].first = f->set.parts[i].first;
        if (npy_set_map(&f->set, i, &f->maps[i], &f->mapped[i].data, &resident, &why) || !resident)
            close_maps(f);
    }
    return f->mapped;
}

static int files_unchanged(void *ctx, struct err *e)
{
    return npy_set_unchanged(&((const struct embedding_files *)ctx)->set, e);
}

static int by_name(const void *x, const void *y)
{
    return strcmp(*(const char *const *)x, *(const char *const *)y);
}

// Outputs are named after the inputs: two of one name would overwrite each other.
int embeddings_check_names(const char *const *paths, size_t n, struct err *e)
{
    const char **names = mem_alloc(n, sizeof *names, e);
    int r = 0;
    if (!names)
        return -1;
    for (size_t i = 0; i < n; i++)
        names[i] = path_base(paths[i]);
    if (n)
        qsort(names, n, sizeof *names, by_name);
    for (size_t i = 1; i < n && !r; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            r = err_set(e, "two inputs are called %s", names[i]);
    free(names);
    return r;
}

// Image and text embeddings of one model lie apart: mixed up, they are a mistake.
static int same_tower(const char *a_name, const struct sidecar *a, const char *b_name,
                      const struct sidecar *b, struct err *e)
{
    if (!a->of || !b->of || strcmp(a->of, b->of) == 0)
        return 0;
    return err_set(e, "%s is of %s embeddings, %s of %s embeddings", a_name, a->of, b_name, b->of);
}

static int open_sidecars(struct embedding_files *f, struct err *e)
{
    const struct sidecar *first = NULL;
    const char *name = NULL;
    f->sidecars = mem_alloc(f->set.n_parts, sizeof *f->sidecars, e);
    if (!f->sidecars)
        return -1;
    for (size_t i = 0; i < f->set.n_parts; i++) {
        const struct npy_part *p = &f->set.parts[i];
        int r = sidecar_open(p->path, p->rows, &f->sidecars[i], e);
        if (r < 0)
            return -1;
        f->n_bare += r == 0;
        if (first && (sidecar_same_model(name, first, p->path, &f->sidecars[i], e) < 0 ||
                      same_tower(name, first, p->path, &f->sidecars[i], e)))
            return -1;
        if (!first && f->sidecars[i].model[0]) {
            first = &f->sidecars[i];
            name = p->path;
        }
    }
    return 0;
}

int embedding_files_open(struct embedding_files *f, const char *const *paths, size_t n,
                         struct err *e)
{
    *f = (struct embedding_files){0};
    if (npy_set_open(&f->set, paths, n, e))
        return -1;
    f->source =
        (struct row_source){f->set.rows, f->set.dim, f,          read_files,     gather_files,
                            NULL,        NULL,       file_parts, files_unchanged};
    if (npy_set_all(&f->set, NPY_F2)) {
        f->source.read_half = read_half;
        f->source.gather_half = gather_half;
    }
    if (embeddings_check_names(paths, n, e) || open_sidecars(f, e)) {
        embedding_files_close(f);
        return -1;
    }
    if (f->set.dim == 0) {
        embedding_files_close(f);
        return err_set(e, "rows without values");
    }
    return 0;
}

int embedding_files_open_listed(struct embedding_files *f, char *const *operands, size_t n_operands,
                                const char *files_from, struct err *e)
{
    struct lines more = {0};
    *f = (struct embedding_files){0};
    if (files_from && lines_read(&more, files_from, e))
        return -1;
    size_t n = n_operands + more.n;
    const char **paths = mem_alloc(n, sizeof *paths, e);
    int r = paths ? 0 : -1;
    for (size_t i = 0; i < n && !r; i++)
        paths[i] = i < n_operands ? operands[i] : more.line[i - n_operands];
    if (!r)
        r = embedding_files_open(f, paths, n, e);
    free(paths);
    lines_release(&more);
    return r;
}

static int check_dir(const struct embedding_files *f, const char *dir, struct err *e)
{
    for (size_t i = 0; i < f->set.n_parts; i++) {
        char *path = embedding_files_path(f, i, dir, e); // refuses an input
        int r = path ? io_check_existing(path, e) || sidecar_check(path, e) : -1;
        free(path);
        if (r)
            return -1;
    }
    return 0;
}

int embedding_files_check_outputs(const struct embedding_files *f, const char *const *files,
                                  size_t n_files, const char *const *dirs, size_t n_dirs,
                                  struct err *e)
{
    char **inputs = mem_alloc(f->set.n_parts, sizeof *inputs, e);
    if (!inputs)
        return -1;
    for (size_t i = 0; i < f->set.n_parts; i++)
        inputs[i] = f->set.parts[i].path;
    int r = io_check_apart(files, n_files, inputs, f->set.n_parts, e);
    free(inputs);
    for (size_t i = 0; i < n_dirs && !r; i++)
        r = dirs[i] ? check_dir(f, dirs[i], e) : 0;
    for (size_t i = 1; i < n_dirs && !r; i++)
        for (size_t k = 0; k < i && dirs[i] && !r; k++)
            if (dirs[k] && strcmp(dirs[i], dirs[k]) == 0)
                r = err_set(e, "two outputs go to the folder %s", dirs[i]);
    return r;
}

void embedding_files_close(struct embedding_files *f)
{
    for (size_t i = 0; f->sidecars && i < f->set.n_parts; i++)
        sidecar_release(&f->sidecars[i]);
    free(f->sidecars);
    close_maps(f);
    npy_set_close(&f->set);
    *f = (struct embedding_files){0};
}

uint64_t embedding_files_run(const struct embedding_files *f, uint64_t first, uint64_t most)
{
    if (first >= f->set.rows)
        return 0;
    const struct npy_part *p = &f->set.parts[npy_set_find(&f->set, first)];
    uint64_t left = p->first + p->rows - first;
    return left < most ? left : most;
}

static const struct sidecar *with_model(const struct embedding_files *f, const char **name)
{
    for (size_t i = 0; i < f->set.n_parts; i++)
        if (f->sidecars[i].model[0]) {
            *name = f->set.parts[i].path;
            return &f->sidecars[i];
        }
    return NULL;
}

static int same_maker(const struct embedding_files *f, const char *path, const struct sidecar *s,
                      struct err *e)
{
    const char *name;
    const struct sidecar *ours = with_model(f, &name);
    return ours && (sidecar_same_model(name, ours, path, s, e) < 0 ||
                    same_tower(name, ours, path, s, e))
               ? -1
               : 0;
}

static int check_model(const struct embedding_files *f, const char *path, uint64_t rows,
                       struct err *e)
{
    struct sidecar s;
    int r = sidecar_open(path, rows, &s, e);
    if (r > 0) {
        r = same_maker(f, path, &s, e);
        sidecar_release(&s);
    }
    return r;
}

static int check_columns(const struct embedding_files *f, const char *path, size_t dim,
                         struct err *e)
{
    return dim == f->set.dim
               ? 0
               : err_set(e, "%s has %zu columns, the embeddings have %zu", path, dim, f->set.dim);
}

int embedding_files_fit(const struct embedding_files *f, const char *path, size_t dim,
                        const struct sidecar *s, struct err *e)
{
    return check_columns(f, path, dim, e) || same_maker(f, path, s, e) ? -1 : 0;
}

float *embedding_files_centroids(const struct embedding_files *f, const char *path, size_t *k,
                                 char hex[DIGEST_HEX], struct err *e)
{
    struct npy a;
    if (npy_open(&a, path, e))
        return NULL;
    float *c = NULL;
    uint8_t *state = NULL;
    size_t items;
    if (a.h.n_dims != 2 || (a.h.type != NPY_F4 && a.h.type != NPY_F2))
        err_set(e, "%s: centroids are float32 or float16 of two dimensions", path);
    else if (check_columns(f, path, a.h.dim, e))
        ;
    else if (a.h.rows < 1 || a.h.rows > INT32_MAX || !mem_mul(a.h.rows, a.h.dim, &items))
        err_set(e, "%s: wrong number of centroids", path);
    else if (check_model(f, path, a.h.rows, e) == 0 && (c = mem_alloc(items, sizeof *c, e)))
        state = mem_alloc(a.h.rows, 1, e);
    bool good = state && npy_rows_f32(&a, 0, a.h.rows, c, e) == 0;
    if (good) {
        digest_bytes(a.data, a.h.rows * a.h.row_bytes, hex);
        unit_rows(c, a.h.rows, a.h.dim, true, state);
    }
    for (uint64_t i = 0; good && i < a.h.rows; i++)
        if (row_failed(state[i])) {
            err_set(e, "%s: centroid %llu is %s", path, (unsigned long long)i,
                    state[i] == ROW_ZERO ? "zero" : "not finite");
            good = false;
        }
    *k = a.h.rows;
    npy_close(&a);
    free(state);
    if (good)
        return c;
    free(c);
    return NULL;
}

char *embedding_files_path(const struct embedding_files *f, size_t i, const char *dir,
                           struct err *e)
{
    const char *name = path_base(f->set.parts[i].path);
    char *path = path_new(dir, name, e);
    struct stat in, out;
    if (!path)
        return NULL;
    if (stat(f->set.parts[i].path, &in) == 0 && stat(path, &out) == 0 && in.st_dev == out.st_dev &&
        in.st_ino == out.st_ino) {
        err_set(e, "%s is an input: give another folder", path);
        free(path);
        return NULL;
    }
    return path;
}

static int begin_sidecar(struct sidecar *s, const struct embeddings_origin *o, struct npy_writer *w,
                         struct err *e)
{
    if (sidecar_init(s, o->tool, e))
        return -1;
    s->seed = o->seed;
    if ((w && sidecar_set_data(s, w, e)) || sidecar_set_args(s, o->argc, o->argv, e))
        return -1;
    return o->with ? sidecar_add_input(s, o->with, o->with_hex, e) : 0;
}

static int finish(const char *path, struct sidecar *s, struct npy_writer *w, int r, struct err *e)
{
    if (!r)
        r = sidecar_write(path, s, e) || npy_commit(w, e) ? -1 : 0;
    sidecar_release(s);
    if (r)
        npy_abort(w);
    return r;
}

// w: NULL where nothing is written yet.
static int part_sidecar(const struct embedding_files *f, size_t i, struct npy_writer *w,
                        const struct embeddings_origin *o, struct sidecar *s, struct err *e)
{
    const struct sidecar *of = &f->sidecars[i];
    if (begin_sidecar(s, o, w, e))
        return -1;
    memcpy(s->keys, of->keys, sizeof s->keys);
    memcpy(s->model, of->model, sizeof s->model);
    s->of = of->of;
    return sidecar_add_input(s, f->set.parts[i].path, of->data, e);
}

int embedding_files_sidecar(const struct embedding_files *f, size_t i,
                            const struct embeddings_origin *o, struct sidecar *s, struct err *e)
{
    return part_sidecar(f, i, NULL, o, s, e);
}

int embedding_files_commit(const struct embedding_files *f, size_t i, const char *path,
                           struct npy_writer *w, const struct embeddings_origin *o, struct err *e)
{
    struct sidecar s = {0};
    return finish(path, &s, w, part_sidecar(f, i, w, o, &s, e), e);
}

int embedding_files_commit_all(const struct embedding_files *f, const char *path,
                               struct npy_writer *w, const struct embeddings_origin *o,
                               struct err *e)
{
    struct sidecar s = {0};
    int r = begin_sidecar(&s, o, w, e);
    const char *name;
    const struct sidecar *ours = with_model(f, &name);
    if (!r && ours) {
        memcpy(s.model, ours->model, sizeof s.model);
        s.of = ours->of;
    }
    for (size_t i = 0; i < f->set.n_parts && !r; i++)
        r = sidecar_add_input(&s, f->set.parts[i].path, f->sidecars[i].data, e);
    return finish(path, &s, w, r, e);
}
