// SPDX-License-Identifier: Apache-2.0
#include "read/index-shards.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/path.h"
#include "base/url.h"
#include "read/index.h"
#include "system/io.h"

// One shard on its way.
struct one {
    struct index_shards *all;
    char index[PATH_BYTES], missing[PATH_BYTES], damaged[PATH_BYTES];
    struct out out;
    bool unwritten; // an error of the outputs, which the next shard would have too
};

static int name_files(struct one *o, const char *path, struct err *e)
{
    const char *dir = o->all->dir, *base = path_base(path);
    int n = (int)path_stem(base);
    return path_format(o->index, e, "%s/%.*s.tsv", dir, n, base) ||
                   path_format(o->missing, e, "%s/%.*s.missing", dir, n, base) ||
                   path_format(o->damaged, e, "%s/%.*s.damaged", dir, n, base)
               ? -1
               : 0;
}

static bool older(const struct stat *a, const struct stat *b)
{
    return a->st_mtim.tv_sec != b->st_mtim.tv_sec ? a->st_mtim.tv_sec < b->st_mtim.tv_sec
                                                  : a->st_mtim.tv_nsec < b->st_mtim.tv_nsec;
}

// Is the index there, and of the shard as it is now?
static bool is_done(const struct one *o, bool gone, const struct stat *shard)
{
    struct stat index;
    if (!o->all->resume || stat(o->index, &index))
        return false;
    bool marked = access(o->missing, F_OK) == 0;
    return marked == gone && !(shard && older(&index, shard));
}

static int write_mark(const char *path, const char *text, struct err *e)
{
    struct out o;
    if (out_open(&o, path, e))
        return -1;
    int rc = out_write(&o, text, strlen(text), e) || out_write(&o, "\n", 1, e) || out_commit(&o, e)
                 ? -1
                 : 0;
    out_abort(&o);
    return rc;
}

static int on_begin(void *ctx, struct read_shard *s, struct err *e)
{
    (void)ctx, (void)s, (void)e;
    return 0;
}

static int on_sample(void *ctx, struct read_shard *s, const struct samples_record *r, bool bad,
                     struct err *e)
{
    struct one *o = ctx;
    o->unwritten = read_index_line(&o->out, r, NULL, e) != 0;
    return o->unwritten ? -1 : o->all->sample(o->all->ctx, s, r, bad, e);
}

static int on_end(void *ctx, struct read_shard *s, struct err *e)
{
    struct one *o = ctx;
    if (!s->damaged)
        return 0;
    struct err why = s->damage;
    err_wrap(&why, "%s", s->path);
    o->all->damaged++;
    o->all->tell(o->all->ctx, INDEX_DAMAGED, &why);
    o->unwritten = write_mark(o->damaged, why.text, e) != 0;
    return o->unwritten ? -1 : 0;
}

static int read_one(struct one *o, char *path, struct err *e)
{
    struct shard_list list = {.names = &path, .n = 1};
    struct read_options read = *o->all->read;
    const struct read_sink sink = {o, on_begin, on_sample, on_end, NULL};
    read.shards = &list;
    return read_run(&read, &sink, e);
}

// What is known of a shard that is not there.
static int mark_missing(struct one *o, const char *path, struct err *e)
{
    struct err why;
    err_set(&why, "'%s' is missing", path);
    o->all->missing++;
    o->all->tell(o->all->ctx, INDEX_MISSING, &why);
    o->unwritten = write_mark(o->missing, "no such file", e) != 0;
    return o->unwritten ? -1 : 0;
}

// Old marks and the old index go first: a mark is never of another index than the one beside it.
static int remove_old(struct one *o, struct err *e)
{
    const char *all[] = {o->index, o->missing, o->damaged};
    for (size_t i = 0; i < 3; i++)
        if (unlink(all[i]) && errno != ENOENT)
            return err_errno(e, "cannot remove '%s'", all[i]);
    return 0;
}

static int index_one(struct one *o, char *path, struct err *e)
{
    struct stat st;
    bool dated = !url_is(path) && stat(path, &st) == 0;
    bool gone = !url_is(path) && !dated && errno == ENOENT;
    if (name_files(o, path, e))
        return -1;
    if (is_done(o, gone, dated ? &st : NULL)) {
        o->all->passed++;
        o->all->passed_bytes += dated ? (uint64_t)st.st_size : 0;
        return 0;
    }
    o->unwritten = remove_old(o, e) || out_open(&o->out, o->index, e);
    if (o->unwritten || (gone ? mark_missing(o, path, e) : read_one(o, path, e)))
        return -1;
    o->unwritten = out_commit(&o->out, e) != 0;
    o->all->made += !o->unwritten;
    return o->unwritten ? -1 : 0;
}

int index_shards_run(struct index_shards *s, struct err *e)
{
    const struct shard_list *l = s->read->shards;
    for (size_t i = 0; i < l->n; i++) {
        struct one o = {.all = s};
        int rc = index_one(&o, l->names[i], e);
        out_abort(&o.out);
        if (!rc)
            continue;
        if (o.unwritten)
            return -1;
        if (!s->failed++)
            s->first = *e;
        s->tell(s->ctx, INDEX_FAILED, e);
    }
    return s->failed ? err_set(e, "%zu of %zu shards failed, the first: %s", s->failed, l->n,
                               s->first.text)
                     : 0;
}
