// SPDX-License-Identifier: Apache-2.0
// The file: "KMEANS2\n", the tag and the sizes, the arrays, and XXH3-64 of all that.
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "system/digest.h"
#include "system/io.h"
#include "cluster/kmeans.h"
#include "base/mem.h"

static const char magic[8] = {'K', 'M', 'E', 'A', 'N', 'S', '2', '\n'};

struct state_head {
    char magic[8];
    char options[40], rows[40];
    int64_t level, iteration;
    uint64_t k1, dim, k;
};

void kmeans_state_release(struct kmeans_state *s)
{
    free(s->coarse);
    free(s->centroids);
    free(s->done);
    *s = (struct kmeans_state){0};
}

// The arrays in their order, with their sizes in bytes.
struct arrays {
    void *at[3];
    size_t n[3];
};

static int arrays_of(const struct kmeans_state *s, struct arrays *a, struct err *e)
{
    size_t coarse, all;
    if (!mem_mul(s->k1, s->dim, &coarse) || !mem_mul(coarse, 4, &coarse) ||
        !mem_mul(s->k, s->dim, &all) || !mem_mul(all, 4, &all))
        return err_set(e, "too many centroids: %zu x %zu", s->k, s->dim);
    *a = (struct arrays){{s->coarse, s->centroids, s->done}, {coarse, all, s->k1}};
    return 0;
}

int kmeans_state_save(const struct kmeans_state *s, const struct kmeans_tag *tag, const char *path,
                      struct err *e)
{
    struct out o = {.fd = -1};
    struct arrays a;
    struct state_head h = {
        .level = s->level, .iteration = s->iteration, .k1 = s->k1, .dim = s->dim, .k = s->k};
    struct digest *d = digest_new(e);
    uint64_t sum = 0;
    char hex[DIGEST_HEX];
    memcpy(h.magic, magic, sizeof magic);
    memcpy(h.options, tag->options, sizeof tag->options);
    memcpy(h.rows, tag->rows, sizeof tag->rows);
    int r = !d || arrays_of(s, &a, e) || out_open(&o, path, e) || out_write(&o, &h, sizeof h, e);
    if (d)
        digest_add(d, &h, sizeof h);
    for (int i = 0; i < 3 && !r; i++) {
        if (!a.n[i])
            continue;
        digest_add(d, a.at[i], a.n[i]);
        r = out_write(&o, a.at[i], a.n[i], e);
    }
    if (!r) {
        digest_hex(d, hex);
        sum = digest_u64(hex, sizeof hex);
        r = out_write(&o, &sum, sizeof sum, e) || out_commit(&o, e);
    }
    out_abort(&o);
    digest_free(d);
    return r ? -1 : 0;
}

static int parse(struct kmeans_state *s, const struct kmeans_tag *tag, const struct map *m,
                 struct err *e)
{
    struct state_head h;
    struct arrays a;
    char hex[DIGEST_HEX];
    uint64_t sum;
    if (m->n < sizeof magic + 8 || memcmp(m->data, magic, 6) != 0)
        return err_set(e, "not a k-means checkpoint");
    digest_bytes(m->data, m->n - 8, hex);
    memcpy(&sum, m->data + m->n - 8, 8);
    if (sum != digest_u64(hex, sizeof hex))
        return err_set(e, "damaged checkpoint");
    if (memcmp(m->data, magic, sizeof magic) != 0) {
        err_set(e, "checkpoint of another version");
        return 2;
    }
    if (m->n < sizeof h + 8)
        return err_set(e, "damaged checkpoint");
    memcpy(&h, m->data, sizeof h);
    h.options[sizeof h.options - 1] = h.rows[sizeof h.rows - 1] = 0;
    bool options = strcmp(h.options, tag->options) != 0, rows = strcmp(h.rows, tag->rows) != 0;
    if (options || rows) {
        err_set(e, "checkpoint of a run with other %s",
                !rows     ? "options"
                : options ? "options and rows"
                          : "inputs or masks");
        return 2;
    }
    *s = (struct kmeans_state){
        .level = (int)h.level, .iteration = (int)h.iteration, .k1 = h.k1, .dim = h.dim, .k = h.k};
    if (h.level < 1 || h.level > 2 || h.iteration < 0 || arrays_of(s, &a, e) ||
        sizeof h + a.n[0] + a.n[1] + a.n[2] + 8 != m->n)
        return err_set(e, "damaged checkpoint");
    s->coarse = s->k1 ? mem_alloc(a.n[0], 1, e) : NULL;
    s->done = s->k1 ? mem_alloc(a.n[2], 1, e) : NULL;
    s->centroids = mem_alloc(a.n[1], 1, e);
    if (!s->centroids || (s->k1 && (!s->coarse || !s->done)))
        return -1;
    const uint8_t *from = m->data + sizeof h;
    void *to[3] = {s->coarse, s->centroids, s->done};
    for (int i = 0; i < 3; from += a.n[i++])
        if (a.n[i])
            memcpy(to[i], from, a.n[i]);
    return 1;
}

int kmeans_state_load(struct kmeans_state *s, const struct kmeans_tag *tag, const char *path,
                      struct err *e)
{
    struct map m;
    *s = (struct kmeans_state){0};
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return 0;
    if (map_open(&m, path, e))
        return -1;
    int r = parse(s, tag, &m, e);
    map_close(&m);
    if (r == 1)
        return 1;
    kmeans_state_release(s);
    err_wrap(e, "%s", path);
    return r;
}
