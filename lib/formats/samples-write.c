// SPDX-License-Identifier: Apache-2.0
#include "formats/samples-write.h"

#include <stdlib.h>
#include <string.h>

#include "base/path.h"
#include "base/mem.h"
#include "formats/samples-format.h"

struct samples_writer {
    struct out *out;
    struct samples_header header;
    uint32_t n_shards;
    uint64_t n_samples;
    struct digest *keys;
    uint8_t *head; // a block up to the image
    size_t cap;
};

static int write_top(struct samples_writer *w, struct err *e)
{
    char *json = samples_header_text(&w->header, e);
    if (!json)
        return -1;
    size_t n = strlen(json);
    void *p = w->head;
    int rc = mem_grow(&p, &w->cap, SAMPLES_TOP + n + SAMPLES_SUM, 1, e);
    w->head = p;
    if (rc == 0) {
        memcpy(w->head, SAMPLES_MAGIC, SAMPLES_MAGIC_N);
        samples_put16(w->head + 8, SAMPLES_VERSION);
        samples_put16(w->head + 10, 0);
        samples_put32(w->head + 12, (uint32_t)n);
        memcpy(w->head + SAMPLES_TOP, json, n);
        samples_put64(w->head + SAMPLES_TOP + n, digest_u64(w->head, SAMPLES_TOP + n));
        rc = out_write(w->out, w->head, SAMPLES_TOP + n + SAMPLES_SUM, e);
    }
    free(json);
    return rc;
}

struct samples_writer *samples_writer_new(struct out *out, const struct samples_header *h,
                                          struct err *e)
{
    struct samples_writer *w = mem_alloc(1, sizeof *w, e);
    if (!w)
        return NULL;
    w->out = out;
    w->header = *h;
    w->keys = digest_new(e);
    if (!w->keys || write_top(w, e)) {
        samples_writer_free(w);
        return NULL;
    }
    return w;
}

void samples_writer_free(struct samples_writer *w)
{
    if (!w)
        return;
    digest_free(w->keys);
    free(w->head);
    free(w);
}

// Room for a block's head and n bytes of body; the head is filled in for `total` bytes of body.
static uint8_t *begin_block(struct samples_writer *w, uint32_t type, size_t n, uint64_t total,
                            struct err *e)
{
    void *p = w->head;
    int rc = mem_grow(&p, &w->cap, SAMPLES_BLOCK + n, 1, e);
    w->head = p;
    if (rc)
        return NULL;
    samples_put32(w->head, type);
    samples_put32(w->head + 4, 0);
    samples_put64(w->head + 8, total);
    return w->head + SAMPLES_BLOCK;
}

// The first n bytes of the block are in w->head, the others at `more`.
static int write_block(struct samples_writer *w, size_t n, const void *more, size_t n_more,
                       struct err *e)
{
    uint8_t sum[SAMPLES_SUM];
    samples_put64(sum, digest_u64_two(w->head, n, more, n_more));
    if (out_write(w->out, w->head, n, e) || (n_more && out_write(w->out, more, n_more, e)))
        return -1;
    return out_write(w->out, sum, sizeof sum, e);
}

int samples_begin_shard(struct samples_writer *w, const char *name, uint32_t *id, struct err *e)
{
    name = path_base(name);
    size_t n = strlen(name) + 1;
    if (n > SAMPLES_MAX_NAME || n == 1)
        return err_set(e, "shard name '%.40s': empty or too long", name);
    if (w->n_shards == SAMPLES_MAX_SHARDS)
        return err_set(e, "more than %d shards in a stream", SAMPLES_MAX_SHARDS);
    uint8_t *p = begin_block(w, SAMPLES_SHARD, n + 4, n + 4, e);
    if (!p)
        return -1;
    samples_put32(p, w->n_shards);
    memcpy(p + 4, name, n);
    if (write_block(w, SAMPLES_BLOCK + 4 + n, NULL, 0, e))
        return -1;
    *id = w->n_shards++;
    return 0;
}

int samples_skip(struct samples_writer *w, uint64_t n, const uint8_t chain[DIGEST_BYTES],
                 struct err *e)
{
    if (w->n_shards)
        return err_set(e, "what is skipped comes before the first shard");
    uint8_t *p = begin_block(w, SAMPLES_SKIPPED, SAMPLES_ENDING, SAMPLES_ENDING, e);
    if (!p)
        return -1;
    samples_put64(p, n);
    samples_put64(p + 8, 0);
    memcpy(p + 16, chain, DIGEST_BYTES);
    return write_block(w, SAMPLES_BLOCK + SAMPLES_ENDING, NULL, 0, e);
}

static int check_sample(const struct samples_writer *w, const struct samples_record *s,
                        struct err *e)
{
    const struct samples_header *h = &w->header;
    size_t want = (size_t)h->size * h->size * 3;
    if (s->shard >= w->n_shards)
        return err_set(e, "sample '%s' of a shard that was not begun", s->key);
    if ((unsigned)s->status >= SAMPLE_N_STATUS)
        return err_set(e, "sample '%s' has no known status", s->key);
    if (strlen(s->key) > SAMPLES_MAX_NAME || (s->reason && strlen(s->reason) > SAMPLES_MAX_REASON))
        return err_set(e, "sample '%.40s...': key or reason too long", s->key);
    if (s->caption && (!h->captions || s->caption_bytes > SAMPLES_MAX_CAPTION))
        return err_set(e, "sample '%s': a caption of %zu bytes does not fit the stream", s->key,
                       s->caption_bytes);
    if (!s->image)
        return 0;
    if (h->images == SAMPLES_NO_IMAGES || s->image_bytes > SAMPLES_MAX_IMAGE ||
        (h->images == SAMPLES_PIXELS && s->image_bytes != want))
        return err_set(e, "sample '%s': an image of %zu bytes does not fit the stream", s->key,
                       s->image_bytes);
    return 0;
}

static uint8_t *put_text(uint8_t *p, const char *s, size_t n)
{
    if (n)
        memcpy(p, s, n);
    p[n] = 0;
    return p + n + 1;
}

int samples_write(struct samples_writer *w, const struct samples_record *s, struct err *e)
{
    if (check_sample(w, s, e))
        return -1;
    const char *reason = s->reason ? s->reason : "";
    size_t n_key = strlen(s->key), n_reason = strlen(reason);
    size_t n_caption = s->caption ? s->caption_bytes : 0;
    size_t n_image = s->image ? s->image_bytes : 0;
    size_t n = samples_image_at(n_key, n_reason, n_caption);
    uint8_t *p = begin_block(w, SAMPLES_SAMPLE, n - SAMPLES_BLOCK, n - SAMPLES_BLOCK + n_image, e);
    if (!p)
        return -1;
    samples_put64(p, s->ordinal);
    samples_put32(p + 8, s->shard);
    samples_put16(p + 12, (uint32_t)s->status);
    samples_put16(p + 14,
                  (s->caption ? SAMPLES_HAS_CAPTION : 0u) | (s->image ? SAMPLES_HAS_IMAGE : 0u));
    samples_put32(p + 16, s->width);
    samples_put32(p + 20, s->height);
    samples_put32(p + 24, (uint32_t)n_key);
    samples_put32(p + 28, (uint32_t)n_reason);
    samples_put32(p + 32, (uint32_t)n_caption);
    samples_put32(p + 36, 0);
    p = put_text(p + SAMPLES_FIXED, s->key, n_key);
    p = put_text(p, reason, n_reason);
    p = put_text(p, s->caption, n_caption);
    memset(p, 0, (size_t)(w->head + n - p));
    if (write_block(w, n, s->image, n_image, e))
        return -1;
    digest_key(w->keys, s->key);
    w->n_samples++;
    return 0;
}

int samples_end_shard(struct samples_writer *w, uint32_t id, enum samples_end end, uint64_t rows,
                      const char *keys, struct err *e)
{
    bool whole = end == SAMPLES_END_WHOLE;
    if (id >= w->n_shards || (whole && !keys) || (keys && !digest_is_hex(keys)))
        return err_set(e, "end of shard %u: not begun, or whole without key digest", id);
    uint8_t *p = begin_block(w, SAMPLES_ENDED, SAMPLES_ENDING, SAMPLES_ENDING, e);
    if (!p)
        return -1;
    samples_put32(p, id);
    samples_put32(p + 4, (whole ? SAMPLES_WHOLE : 0u) | (keys ? SAMPLES_COUNTED : 0u) |
                             (end == SAMPLES_END_DAMAGED ? SAMPLES_DAMAGED : 0u));
    samples_put64(p + 8, rows);
    memset(p + 16, 0, 16);
    if (keys)
        samples_digest_pack(keys, p + 16);
    return write_block(w, SAMPLES_BLOCK + SAMPLES_ENDING, NULL, 0, e);
}

int samples_finish(struct samples_writer *w, struct err *e)
{
    char hex[DIGEST_HEX];
    uint8_t *p = begin_block(w, SAMPLES_TRAILER, SAMPLES_ENDING, SAMPLES_ENDING, e);
    if (!p)
        return -1;
    digest_hex(w->keys, hex);
    samples_put64(p, w->n_samples);
    samples_put64(p + 8, w->n_shards);
    samples_digest_pack(hex, p + 16);
    return write_block(w, SAMPLES_BLOCK + SAMPLES_ENDING, NULL, 0, e);
}
