// SPDX-License-Identifier: Apache-2.0
// The source's current shard: opens it, takes its samples into the window, closes it.
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/url.h"
#include "read/shard.h"
#include "read/source-run.h"
#include "shards/shard-link.h"

enum { MEMBER_MAX = 64 << 20, SAMPLE_MAX = 80 << 20 };

// Frees the shards whose end has been handled.
static void reap(struct read_source *s)
{
    for (struct read_shard **p = &s->shards; *p;) {
        struct read_shard *one = *p;
        if (one != s->cur && atomic_load(&one->done)) {
            *p = one->next;
            read_shard_free(one);
        } else {
            p = &one->next;
        }
    }
}

static int push(struct read_events *v, enum read_kind kind, struct read_shard *shard, struct err *e)
{
    void *at = v->at;
    int rc = mem_grow(&at, &v->cap, v->n + 1, sizeof *v->at, e);
    v->at = at;
    if (rc)
        return -1;
    v->at[v->n++] = (struct read_event){.kind = kind, .shard = shard};
    return 0;
}

size_t read_place_of(const struct read_source *s, size_t i)
{
    size_t n = s->o->shards->n;
    return s->o->shuffle ? (size_t)read_order_shard(&s->order, n, i) : i;
}

// The first block of the next shard comes while the current one is read.
static void read_ahead(const struct read_source *s)
{
    if (!s->o->remote || s->next_shard >= s->o->shards->n)
        return;
    const char *next = s->o->shards->names[read_place_of(s, s->next_shard)];
    char url[SHARD_NAME_MAX];
    if (url_is(next))
        remote_ahead(s->o->remote, next);
    else if (shard_link_of(next, url) && *url)
        remote_ahead(s->o->remote, url);
}

static int open_shard(struct read_source *s, bool pass, struct err *e)
{
    s->cur_at = read_place_of(s, s->next_shard++);
    const char *path = s->o->shards->names[s->cur_at];
    reap(s);
    struct read_shard *cur = mem_alloc(1, sizeof *cur, e);
    if (!cur)
        return -1;
    cur->next = s->shards;
    s->shards = s->cur = cur;
    s->announced = false;
    cur->digest = digest_new(e);
    if (!cur->digest || read_shard_name(cur, path, e))
        return -1;
    struct shard_limits lim = {.member_bytes = MEMBER_MAX,
                               .sample_bytes = SAMPLE_MAX,
                               .scan = pass,
                               .keys = s->keys,
                               .remote = s->o->remote};
    s->cur_read = 0;
    s->shard = shard_open(path, &lim, e);
    if (!s->shard)
        return err_wrap(e, "%s", cur->path);
    read_ahead(s);
    if (s->o->keep && read_keep_open(&s->keep, s->o->keep, cur->name, e))
        return -1;
    return s->o->group_labels ? read_group_open(&s->group, s->o->group_labels, cur->name, e) : 0;
}

// The end of a shard goes before the window's samples where it can: its files may be closed then.
static struct read_events *end_place(struct read_source *s)
{
    for (size_t i = s->window.n; i-- > 0;)
        if (s->window.at[i].shard == s->cur)
            return &s->after;
    return &s->before;
}

// The current shard will give no more samples: `ended` says that its end was reached.
static int close_shard(struct read_source *s, bool ended, struct err *e)
{
    struct read_shard *cur = s->cur;
    digest_hex(cur->digest, cur->keys);
    cur->whole = cur->counted = ended && !cur->damaged;
    int rc = 0;
    if (s->o->keep && ended) {
        rc = read_keep_check(&s->keep, cur->rows, cur->keys, e);
        if (rc)
            err_wrap(e, "%s", cur->path);
    }
    if (!rc && s->o->group_labels && ended && !cur->damaged) {
        rc = read_group_check(&s->group, cur->rows, cur->keys, e);
        if (rc)
            err_wrap(e, "%s", cur->path);
    }
    read_keep_close(&s->keep);
    read_group_close(&s->group);
    shard_close(s->shard);
    struct read_events *place = end_place(s);
    s->shard = NULL;
    s->cur = NULL;
    if (!s->announced)
        atomic_store(&cur->done, true);
    else if (!rc)
        rc = push(place, READ_END, cur, e);
    return rc;
}

static int announce(struct read_source *s, struct err *e)
{
    if (s->announced)
        return 0;
    s->announced = true;
    return push(&s->before, READ_BEGIN, s->cur, e);
}

// Copies one member into the block at *at.
static const uint8_t *put(char **at, const struct shard_member *m)
{
    uint8_t *p = (uint8_t *)*at;
    memcpy(p, m->data, m->size);
    p[m->size] = 0;
    *at += m->size + 1;
    return p;
}

static int copy_sample(const struct read_options *o, const struct shard_sample *from,
                       struct read_sample *to, struct err *e)
{
    const struct shard_member *image = o->images != SAMPLES_NO_IMAGES ? from->image : NULL;
    const struct shard_member *caption = o->captions && !o->caption ? from->caption : NULL;
    size_t key = strlen(from->key) + 1;
    // the limits of open_shard keep the sum far from overflow
    size_t n = key + (image ? image->size + 1 : 0) + (caption ? caption->size + 1 : 0) +
               (from->json ? from->json->size + 1 : 0);
    char *at = mem_alloc(n, 1, e);
    if (!at)
        return -1;
    *to = (struct read_sample){.key = at,
                               .ordinal = from->index,
                               .flags = from->flags,
                               .has_image = from->image != NULL,
                               .has_caption = from->caption != NULL,
                               .has_json = from->json != NULL};
    memcpy(at, from->key, key);
    at += key;
    if (image) {
        to->image_size = image->size;
        to->image = put(&at, image);
    }
    if (caption) {
        to->caption_size = caption->size;
        to->caption = put(&at, caption);
    }
    if (from->json) {
        to->json_size = from->json->size;
        to->json = put(&at, from->json);
    }
    return 0;
}

static int drop_sample(struct read_source *s, const struct shard_sample *from,
                       enum sample_status why, const char *reason, bool pass, struct err *e)
{
    s->cur->dropped++;
    if (pass || !read_in_slice(s, s->seen))
        return 0;
    if (announce(s, e) || push(&s->before, READ_DROPPED, s->cur, e))
        return -1;
    struct read_event *ev = &s->before.at[s->before.n - 1];
    size_t key = strlen(from->key) + 1, more = strlen(reason) + 1;
    char *block = mem_alloc(key + more, 1, e);
    if (!block)
        return -1;
    memcpy(block, from->key, key);
    memcpy(block + key, reason, more);
    ev->sample.ordinal = from->index;
    ev->sample.key = block;
    ev->dropped = why;
    ev->reason = block + key;
    return 0;
}

// At the end of the current shard: are there as many samples as the parts were cut by?
static int check_count(const struct read_source *s, struct err *e)
{
    uint64_t n = s->cur->rows - s->cur->dropped;
    if (!s->counts || s->counts[s->cur_at] == n)
        return 0;
    err_set(e, "%llu samples, and the counts say %llu: the parts would not fit together",
            (unsigned long long)n, (unsigned long long)s->counts[s->cur_at]);
    return err_wrap(e, "%s", s->cur->path);
}

static void tell_bytes(struct read_source *s)
{
    uint64_t at = s->o->bytes ? shard_position(s->shard) : 0;
    if (at > s->cur_read) {
        atomic_fetch_add(s->o->bytes, at - s->cur_read);
        s->cur_read = at;
    }
}

enum { END_RUN = -2 };

// shard_next for the current shard: 1 a sample, 0 its end, -1 its end by damage, which the shard
// keeps. END_RUN with e set: the machine failed, and what the shard holds is not known.
static int next_sample(struct read_source *s, struct shard_sample *to, struct err *e)
{
    struct err why;
    int rc = shard_next(s->shard, to, &why);
    tell_bytes(s);
    if (rc >= 0)
        return rc;
    if (why.machine) {
        *e = why;
        err_wrap(e, "%s", s->cur->path);
        return END_RUN;
    }
    s->cur->damaged = true;
    s->cur->damage = why;
    return -1;
}

// *why: SAMPLE_OK, or why the masks or --select leave the sample out, with the reason. 0 or -1.
static int judge(struct read_source *s, const struct shard_sample *from, enum sample_status *why,
                 struct err *reason, struct err *e)
{
    int kept = s->o->keep ? read_keep_row(&s->keep, from->index, e) : 1;
    if (kept < 0)
        return err_wrap(e, "%s", s->cur->path);
    *reason = (struct err){.text = "keep mask"};
    *why = kept ? SAMPLE_OK : SAMPLE_NOT_KEPT;
    if (kept && s->o->select)
        *why = select_sample(s->o->select, from->json ? from->json->data : NULL,
                             from->json ? from->json->size : 0, reason);
    return 0;
}

static int take_label(struct read_source *s, uint64_t row, struct err *e)
{
    void *p = s->labels;
    int rc = mem_grow(&p, &s->cap_labels, s->n_labels + 1, sizeof *s->labels, e);
    s->labels = p;
    if (rc || read_group_label(&s->group, row, &s->labels[s->n_labels], e))
        return rc ? -1 : err_wrap(e, "%s", s->cur->path);
    s->n_labels++;
    return 0;
}

int read_take(struct read_source *s, bool pass, struct err *e)
{
    for (;;) {
        struct shard_sample from;
        if (!s->shard) {
            if (s->next_shard == s->o->shards->n)
                return 0;
            if (open_shard(s, pass, e))
                return -1;
        }
        if (!pass && announce(s, e))
            return -1;
        shard_pass_over(s->shard, pass && !s->o->select); // its fields have to be read
        int rc = next_sample(s, &from, e);
        if (rc == END_RUN)
            return -1;
        if (rc <= 0) {
            if (check_count(s, e) || close_shard(s, true, e))
                return -1;
            continue;
        }
        s->cur->rows++;
        digest_key(s->cur->digest, from.key);
        struct err reason;
        enum sample_status why = SAMPLE_OK;
        if (judge(s, &from, &why, &reason, e))
            return -1;
        if (why != SAMPLE_OK) {
            if (drop_sample(s, &from, why, reason.text, pass, e))
                return -1;
            continue;
        }
        s->seen++;
        if (s->o->group_labels && take_label(s, from.index, e))
            return -1;
        if (read_skip_key(&s->skip, from.key, e))
            return -1;
        if (pass)
            return 1;
        if (push(&s->window, READ_SAMPLE, s->cur, e))
            return -1;
        return copy_sample(s->o, &from, &s->window.at[s->window.n - 1].sample, e) ? -1 : 1;
    }
}

// Reads the headers up to the end of a shard that the slice leaves early, so that its keys are
// known. Only a file is read on: a pipe may have no end, and --limit of a remote shard must not
// fetch the rest of it. What is damaged there is no fault of the slice. 1 when the end was reached,
// 0 when not, -1.
static int read_on(struct read_source *s, struct shard_sample *from, struct err *e)
{
    struct stat st;
    struct err why;
    int rc = 1;
    if (shard_is_remote(s->shard)
            ? s->o->limit != READ_ALL
            : strcmp(s->cur->path, "-") == 0 || stat(s->cur->path, &st) || !S_ISREG(st.st_mode))
        return 0;
    for (; rc > 0; rc = shard_next(s->shard, from, &why)) {
        s->cur->rows++;
        digest_key(s->cur->digest, from->key);
    }
    if (rc == 0 || !why.machine)
        return rc == 0;
    *e = why;
    return err_wrap(e, "%s", s->cur->path);
}

int read_stop(struct read_source *s, struct err *e)
{
    struct shard_sample from;
    s->stopped = true;
    if (!s->shard)
        return 0;
    shard_pass_over(s->shard, true);
    int rc = next_sample(s, &from, e);
    if (rc == END_RUN)
        return -1;
    rc = rc > 0 ? read_on(s, &from, e) : 1;
    return rc < 0 ? -1 : close_shard(s, rc, e);
}
