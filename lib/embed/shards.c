// SPDX-License-Identifier: Apache-2.0
#include "embed/shards.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/path.h"
#include "formats/npy.h"
#include "base/url.h"
#include "read/index.h"

// "DIR/STEM.npy" of a shard, heap.
static char *beside(const char *dir, const char *shard, const char *ending, struct err *e)
{
    const char *base = path_base(shard);
    size_t stem = path_stem(base), n = strlen(dir) + stem + strlen(ending) + 2;
    char *path = mem_alloc(n, 1, e);
    if (path)
        snprintf(path, n, "%s/%.*s%s", dir, (int)stem, base, ending);
    return path;
}

// The keys that the index has: 1, 0 without one, -1.
static int index_keys(const struct embed_shards *s, const char *shard, char hex[DIGEST_HEX],
                      uint64_t *rows, struct err *e)
{
    if (!s->index_dir)
        return 0;
    char *path = beside(s->index_dir, shard, ".tsv", e);
    int rc = path ? read_index_keys(path, hex, rows, e) : -1;
    free(path);
    return rc ? -1 : 1;
}

// True if the only input of the sidecar is this shard; without a shard (`there` false), no input.
static bool same_shard(const struct sidecar *a, const char *shard, bool there)
{
    if (a->n_inputs == 0)
        return !there;
    return a->n_inputs == 1 && !strcmp(a->inputs[0].name, path_base(shard));
}

static bool older(const struct stat *a, const struct stat *b)
{
    return a->st_mtim.tv_sec != b->st_mtim.tv_sec ? a->st_mtim.tv_sec < b->st_mtim.tv_sec
                                                  : a->st_mtim.tv_nsec < b->st_mtim.tv_nsec;
}

// True if the array exists and was made as this run would make it; `keys` then gets the digest of
// its samples.
static bool one_belongs(const struct embed_shards *s, const char *shard, const char *path,
                        const char *of, char keys[DIGEST_HEX], uint64_t *rows)
{
    struct err ignored; // what cannot be read is made again
    struct npy a;
    struct sidecar side;
    struct stat mine, its;
    bool dated = !url_is(shard) && !stat(shard, &its), there = dated || url_is(shard);
    if (stat(path, &mine) || (dated && older(&mine, &its)) || npy_open(&a, path, &ignored))
        return false;
    *rows = a.h.rows;
    int rc = sidecar_open(path, a.h.rows, &side, &ignored);
    npy_close(&a);
    if (rc != 1)
        return false;
    bool yes = sidecar_same_command(&side, s->like) && !strcmp(side.model, s->like->model) &&
               side.of && !strcmp(side.of, of) && same_shard(&side, shard, there);
    memcpy(keys, side.keys, DIGEST_HEX);
    sidecar_release(&side);
    return yes;
}

// *made: the rows of the arrays that are there.
static bool belong(const struct embed_shards *s, const char *shard, const struct embed_output *o,
                   uint64_t *made)
{
    char image[DIGEST_HEX], text[DIGEST_HEX], index[DIGEST_HEX];
    uint64_t rows;
    struct err ignored;
    if (!s->resume ||
        (o->image_path && !one_belongs(s, shard, o->image_path, "image", image, made)) ||
        (o->text_path && !one_belongs(s, shard, o->text_path, "text", text, made)))
        return false;
    const char *keys = o->image_path ? image : text;
    if (o->image_path && o->text_path && strcmp(image, text) != 0)
        return false;
    int has = index_keys(s, shard, index, &rows, &ignored);
    return has == 0 || (has > 0 && !strcmp(keys, index));
}

static int name_outputs(const struct embed_shards *s, const char *shard, struct embed_item *item,
                        struct err *e)
{
    const char *dirs[] = {s->image_dir, s->text_dir};
    for (int i = 0; i < 2; i++) {
        free(item->paths[i]);
        item->paths[i] = dirs[i] ? beside(dirs[i], shard, ".npy", e) : NULL;
        if (dirs[i] && !item->paths[i])
            return -1;
    }
    item->output.image_path = item->paths[0];
    item->output.text_path = item->paths[1];
    return 0;
}

static int copy_sidecar(struct sidecar *to, const struct sidecar *from, struct err *e)
{
    if (sidecar_init(to, from->tool, e))
        return -1;
    to->args = from->n_args ? mem_alloc(from->n_args, sizeof *to->args, e) : NULL;
    if (from->n_args && !to->args)
        return -1;
    for (; to->n_args < from->n_args; to->n_args++)
        if (!(to->args[to->n_args] = mem_strdup(from->args[to->n_args], e)))
            return -1;
    memcpy(to->model, from->model, DIGEST_HEX);
    to->scale = from->scale;
    to->bias = from->bias;
    to->has_bias = from->has_bias;
    return 0;
}

int embed_shards_next(void *ctx, struct embed_item *item, struct err *e)
{
    struct embed_shards *s = ctx;
    for (; s->at < s->list->n; s->at++) {
        char **name = &s->list->names[s->at];
        if (name_outputs(s, *name, item, e))
            return -1;
        uint64_t rows;
        if (belong(s, *name, &item->output, &rows)) {
            s->passed++;
            atomic_fetch_add(&s->passed_rows, rows);
            continue;
        }
        item->number = s->at++;
        item->shard = (struct shard_list){.names = name, .n = 1};
        item->source = *s->source;
        // An index without samples is what a shard that is not there has.
        char hex[DIGEST_HEX];
        rows = 1;
        struct err ignored;
        bool none = !url_is(*name) && access(*name, F_OK) && errno == ENOENT &&
                    index_keys(s, *name, hex, &rows, &ignored) == 1 && rows == 0;
        item->source.shards = none ? NULL : &item->shard;
        return copy_sidecar(&item->sidecar, s->like, e) ? -1 : 1;
    }
    return 0;
}

int embed_shards_check(void *ctx, struct embed_item *item, struct err *e)
{
    const struct embed_shards *s = ctx;
    char hex[DIGEST_HEX], mine[DIGEST_HEX];
    uint64_t rows;
    const char *name = s->list->names[item->number];
    int rc = index_keys(s, name, hex, &rows, e);
    if (rc <= 0)
        return rc;
    digest_hex(item->index, mine);
    if (rows == item->samples && !strcmp(hex, mine))
        return 0;
    return err_set(e,
                   "%s: %llu samples were read, its index has %llu or other keys; look at the "
                   "disk, and remove its index if the shard is another now",
                   name, (unsigned long long)item->samples, (unsigned long long)rows);
}

int embed_shards_done(void *ctx, struct embed_item *item, struct err *e)
{
    (void)e;
    struct embed_shards *s = ctx;
    s->tell(s->ctx, s->list->names[item->number], item->failed ? &item->err : NULL);
    if (item->failed && !s->failed++)
        s->first = item->err;
    s->made += !item->failed;
    return 0;
}
