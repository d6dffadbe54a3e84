// SPDX-License-Identifier: Apache-2.0
#include "formats/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/path.h"
#include "base/half.h"
#include "formats/json.h"
#include "base/mem.h"
#include "formats/safetensors-header.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[ST_N_DTYPES] = {
    [ST_BOOL] = {"BOOL", 1},       [ST_U8] = {"U8", 1},           [ST_I8] = {"I8", 1},
    [ST_F8_E5M2] = {"F8_E5M2", 1}, [ST_F8_E4M3] = {"F8_E4M3", 1}, [ST_I16] = {"I16", 2},
    [ST_U16] = {"U16", 2},         [ST_F16] = {"F16", 2},         [ST_BF16] = {"BF16", 2},
    [ST_I32] = {"I32", 4},         [ST_U32] = {"U32", 4},         [ST_F32] = {"F32", 4},
    [ST_F64] = {"F64", 8},         [ST_I64] = {"I64", 8},         [ST_U64] = {"U64", 8},
};

const char *st_dtype_name(enum st_dtype t)
{
    return dtypes[t].name;
}

size_t st_dtype_size(enum st_dtype t)
{
    return dtypes[t].size;
}

int st_parse(struct safetensors *s, const void *data, size_t n, struct err *e)
{
    struct st_header h;
    memset(s, 0, sizeof *s);
    s->names = mem_alloc(1, sizeof *s->names, e);
    if (!s->names)
        return -1;
    if (st_header_read(&h, &s->names[0], data, n, e)) {
        st_close(s);
        return -1;
    }
    s->n_names = 1;
    s->tensors = h.tensors;
    s->n_tensors = h.n_tensors;
    s->meta = h.meta;
    s->n_meta = h.n_meta;
    return 0;
}

void st_close(struct safetensors *s)
{
    for (size_t i = 0; i < s->n_names; i++)
        free(s->names[i]);
    for (size_t i = 0; i < s->n_maps; i++)
        map_close(&s->maps[i]);
    free(s->names);
    free(s->maps);
    free(s->tensors);
    free(s->meta);
    memset(s, 0, sizeof *s);
}

static int open_one(struct safetensors *s, const char *path, struct err *e)
{
    struct map m;
    if (map_open(&m, path, e))
        return -1;
    struct map *maps = mem_alloc(1, sizeof *maps, e);
    if (!maps || st_parse(s, m.data, m.n, e)) {
        free(maps);
        map_close(&m);
        return err_wrap(e, "%s", path);
    }
    *maps = m;
    s->maps = maps;
    s->n_maps = 1;
    return 0;
}

// Moves one opened file's tensors into the whole; the caller made room in maps and names.
static int join(struct safetensors *s, size_t *cap, struct safetensors *one, struct err *e)
{
    if (mem_grow(&s->tensors, cap, s->n_tensors + one->n_tensors, sizeof *s->tensors, e))
        return -1;
    if (one->n_tensors)
        memcpy(s->tensors + s->n_tensors, one->tensors, one->n_tensors * sizeof *s->tensors);
    s->n_tensors += one->n_tensors;
    s->maps[s->n_maps++] = one->maps[0];
    s->names[s->n_names++] = one->names[0];
    if (s->n_maps == 1) {
        s->meta = one->meta;
        s->n_meta = one->n_meta;
        one->meta = NULL;
        one->n_meta = 0;
    }
    one->n_maps = one->n_names = 0;
    return 0;
}

struct tensor_place {
    const char *name, *file;
};

static int by_file(const void *a, const void *b)
{
    return strcmp(((const struct tensor_place *)a)->file, ((const struct tensor_place *)b)->file);
}

static int by_place_name(const void *a, const void *b)
{
    return strcmp(((const struct tensor_place *)a)->name, ((const struct tensor_place *)b)->name);
}

static int open_part(struct safetensors *s, size_t *cap, const char *dir, size_t n_dir,
                     const char *file, struct err *e)
{
    struct safetensors one;
    // A part lies beside its index: a path in an index would let it read any file.
    if (!*file || strchr(file, '/') || file[0] == '.')
        return err_set(e, "weight_map: '%.200s' is not a file name", file);
    size_t n = n_dir + strlen(file) + 1;
    char *path = mem_alloc(n, 1, e);
    if (!path)
        return -1;
    memcpy(path, dir, n_dir);
    memcpy(path + n_dir, file, n - n_dir);
    int rc = open_one(&one, path, e);
    free(path);
    if (rc)
        return -1;
    rc = join(s, cap, &one, e);
    st_close(&one);
    return rc;
}

static int open_parts(struct safetensors *s, struct tensor_place *w, size_t n, const char *path,
                      struct err *e)
{
    size_t n_dir = (size_t)(path_base(path) - path), cap = 0;
    s->maps = mem_alloc(n, sizeof *s->maps, e);
    s->names = mem_alloc(n, sizeof *s->names, e);
    if (!s->maps || !s->names)
        return -1;
    if (n)
        qsort(w, n, sizeof *w, by_file);
    for (size_t i = 0; i < n; i++)
        if ((i == 0 || strcmp(w[i].file, w[i - 1].file)) &&
            open_part(s, &cap, path, n_dir, w[i].file, e))
            return -1;
    return st_sort_tensors(s->tensors, s->n_tensors, e);
}

// Both lists sorted by name must be the same list.
static int compare_index(const struct safetensors *s, struct tensor_place *w, size_t n,
                         struct err *e)
{
    if (n)
        qsort(w, n, sizeof *w, by_place_name);
    for (size_t i = 0; i < n || i < s->n_tensors; i++) {
        int c = i == n ? 1 : i == s->n_tensors ? -1 : strcmp(w[i].name, s->tensors[i].name);
        if (i && i < n && strcmp(w[i].name, w[i - 1].name) == 0)
            return err_set(e, "weight_map: duplicate tensor '%.200s'", w[i].name);
        if (c < 0)
            return err_set(e, "weight_map: tensor '%.200s' is in no file", w[i].name);
        if (c > 0)
            return err_set(e, "tensor '%.200s' is not in weight_map", s->tensors[i].name);
    }
    return 0;
}

static int open_map(struct safetensors *s, const cJSON *map, const char *path, struct err *e)
{
    if (!cJSON_IsObject(map))
        return err_set(e, "no object weight_map");
    size_t n = 0;
    for (const cJSON *c = map->child; c; c = c->next)
        n++;
    struct tensor_place *w = mem_alloc(n, sizeof *w, e);
    if (!w)
        return -1;
    int rc = 0;
    n = 0;
    for (const cJSON *c = map->child; c && !rc; c = c->next) {
        if (!cJSON_IsString(c))
            rc = err_set(e, "weight_map: '%.200s' is not a string", c->string);
        else
            w[n++] = (struct tensor_place){c->string, c->valuestring};
    }
    if (!rc)
        rc = open_parts(s, w, n, path, e) || compare_index(s, w, n, e) ? -1 : 0;
    free(w);
    return rc;
}

static int open_index(struct safetensors *s, const char *path, struct err *e)
{
    static const struct json_limits lim = {.bytes = ST_MAX_HEADER};
    cJSON *j = json_read_file(path, &lim, e);
    if (!j)
        return -1;
    int rc = open_map(s, cJSON_GetObjectItemCaseSensitive(j, "weight_map"), path, e);
    cJSON_Delete(j);
    if (rc) {
        st_close(s);
        err_wrap(e, "%s", path);
    }
    return rc;
}

int st_open(struct safetensors *s, const char *path, struct err *e)
{
    size_t n = strlen(path);
    memset(s, 0, sizeof *s);
    return n > 5 && strcmp(path + n - 5, ".json") == 0 ? open_index(s, path, e)
                                                       : open_one(s, path, e);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct st_tensor *)a)->name, ((const struct st_tensor *)b)->name);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct st_meta *)a)->key, ((const struct st_meta *)b)->key);
}

const struct st_tensor *st_find(const struct safetensors *s, const char *name)
{
    struct st_tensor key = {.name = name};
    return s->n_tensors ? bsearch(&key, s->tensors, s->n_tensors, sizeof key, by_name) : NULL;
}

const char *st_meta_find(const struct safetensors *s, const char *key)
{
    struct st_meta k = {.key = key};
    const struct st_meta *m = s->n_meta ? bsearch(&k, s->meta, s->n_meta, sizeof k, by_key) : NULL;
    return m ? m->value : NULL;
}

// A file may put tensors at odd addresses, so they pass through an aligned buffer.
static void read_halves(const uint8_t *d, size_t n, float *out,
                        void (*convert)(const uint16_t *, float *, size_t))
{
    enum { STEP = 1024 };
    uint16_t buf[STEP];
    if (((uintptr_t)d & 1) == 0) {
        convert((const uint16_t *)(const void *)d, out, n);
        return;
    }
    for (size_t i = 0; i < n; i += STEP) {
        size_t m = n - i < STEP ? n - i : STEP;
        memcpy(buf, d + 2 * i, 2 * m);
        convert(buf, out + i, m);
    }
}

int st_read_f32(const struct st_tensor *t, size_t first, size_t n, float *out, struct err *e)
{
    if (first > t->numel || n > t->numel - first)
        return err_set(e, "tensor '%.200s': read past its end", t->name);
    if (!n)
        return 0;
    const uint8_t *d = t->data + first * st_dtype_size(t->dtype);
    double x;
    switch (t->dtype) {
    case ST_F32:
        memcpy(out, d, n * sizeof *out);
        return 0;
    case ST_F16:
        read_halves(d, n, out, half_to_f32);
        return 0;
    case ST_BF16:
        read_halves(d, n, out, bf16_to_f32);
        return 0;
    case ST_F64:
        for (size_t i = 0; i < n; i++) {
            memcpy(&x, d + 8 * i, 8);
            out[i] = (float)x;
        }
        return 0;
    default:
        return err_set(e, "tensor '%.200s': dtype %s is not supported", t->name,
                       st_dtype_name(t->dtype));
    }
}
