// SPDX-License-Identifier: Apache-2.0
// The reader. The stream is not trusted: a length is checked against its limit, memory grows only
// with the bytes that have arrived, and a block is parsed only after its checksum.
#include "formats/samples.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "system/io.h"
#include "base/mem.h"
#include "formats/samples-format.h"

enum {
    INPUT = 1 << 18, // bytes read ahead
    STEP = 16 << 20, // a block's buffer grows by at most this before the bytes are there
    PIPE = 1 << 20,  // wanted size of the pipe that feeds us
};

struct stream_shard {
    struct samples_shard pub;
    uint64_t n, next; // samples read, and highest ordinal + 1
};

struct samples_reader {
    int fd; // -1: memory only
    bool own_fd;
    char *name; // for messages
    struct samples_header header;
    bool started;      // the first header has been read
    const uint8_t *in; // bytes not used yet: of `input`, or the caller's memory
    size_t n_in;
    uint8_t *input;
    uint8_t *block; // the current block, 64-byte aligned
    size_t cap;
    struct stream_shard *shards;
    size_t n_shards, shards_cap;
    size_t first_shard;    // of this stream
    size_t streams;        // begun
    uint64_t rows;         // samples of all streams
    uint64_t first_row;    // of this stream
    struct digest *keys;   // of all streams
    struct digest *stream; // of this one
    uint8_t chain[DIGEST_BYTES], before[DIGEST_BYTES];
    uint64_t skipped;
    bool tells_skipped;
    bool done, failed;
    struct err err; // what it failed with
};

// Up to n bytes: fewer at the end of the input. -1 with e set on a read error.
static ssize_t take(struct samples_reader *r, uint8_t *to, size_t n, struct err *e)
{
    size_t have = 0;
    while (have < n) {
        if (r->n_in == 0 && r->fd >= 0) {
            // large pieces go straight to where they belong
            bool direct = n - have >= INPUT;
            ssize_t k = read(r->fd, direct ? to + have : r->input, direct ? n - have : INPUT);
            if (k < 0 && errno == EINTR)
                continue;
            if (k < 0)
                return err_errno(e, "cannot read");
            if (k == 0)
                break;
            if (direct) {
                have += (size_t)k;
                continue;
            }
            r->in = r->input;
            r->n_in = (size_t)k;
        }
        size_t k = r->n_in < n - have ? r->n_in : n - have;
        if (k == 0)
            break;
        memcpy(to + have, r->in, k);
        r->in += k;
        r->n_in -= k;
        have += k;
    }
    return (ssize_t)have;
}

static int reserve(struct samples_reader *r, size_t used, size_t need, struct err *e)
{
    if (need <= r->cap)
        return 0;
    size_t want = need < r->cap * 2 ? r->cap * 2 : need;
    uint8_t *p = mem_alloc(want, 1, e);
    if (!p)
        return -1;
    if (used)
        memcpy(p, r->block, used);
    free(r->block);
    r->block = p;
    r->cap = want;
    return 0;
}

// Reads n more bytes behind the first `at` of the block.
static int fill(struct samples_reader *r, size_t at, size_t n, struct err *e)
{
    while (n) {
        size_t step = n < STEP ? n : STEP;
        if (reserve(r, at, at + step, e))
            return -1;
        ssize_t k = take(r, r->block + at, step, e);
        if (k < 0)
            return -1;
        if ((size_t)k < step)
            return err_set(e, "truncated");
        at += step;
        n -= step;
    }
    return 0;
}

// The rest of a stream's header; its first bytes are in the block.
static int read_top(struct samples_reader *r, struct err *e)
{
    struct samples_header h;
    unsigned version = samples_get16(r->block + 8);
    if (version != SAMPLES_VERSION)
        return err_set(e, "version %u of the samples stream; this build reads version %d", version,
                       SAMPLES_VERSION);
    uint32_t n = samples_get32(r->block + 12);
    if (n > SAMPLES_MAX_JSON)
        return err_set(e, "header of %u bytes", n);
    if (fill(r, SAMPLES_TOP, (size_t)n + SAMPLES_SUM, e))
        return err_wrap(e, "header");
    if (samples_get64(r->block + SAMPLES_TOP + n) != digest_u64(r->block, SAMPLES_TOP + n))
        return err_set(e, "header: wrong checksum");
    if (samples_header_parse(&h, (const char *)r->block + SAMPLES_TOP, n, e))
        return err_wrap(e, "header");
    if (r->started && samples_same_format(&r->header, &h, e))
        return err_wrap(e, "header of a further stream");
    r->header = h;
    r->started = true;
    r->first_shard = r->n_shards;
    r->streams++;
    r->first_row = r->rows;
    digest_reset(r->stream);
    return 0;
}

// Between streams: 1 another one has begun, 0 the end of the input.
static int begin_stream(struct samples_reader *r, struct err *e)
{
    if (reserve(r, 0, SAMPLES_TOP, e))
        return -1;
    ssize_t k = take(r, r->block, SAMPLES_TOP, e);
    if (k < 0)
        return -1;
    if (k == 0 && r->started)
        return 0;
    if (k == 0)
        return err_set(e, "empty: not a samples stream");
    size_t n = k < SAMPLES_MAGIC_N ? (size_t)k : SAMPLES_MAGIC_N;
    if (memcmp(r->block, SAMPLES_MAGIC, n))
        return err_set(e,
                       r->started ? "something else follows the trailer" : "not a samples stream");
    if (k < SAMPLES_TOP)
        return err_set(e, "header: truncated");
    return read_top(r, e) ? -1 : 1;
}

static int announce_shard(struct samples_reader *r, const uint8_t *p, size_t n, struct err *e)
{
    if (n < 6 || n > 4 + SAMPLES_MAX_NAME || memchr(p + 4, 0, n - 4) != p + n - 1)
        return err_set(e, "corrupt: a shard without proper name");
    if (samples_get32(p) != r->n_shards - r->first_shard || r->n_shards == SAMPLES_MAX_SHARDS)
        return err_set(e, "corrupt: shards are not counted in order");
    void *q = r->shards;
    if (mem_grow(&q, &r->shards_cap, r->n_shards + 1, sizeof *r->shards, e))
        return -1;
    r->shards = q;
    const struct samples_header *h = &r->header;
    struct samples_shard *s = &r->shards[r->n_shards].pub;
    r->shards[r->n_shards] = (struct stream_shard){.pub.stream = r->streams - 1};
    s->slice = h->skip || h->limit != UINT64_MAX || h->n_parts > 1;
    s->name = mem_strdup((const char *)p + 4, e);
    return s->name ? (r->n_shards++, 0) : -1;
}

static struct stream_shard *find_shard(struct samples_reader *r, uint32_t id)
{
    return id < r->n_shards - r->first_shard ? &r->shards[r->first_shard + id] : NULL;
}

static int end_shard(struct samples_reader *r, const uint8_t *p, size_t n, struct err *e)
{
    if (n != SAMPLES_ENDING)
        return err_set(e, "corrupt: the end of a shard has a wrong length");
    struct stream_shard *s = find_shard(r, samples_get32(p));
    if (!s || s->pub.ended)
        return err_set(e, "corrupt: the end of a shard that is not open");
    s->pub.ended = true;
    uint32_t flags = samples_get32(p + 4);
    s->pub.whole = flags & SAMPLES_WHOLE;
    s->pub.damaged = flags & SAMPLES_DAMAGED;
    s->pub.counted = flags & (SAMPLES_WHOLE | SAMPLES_COUNTED);
    s->pub.rows = samples_get64(p + 8);
    if (s->pub.rows < s->next)
        return err_set(e, "corrupt: more samples of a shard than it has");
    if (s->pub.counted)
        samples_digest_unpack(p + 16, s->pub.keys);
    return 0;
}

// What a stream leaves out at its start: its digest is the start of the chain. Of a further stream
// it is one more link.
static int take_skipped(struct samples_reader *r, const uint8_t *p, size_t n, struct err *e)
{
    char hex[DIGEST_HEX];
    if (n != SAMPLES_ENDING || r->n_shards != r->first_shard)
        return err_set(e, "corrupt: what was skipped is not told at the start");
    samples_digest_unpack(p + 16, hex);
    if (r->rows == 0 && r->first_shard == 0) {
        memcpy(r->chain, p + 16, DIGEST_BYTES);
        memcpy(r->before, p + 16, DIGEST_BYTES);
    } else
        digest_chain(r->chain, hex);
    r->skipped += samples_get64(p);
    r->tells_skipped = true;
    return 0;
}

static int check_trailer(struct samples_reader *r, const uint8_t *p, size_t n, struct err *e)
{
    char want[DIGEST_HEX], have[DIGEST_HEX];
    if (n != SAMPLES_ENDING)
        return err_set(e, "corrupt: the trailer has a wrong length");
    if (samples_get64(p) != r->rows - r->first_row ||
        samples_get64(p + 8) != r->n_shards - r->first_shard)
        return err_set(e, "samples are missing: the trailer counts %llu in %llu shards",
                       (unsigned long long)samples_get64(p),
                       (unsigned long long)samples_get64(p + 8));
    samples_digest_unpack(p + 16, want);
    digest_hex(r->stream, have);
    return strcmp(want, have) ? err_set(e, "corrupt: the trailer has another key digest") : 0;
}

// Splits the text of a sample: key, reason, caption, each ended by a NUL.
static int split_text(const uint8_t *p, struct samples_record *out, bool has_caption,
                      const size_t n[3], struct err *e)
{
    const char *key = (const char *)p, *reason = key + n[0] + 1, *caption = reason + n[1] + 1;
    if (memchr(key, 0, n[0] + 1) != key + n[0] || memchr(reason, 0, n[1] + 1) != reason + n[1] ||
        caption[n[2]])
        return err_set(e, "corrupt: text without its end");
    out->key = key;
    out->reason = reason;
    out->caption = has_caption ? caption : NULL;
    out->caption_bytes = n[2];
    return 0;
}

static int check_image(const struct samples_reader *r, bool has_image, size_t n, struct err *e)
{
    const struct samples_header *h = &r->header;
    bool good = has_image ? h->images != SAMPLES_NO_IMAGES && n <= SAMPLES_MAX_IMAGE : n == 0;
    if (has_image && h->images == SAMPLES_PIXELS)
        good = n == (size_t)h->size * h->size * 3;
    return good ? 0 : err_set(e, "corrupt: an image of %zu bytes", n);
}

// The whole block, n bytes of it, is at `block`.
static int parse_sample(struct samples_reader *r, size_t n, struct samples_record *out,
                        struct err *e)
{
    const uint8_t *p = r->block + SAMPLES_BLOCK;
    if (n < SAMPLES_BLOCK + SAMPLES_FIXED)
        return err_set(e, "corrupt: too short");
    size_t len[3] = {samples_get32(p + 24), samples_get32(p + 28), samples_get32(p + 32)};
    uint32_t status = samples_get16(p + 12), flags = samples_get16(p + 14);
    if (len[0] > SAMPLES_MAX_NAME || len[1] > SAMPLES_MAX_REASON || len[2] > SAMPLES_MAX_CAPTION ||
        samples_image_at(len[0], len[1], len[2]) > n)
        return err_set(e, "corrupt: lengths that do not fit");
    size_t image_at = samples_image_at(len[0], len[1], len[2]);
    bool has_caption = flags & SAMPLES_HAS_CAPTION, has_image = flags & SAMPLES_HAS_IMAGE;
    if (status >= SAMPLE_N_STATUS || (has_caption ? !r->header.captions : len[2] > 0))
        return err_set(e, "corrupt: unknown status, or a caption that should not be there");
    struct stream_shard *s = find_shard(r, samples_get32(p + 8));
    if (!s || s->pub.ended)
        return err_set(e, "corrupt: a sample of a shard that is not open");
    if (check_image(r, has_image, n - image_at, e) ||
        split_text(p + SAMPLES_FIXED, out, has_caption, len, e))
        return -1;
    out->row = r->rows;
    out->shard = (uint32_t)(s - r->shards);
    out->shard_name = s->pub.name;
    out->ordinal = samples_get64(p);
    out->status = (enum sample_status)status;
    out->width = samples_get32(p + 16);
    out->height = samples_get32(p + 20);
    out->image = has_image ? r->block + image_at : NULL;
    out->image_bytes = n - image_at;
    if (out->ordinal == UINT64_MAX)
        return err_set(e, "corrupt: ordinal");
    s->n++;
    s->next = out->ordinal + 1 > s->next ? out->ordinal + 1 : s->next;
    digest_key(r->keys, out->key);
    digest_key(r->stream, out->key);
    digest_chain(r->chain, out->key);
    r->rows++;
    return 0;
}

static bool length_is_possible(const struct samples_reader *r, uint32_t type, uint64_t n)
{
    if (type != SAMPLES_SAMPLE)
        return n <= 4 + SAMPLES_MAX_NAME;
    uint64_t image = r->header.images == SAMPLES_PIXELS
                         ? (uint64_t)r->header.size * r->header.size * 3
                         : SAMPLES_MAX_IMAGE;
    return n <= samples_image_at(SAMPLES_MAX_NAME, SAMPLES_MAX_REASON, SAMPLES_MAX_CAPTION) + image;
}

// Reads one block and checks its sum; *n is the body's length.
static int read_block(struct samples_reader *r, uint32_t *type, size_t *n, struct err *e)
{
    if (fill(r, 0, SAMPLES_BLOCK, e))
        return -1;
    *type = samples_get32(r->block);
    uint64_t len = samples_get64(r->block + 8);
    if ((*type != SAMPLES_SHARD && *type != SAMPLES_SAMPLE && *type != SAMPLES_ENDED &&
         *type != SAMPLES_SKIPPED && *type != SAMPLES_TRAILER) ||
        samples_get32(r->block + 4) || !length_is_possible(r, *type, len))
        return err_set(e, "corrupt: not a block of a samples stream");
    *n = (size_t)len;
    if (fill(r, SAMPLES_BLOCK, *n + SAMPLES_SUM, e))
        return -1;
    if (samples_get64(r->block + SAMPLES_BLOCK + *n) != digest_u64(r->block, SAMPLES_BLOCK + *n))
        return err_set(e, "wrong checksum");
    return 0;
}

// 1 a sample, 0 the end of the input, -1 an error.
static int next_sample(struct samples_reader *r, struct samples_record *out, struct err *e)
{
    for (;;) {
        uint32_t type;
        size_t n = 0;
        if (read_block(r, &type, &n, e))
            return -1;
        const uint8_t *body = r->block + SAMPLES_BLOCK;
        int rc = 0;
        if (type == SAMPLES_SAMPLE)
            return parse_sample(r, SAMPLES_BLOCK + n, out, e) ? -1 : 1;
        if (type == SAMPLES_SHARD)
            rc = announce_shard(r, body, n, e);
        else if (type == SAMPLES_ENDED)
            rc = end_shard(r, body, n, e);
        else if (type == SAMPLES_SKIPPED)
            rc = take_skipped(r, body, n, e);
        else
            rc = check_trailer(r, body, n, e) ? -1 : begin_stream(r, e);
        if (rc < 0 || (rc == 0 && type == SAMPLES_TRAILER))
            return rc;
    }
}

int samples_next(struct samples_reader *r, struct samples_record *out, struct err *e)
{
    *out = (struct samples_record){0};
    if (r->failed) {
        *e = r->err;
        return -1;
    }
    if (r->done)
        return 0;
    int rc = next_sample(r, out, e);
    r->done = rc == 0;
    if (rc >= 0)
        return rc;
    err_wrap(e, "%s: record %llu", r->name, (unsigned long long)r->rows);
    r->err = *e;
    r->failed = true;
    return -1;
}

static struct samples_reader *open_reader(int fd, bool own, const char *name, const void *data,
                                          size_t n, struct err *e)
{
    struct samples_reader *r = mem_alloc(1, sizeof *r, e);
    if (!r) {
        if (own)
            close(fd);
        return NULL;
    }
    r->fd = fd;
    r->own_fd = own;
    r->in = data;
    r->n_in = n;
    r->name = mem_strdup(name, e);
    r->input = fd >= 0 ? mem_alloc(INPUT, 1, e) : NULL;
    r->keys = digest_new(e);
    r->stream = digest_new(e);
    bool good = r->name && (fd < 0 || r->input) && r->keys && r->stream;
    if (good && begin_stream(r, e) < 0) {
        err_wrap(e, "%s", name);
        good = false;
    }
    if (good)
        return r;
    samples_close(r);
    return NULL;
}

struct samples_reader *samples_open_fd(int fd, const char *name, struct err *e)
{
    // Fewer, larger turns between the two processes; refused where it is not a pipe.
    if (fcntl(fd, F_SETPIPE_SZ, PIPE) < 0)
        errno = 0;
    return open_reader(fd, false, name, NULL, 0, e);
}

struct samples_reader *samples_open(const char *path, struct err *e)
{
    if (strcmp(path, "-") == 0)
        return samples_open_fd(STDIN_FILENO, "standard input", e);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        err_errno(e, "cannot open '%s'", path);
        return NULL;
    }
    return open_reader(fd, true, path, NULL, 0, e);
}

struct samples_reader *samples_open_memory(const void *data, size_t n, struct err *e)
{
    return open_reader(-1, false, "memory", data, n, e);
}

void samples_close(struct samples_reader *r)
{
    if (!r)
        return;
    if (r->own_fd)
        close(r->fd);
    for (size_t i = 0; i < r->n_shards; i++)
        free(r->shards[i].pub.name);
    free(r->shards);
    digest_free(r->keys);
    digest_free(r->stream);
    free(r->name);
    free(r->input);
    free(r->block);
    free(r);
}

const struct samples_header *samples_header(const struct samples_reader *r)
{
    return &r->header;
}

size_t samples_n_shards(const struct samples_reader *r)
{
    return r->n_shards;
}

const struct samples_shard *samples_shard(const struct samples_reader *r, size_t i)
{
    return &r->shards[i].pub;
}

void samples_chain(const struct samples_reader *r, char hex[DIGEST_HEX])
{
    samples_digest_unpack(r->chain, hex);
}

void samples_chain_before(const struct samples_reader *r, char hex[DIGEST_HEX])
{
    samples_digest_unpack(r->before, hex);
}

bool samples_failed(const struct samples_reader *r)
{
    return r->failed;
}

bool samples_skipped(const struct samples_reader *r, uint64_t *n)
{
    *n = r->skipped;
    return r->tells_skipped;
}

void samples_keys(const struct samples_reader *r, char hex[DIGEST_HEX])
{
    digest_hex(r->keys, hex);
}

uint64_t samples_count(const struct samples_reader *r)
{
    return r->rows;
}
