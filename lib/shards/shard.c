// SPDX-License-Identifier: Apache-2.0
#include "shards/shard.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/path.h"
#include "base/mem.h"
#include "shards/shard-input.h"
#include "shards/shard-keys.h"

enum { GROW_STEP = 1 << 20 };

#define SHORT_MEMBER "truncated (member shorter than its header says)"

// A member while its sample is being gathered: places in the buffer, which may still move.
struct member_place {
    size_t ext, data, size;
};

struct shard {
    struct shard_input in;
    struct shard_limits lim;
    struct shard_keys *own;  // when the caller gave none
    struct shard_keys *keys; // the caller's, or own
    uint32_t number;         // of this shard in keys
    bool pass_over;
    struct err fail; // the error that ended the shard
    bool failed, ended;
    struct archive_entry *entry; // header read, data not yet: begins or goes on with a sample
    const char *name, *ext;      // of entry
    size_t key_len;              // of name
    char *buf;                   // key, extensions and bytes of the current sample
    size_t len, cap;
    struct member_place *place;
    size_t n, place_cap;
    struct shard_member *member;
    size_t member_cap;
    size_t last_n;    // members of the sample before
    size_t bytes;     // of the members of the current sample
    bool passed_over; // the last member was over the limits: its bytes are read by the next header
    unsigned flags;
    uint64_t index;
};

bool shard_split_name(const char *name, const char **key, size_t *key_len, const char **ext)
{
    while (name[0] == '.' && name[1] == '/')
        for (name += 2; *name == '/';)
            name++;
    size_t first = strcspn(name, "/");
    if (first >= 4 && memcmp(name, "__", 2) == 0 && memcmp(name + first - 2, "__", 2) == 0)
        return false;
    const char *last = path_base(name);
    const char *dot = strchr(last, '.');
    if (!dot || dot == last || !dot[1])
        return false;
    *key = name;
    *key_len = (size_t)(dot - name);
    *ext = dot + 1;
    return true;
}

static size_t or_default(size_t v, size_t d)
{
    return v ? v : d;
}

static struct shard *new_shard(const struct shard_limits *lim, struct err *e)
{
    struct shard *s = mem_alloc(1, sizeof *s, e);
    if (!s)
        return NULL;
    if (lim)
        s->lim = *lim;
    s->lim.member_bytes = or_default(s->lim.member_bytes, (size_t)256 << 20);
    s->lim.sample_bytes = or_default(s->lim.sample_bytes, (size_t)512 << 20);
    s->lim.name_bytes = or_default(s->lim.name_bytes, 4096);
    s->lim.members = or_default(s->lim.members, 64);
    s->keys = s->lim.keys ? s->lim.keys : (s->own = shard_keys_new(e));
    if (!s->keys) {
        free(s);
        return NULL;
    }
    s->number = shard_keys_begin(s->keys);
    return s;
}

// For the end of an opening; a shard that failed to open is closed.
static struct shard *opened(struct shard *s, int rc)
{
    if (!rc)
        return s;
    shard_close(s);
    return NULL;
}

struct shard *shard_open(const char *path, const struct shard_limits *limits, struct err *e)
{
    struct shard *s = new_shard(limits, e);
    return s ? opened(s, shard_input_open(&s->in, path, s->lim.scan, s->lim.remote, e)) : NULL;
}

struct shard *shard_open_memory(const void *data, size_t size, const struct shard_limits *limits,
                                struct err *e)
{
    struct shard *s = new_shard(limits, e);
    return s ? opened(s, shard_input_open_memory(&s->in, data, size, e)) : NULL;
}

void shard_close(struct shard *s)
{
    if (!s)
        return;
    shard_input_close(&s->in);
    shard_keys_free(s->own);
    free(s->buf);
    free(s->place);
    free(s->member);
    free(s);
}

static int fail(struct shard *s)
{
    s->failed = true;
    return -1;
}

static int take_entry(struct shard *s, struct archive_entry *entry)
{
    errno = 0;
    const char *name = archive_entry_pathname(entry);
    if (!name) // a name the locale cannot hold
        name = archive_entry_pathname_utf8(entry);
    if (errno == ENOMEM)
        return err_machine(&s->fail, "cannot read: out of memory"), fail(s);
    if (!name)
        return err_set(&s->fail, "unreadable member name"), fail(s);
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry))
        return 0;
    size_t len = strlen(name);
    if (len > s->lim.name_bytes)
        return err_set(&s->fail, "member name of %zu bytes, at most %zu", len, s->lim.name_bytes),
               fail(s);
    if (shard_split_name(name, &s->name, &s->key_len, &s->ext))
        s->entry = entry;
    return 0;
}

// Moves to the next member of any sample. 1, 0 at the end, -1 with s->fail set.
static int next_entry(struct shard *s)
{
    while (!s->entry) {
        struct archive_entry *entry;
        int rc = shard_input_next(&s->in, &entry, &s->fail);
        if (rc < 0)
            return fail(s);
        if (rc == 0)
            return s->ended = true, 0;
        if (take_entry(s, entry))
            return -1;
    }
    return 1;
}

// mem_grow for any type of pointer.
static int grow(struct shard *s, void **p, size_t *cap, size_t need, size_t size)
{
    return mem_grow(p, cap, need, size, &s->fail) ? fail(s) : 0;
}

static int reserve(struct shard *s, size_t more)
{
    size_t need;
    if (!mem_add(s->len, more, &need))
        return err_set(&s->fail, "sample too large"), fail(s);
    void *p = s->buf;
    int rc = grow(s, &p, &s->cap, need, 1);
    s->buf = p;
    return rc;
}

static int put_text(struct shard *s, const char *p, size_t n, bool lower)
{
    if (reserve(s, n + 1))
        return -1;
    for (size_t i = 0; i < n; i++)
        s->buf[s->len + i] = (char)(lower && p[i] >= 'A' && p[i] <= 'Z' ? p[i] + 32 : p[i]);
    s->buf[s->len + n] = 0;
    s->len += n + 1;
    return 0;
}

// Reads the bytes of the current entry. The buffer grows with the bytes that arrive, so a false
// size in a header costs no memory.
static int put_data(struct shard *s, size_t size)
{
    size_t done = 0;
    while (done < size) {
        size_t step = size - done < GROW_STEP ? size - done : GROW_STEP;
        if (reserve(s, step + 1))
            return -1;
        ssize_t n = shard_input_read(&s->in, s->buf + s->len, step, &s->fail);
        if (n < 0)
            return fail(s);
        if (n == 0)
            return err_set(&s->fail, SHORT_MEMBER), fail(s);
        s->len += (size_t)n;
        done += (size_t)n;
    }
    if (reserve(s, 1))
        return -1;
    s->buf[s->len++] = 0;
    return 0;
}

// The bytes of a sparse member: the archive holds fewer than its size, so whether they are there is
// only found by reading them.
static int read_over(struct shard *s, size_t size)
{
    char part[4096];
    for (size_t done = 0; done < size;) {
        size_t step = size - done < sizeof part ? size - done : sizeof part;
        ssize_t n = shard_input_read(&s->in, part, step, &s->fail);
        if (n < 0)
            return fail(s);
        if (n == 0)
            return err_set(&s->fail, SHORT_MEMBER), fail(s);
        done += (size_t)n;
    }
    return 0;
}

// The bytes of the current entry are left for the next header to skip; that they are in the file is
// checked here, as a reader of the bytes would find out.
static int skip_data(struct shard *s, size_t size, bool sparse)
{
    if (sparse && read_over(s, size))
        return -1;
    if (!sparse && archive_filter_code(s->in.a, 0) == ARCHIVE_FILTER_NONE && s->in.size >= 0) {
        int64_t at = archive_filter_bytes(s->in.a, 0);
        if (at > s->in.size || (int64_t)size > s->in.size - at)
            return err_set(&s->fail, "truncated"), fail(s);
    }
    if (reserve(s, 1))
        return -1;
    s->buf[s->len++] = 0;
    return 0;
}

void shard_pass_over(struct shard *s, bool on)
{
    s->pass_over = on;
}

uint64_t shard_position(const struct shard *s)
{
    int64_t at = archive_filter_bytes(s->in.a, -1);
    return at > 0 ? (uint64_t)at : 0;
}

bool shard_is_remote(const struct shard *s)
{
    return s->in.object != NULL;
}

// Whether the pending entry goes on with the current sample.
static bool belongs(const struct shard *s)
{
    if (strncmp(s->buf, s->name, s->key_len) != 0 || s->buf[s->key_len])
        return false;
    for (size_t i = 0; i < s->n; i++)
        if (strcasecmp(s->buf + s->place[i].ext, s->ext) == 0)
            return false;
    return true;
}

static int put_member(struct shard *s)
{
    int64_t size = archive_entry_size(s->entry);
    if (s->n >= s->lim.members)
        return err_set(&s->fail, "more than %zu members", s->lim.members), fail(s);
    if (size < 0)
        return err_set(&s->fail, "negative member size"), fail(s);
    void *at = s->place;
    int rc = grow(s, &at, &s->place_cap, s->n + 1, sizeof *s->place);
    s->place = at;
    if (rc)
        return -1;
    struct member_place *p = &s->place[s->n];
    p->ext = s->len;
    if (put_text(s, s->ext, strlen(s->ext), true))
        return -1;
    bool sparse = archive_entry_sparse_count(s->entry) > 0;
    s->entry = NULL;
    s->passed_over =
        (uint64_t)size > s->lim.member_bytes || (uint64_t)size > s->lim.sample_bytes - s->bytes;
    if (s->passed_over) {
        s->flags |= SHARD_OVERSIZE;
        s->len = p->ext;
        return 0;
    }
    p->data = s->len;
    p->size = (size_t)size;
    if (s->pass_over ? skip_data(s, p->size, sparse) : put_data(s, p->size))
        return -1;
    s->bytes += p->size;
    s->n++;
    return 0;
}

// Gathers one sample into buf. 1, 0 when there is none, -1 when the shard failed before it.
static int gather(struct shard *s)
{
    s->len = s->n = s->bytes = 0;
    s->flags = 0;
    int rc = next_entry(s);
    if (rc <= 0)
        return rc;
    if (put_text(s, s->name, s->key_len, false))
        return -1;
    do {
        if (put_member(s))
            return -1;
        rc = next_entry(s);
    } while (rc > 0 && belongs(s));
    // cut off between two members, which cannot be detected
    return rc < 0 && (s->passed_over || s->n < s->last_n) ? -1 : 1;
}

static int check_key(struct shard *s)
{
    int rc = shard_keys_add(s->keys, s->number, s->buf, strlen(s->buf), &s->fail);
    if (rc > 0)
        s->flags |= rc == 1 ? SHARD_DUPLICATE : SHARD_DUPLICATE_OTHER;
    return rc < 0 ? fail(s) : 0;
}

const struct shard_member *shard_find(const struct shard_sample *s, const char *ext)
{
    for (size_t i = 0; i < s->n_members; i++)
        if (strcmp(s->members[i].ext, ext) == 0)
            return &s->members[i];
    return NULL;
}

static int fill(struct shard *s, struct shard_sample *out)
{
    static const char *const images[] = {"jpg", "png", "jpeg", "webp"};
    void *p = s->member;
    int rc = grow(s, &p, &s->member_cap, s->n + 1, sizeof *s->member);
    s->member = p;
    if (rc)
        return -1;
    for (size_t i = 0; i < s->n; i++)
        s->member[i] = (struct shard_member){.ext = s->buf + s->place[i].ext,
                                             .data = (uint8_t *)s->buf + s->place[i].data,
                                             .size = s->pass_over ? 0 : s->place[i].size};
    *out = (struct shard_sample){.index = s->index,
                                 .key = s->buf,
                                 .flags = s->flags,
                                 .members = s->member,
                                 .n_members = s->n};
    for (size_t i = 0; i < sizeof images / sizeof *images && !out->image; i++)
        out->image = shard_find(out, images[i]);
    out->caption = shard_find(out, "txt");
    out->json = shard_find(out, "json");
    s->last_n = s->n;
    s->index++;
    return 0;
}

int shard_next(struct shard *s, struct shard_sample *out, struct err *e)
{
    *out = (struct shard_sample){0};
    int rc = s->failed ? -1 : s->ended ? 0 : gather(s);
    if (rc > 0 && (check_key(s) || fill(s, out)))
        rc = -1;
    if (rc >= 0)
        return rc;
    *e = s->fail;
    return err_wrap(e, "record %llu", (unsigned long long)s->index);
}
