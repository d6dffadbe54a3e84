// SPDX-License-Identifier: Apache-2.0
#include "find/set.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "formats/npy.h"
#include "search/dot-block.h"

int find_names_get(struct path_names *s, const char *work, struct err *e)
{
    char path[PATH_BYTES];
    *s = (struct path_names){0};
    if (path_format(path, e, "%s/index", work) || path_names_of(s, path, ".tsv", e))
        return -1;
    for (size_t i = 0; i < s->n; i++)
        s->names[i][strlen(s->names[i]) - 4] = '\0';
    return 0;
}

// Takes the shards without embeddings out of the list; a path for each of the others.
static int list_paths(struct find_set *s, const char *of, char **paths, struct err *e)
{
    size_t n = 0;
    for (size_t i = 0; i < s->names.n; i++) {
        char path[PATH_BYTES];
        if (path_format(path, e, "%s/embed/%s/%s.npy", s->work, of, s->names.names[i]))
            return -1;
        if (access(path, F_OK)) {
            free(s->names.names[i]);
            s->names.names[i] = NULL;
            continue;
        }
        s->names.names[n] = s->names.names[i];
        if (n != i)
            s->names.names[i] = NULL;
        if (!(paths[n++] = mem_strdup(path, e)))
            return -1;
    }
    s->names.n = n;
    if (n)
        return 0;
    return err_set(e, "no embeddings in '%s/embed/%s': the pipeline's target embed makes them",
                   s->work, of);
}

int find_set_open(struct find_set *s, const char *work, const char *of, int threads, struct err *e)
{
    *s = (struct find_set){.work = work, .threads = threads};
    if (find_names_get(&s->names, work, e))
        return -1;
    size_t n = s->names.n;
    char **paths = mem_alloc(n + 1, sizeof *paths, e);
    int rc = paths ? list_paths(s, of, paths, e) : -1;
    if (!rc)
        rc = embedding_files_open(&s->files, (const char *const *)paths, s->names.n, e);
    for (size_t i = 0; paths && i < n; i++)
        free(paths[i]);
    free(paths);
    return rc;
}

void find_set_close(struct find_set *s)
{
    embedding_files_close(&s->files);
    path_names_free(&s->names);
}

size_t find_set_shard(const struct find_set *s, uint64_t row, uint64_t *in_shard)
{
    size_t part = npy_set_find(&s->files.set, row);
    *in_shard = row - s->files.set.parts[part].first;
    return part;
}

// The line of an index for which `match` is true: its number, or FIND_NONE. `line` gets its key.
struct index_look {
    const char *key; // the key that is looked for, or NULL
    uint64_t row;    // without key: the line
    char *to;        // gets the key
    size_t room;
};

static uint64_t look_up(const struct find_set *s, size_t shard, const struct index_look *l)
{
    char path[PATH_BYTES];
    struct err ignored; // an index that cannot be read has no keys to show
    struct map m;
    uint64_t found = FIND_NONE, n = 0;
    if (path_format(path, &ignored, "%s/index/%s.tsv", s->work, s->names.names[shard]) ||
        map_open(&m, path, &ignored))
        return FIND_NONE;
    const char *p = (const char *)m.data, *end = p ? p + m.n : p;
    for (const char *line; p < end && found == FIND_NONE; n++) {
        line = p;
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        stop = stop ? stop : end;
        p = stop < end ? stop + 1 : end;
        if (!l->key && n != l->row)
            continue;
        const char *key = memchr(line, '\t', (size_t)(stop - line));
        key = key ? key + 1 : stop;
        const char *tab = memchr(key, '\t', (size_t)(stop - key));
        size_t size = (size_t)((tab ? tab : stop) - key);
        if (l->key ? strlen(l->key) == size && !memcmp(l->key, key, size) : true) {
            found = n;
            if (l->to)
                snprintf(l->to, l->room, "%.*s", (int)(size < l->room ? size : l->room), key);
        }
    }
    map_close(&m);
    return found;
}

void find_set_key(const struct find_set *s, size_t shard, uint64_t in_shard, char *key, size_t room)
{
    const struct index_look l = {.row = in_shard, .to = key, .room = room};
    snprintf(key, room, "-");
    look_up(s, shard, &l);
}

static int find_shard(const struct find_set *s, const char *name, size_t n, size_t *shard,
                      struct err *e)
{
    for (*shard = 0; *shard < s->names.n; ++*shard)
        if (strlen(s->names.names[*shard]) == n && !memcmp(s->names.names[*shard], name, n))
            return 0;
    return err_set(e, "no shard '%.*s' in '%s'", (int)n, name, s->work);
}

int find_set_row(const struct find_set *s, const char *name, uint64_t *row, struct err *e)
{
    const char *colon = strrchr(name, ':');
    char *end;
    size_t shard;
    if (!colon || !colon[1])
        return err_set(e, "'%s' is not SHARD:KEY or SHARD:ROW", name);
    if (find_shard(s, name, (size_t)(colon - name), &shard, e))
        return -1;
    const struct npy_part *p = &s->files.set.parts[shard];
    const struct index_look l = {.key = colon + 1};
    uint64_t at = look_up(s, shard, &l);
    if (at == FIND_NONE && strspn(colon + 1, "0123456789") == strlen(colon + 1))
        at = strtoull(colon + 1, &end, 10);
    if (at >= p->rows)
        return err_set(e, "'%s': the shard has %llu rows and no such key", name,
                       (unsigned long long)p->rows);
    *row = p->first + at;
    return 0;
}

int find_set_vector(const struct find_set *s, uint64_t row, float *to, struct err *e)
{
    uint8_t state;
    uint64_t in_shard;
    if (s->files.source.read(s->files.source.ctx, row, 1, to, e))
        return -1;
    unit_rows(to, 1, s->files.set.dim, true, &state);
    size_t shard = find_set_shard(s, row, &in_shard);
    return row_failed(state)
               ? err_set(e, "row %llu of shard '%s' is a failed sample: it has no embedding",
                         (unsigned long long)in_shard, s->names.names[shard])
               : 0;
}

// Opens WORK/KIND/NAME.npy: 1, 0 there is none, -1.
static int open_column(const struct find_set *s, const char *kind, size_t shard, struct npy *a,
                       struct err *e)
{
    char path[PATH_BYTES];
    const struct npy_part *p = &s->files.set.parts[shard];
    if (path_format(path, e, "%s/%s/%s.npy", s->work, kind, s->names.names[shard]))
        return -1;
    if (access(path, F_OK))
        return 0;
    if (npy_open(a, path, e))
        return -1;
    bool whole = a->h.type == NPY_I4 || a->h.type == NPY_I8 || a->h.type == NPY_U1;
    if (whole && a->h.rows == p->rows && a->h.dim)
        return 1;
    err_set(e, "'%s' has %llu rows of %s, its embeddings %llu: it is of another run", path,
            (unsigned long long)a->h.rows, npy_type_name(a->h.type), (unsigned long long)p->rows);
    npy_close(a);
    return -1;
}

int find_set_each(const struct find_set *s, const char *kind, find_value_fn *fn, void *ctx,
                  struct err *e)
{
    size_t there = 0;
    for (size_t i = 0; i < s->names.n; i++) {
        struct npy a;
        int rc = open_column(s, kind, i, &a, e);
        if (rc < 0)
            return -1;
        if (!rc)
            continue;
        there++;
        for (uint64_t row = 0; rc > 0 && row < a.h.rows; row++)
            if (fn(ctx, s->files.set.parts[i].first + row, npy_item_i64(&a, row * a.h.dim), e))
                rc = -1;
        npy_close(&a);
        if (rc < 0)
            return -1;
    }
    return there ? 0 : err_set(e, "'%s/%s' has no arrays", s->work, kind);
}

int64_t find_set_value(const struct find_set *s, const char *kind, uint64_t row)
{
    struct err ignored; // what another run left says nothing
    struct npy a;
    uint64_t in_shard;
    size_t shard = find_set_shard(s, row, &in_shard);
    if (open_column(s, kind, shard, &a, &ignored) <= 0)
        return -1;
    int64_t value = npy_item_i64(&a, in_shard * a.h.dim);
    npy_close(&a);
    return value;
}
