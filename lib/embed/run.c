// SPDX-License-Identifier: Apache-2.0
#include "embed/run.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "system/digest.h"
#include "embed/batch.h"
#include "read/index.h"

// An item that is not done has its last batch in the ring, or is being read; one more is what
// next() fills in.
enum { ITEMS = EMBED_BATCHES + 2 };

struct state {
    struct embed_run *run;
    struct embed_ring ring;
    struct embed_item items[ITEMS]; // used in turn
    struct embed_item *item;        // that is being read
    struct embed_batch *filling;    // by the reader
    uint64_t written;               // samples
};

// -- reading
static int put_caption(struct state *s, struct embed_batch *b, const struct samples_record *r,
                       struct err *e)
{
    size_t context = s->run->context, used;
    b->has_text[b->n] = false;
    if (!r->caption)
        return 0;
    int32_t *row = b->tokens + b->n_texts * context;
    enum text_status t =
        tokenizer_encode(s->run->tokenizer, r->caption, r->caption_bytes, context, row, &used, e);
    if (t == TEXT_ERROR)
        return -1;
    // A caption that is not UTF-8 counts as none.
    b->has_text[b->n] = t == TEXT_OK;
    b->n_texts += t == TEXT_OK;
    return 0;
}

// The batch being filled; NULL: another stage has failed.
static struct embed_batch *filling(struct state *s)
{
    if (!s->filling && (s->filling = embed_ring_take(&s->ring, EMBED_READ)))
        s->filling->item = s->item;
    return s->filling;
}

static void pass_on(struct state *s)
{
    embed_ring_give(&s->ring, EMBED_READ);
    s->filling = NULL;
}

static int on_sample(void *ctx, const struct samples_record *r, struct err *e)
{
    struct state *s = ctx;
    struct embed_run *run = s->run;
    struct embed_item *item = s->item;
    struct embed_batch *b = filling(s);
    if (!b)
        return 1;
    digest_key(item->keys, r->key);
    read_index_key(item->index, r->key);
    size_t bytes = s->ring.shape.image_bytes;
    b->has_image[b->n] = bytes && r->image;
    if (bytes && r->image) {
        if (r->image_bytes != bytes)
            return err_set(e, "sample %s: a picture of another size", r->key);
        memcpy(b->pixels + b->n_images++ * bytes, r->image, bytes);
    }
    if (run->context && put_caption(s, b, r, e))
        return -1;
    item->samples++;
    item->no_image += run->image && !b->has_image[b->n];
    item->no_text += run->context && !b->has_text[b->n];
    if (++b->n == s->ring.shape.rows)
        pass_on(s);
    return 0;
}

static int on_shard(void *ctx, const char *name, bool part, struct err *e)
{
    struct state *s = ctx;
    s->item->sidecar.partial |= part;
    return sidecar_add_input(&s->item->sidecar, name, NULL, e);
}

static void release_item(struct embed_item *item)
{
    if (item->open)
        embed_output_abort(&item->output);
    digest_free(item->keys);
    digest_free(item->index);
    sidecar_release(&item->sidecar);
    for (int i = 0; i < 2; i++)
        free(item->paths[i]);
    memset(item, 0, sizeof *item);
}

// Gets the next item ready: 1, 0 where there are no more, -1.
static int next_item(struct state *s, uint64_t number, struct err *e)
{
    s->item = &s->items[number % ITEMS]; // released when it was done
    int rc = s->run->next(s->run->ctx, s->item, e);
    if (rc <= 0)
        return rc;
    s->item->keys = digest_new(e);
    s->item->index = s->item->keys ? digest_new(e) : NULL;
    return s->item->index ? 1 : -1;
}

static void *reader(void *arg)
{
    struct state *s = arg;
    struct err e;
    const struct embed_sink sink = {s, on_sample, on_shard};
    int rc;
    for (uint64_t i = 0; (rc = next_item(s, i, &e)) == 1; i++) {
        struct embed_item *item = s->item;
        item->failed = embed_source_run(&item->source, &sink, &item->err) != 0;
        if (!filling(s))
            break;
        s->filling->last = true;
        pass_on(s);
    }
    if (rc < 0)
        embed_ring_fail(&s->ring, &e);
    embed_ring_end(&s->ring, EMBED_READ);
    return NULL;
}

// -- writing
static int open_output(struct state *s, struct embed_item *item, struct err *e)
{
    const struct embed_run *run = s->run;
    size_t dim = run->model ? (size_t)run->model->cfg.embed_dim : 0;
    if (item->open)
        return 0;
    if (embed_output_open(&item->output, run->type, dim, run->context, e))
        return -1;
    item->open = true;
    return 0;
}

// The item's last batch is written.
static int end_item(struct state *s, struct embed_item *item, struct err *e)
{
    struct embed_run *run = s->run;
    digest_hex(item->keys, item->sidecar.keys);
    if (!item->failed && run->check)
        item->failed = run->check(run->ctx, item, &item->err) != 0;
    if (!item->failed && embed_output_commit(&item->output, &item->sidecar, e))
        return -1;
    if (!item->failed) {
        item->open = false;
        run->samples += item->samples;
        run->no_image += item->no_image;
        run->no_text += item->no_text;
    }
    int rc = run->done(run->ctx, item, e);
    release_item(item);
    return rc;
}

static int write_batch(struct state *s, struct embed_batch *b, struct err *e)
{
    if (open_output(s, b->item, e) || embed_output_put(&b->item->output, b, e))
        return -1;
    s->written += b->n;
    if (s->run->progress)
        s->run->progress(s->run->progress_ctx, s->written);
    return b->last ? end_item(s, b->item, e) : 0;
}

static void *writer(void *arg)
{
    struct state *s = arg;
    struct embed_batch *b;
    struct err e;
    while ((b = embed_ring_take(&s->ring, EMBED_WRITE))) {
        if (write_batch(s, b, &e)) {
            embed_ring_fail(&s->ring, &e);
            break;
        }
        embed_ring_give(&s->ring, EMBED_WRITE);
    }
    return NULL;
}

// -- computing
// Gives a batch to the device; *number is for clip_model_wait.
static int start(struct embed_run *run, struct embed_batch *b, uint64_t *number, struct err *e)
{
    uint64_t image = 0, text = 0;
    if (run->image && b->n_images &&
        clip_model_images_start(run->model, b->n_images, b->pixels, run->unit, b->image, &image, e))
        return -1;
    if (run->text && b->n_texts &&
        clip_model_texts_start(run->model, b->n_texts, b->tokens, run->unit, b->text, &text, e))
        return -1;
    *number = image > text ? image : text;
    return 0;
}

// Hands on the batch that is on the device, if there is one.
static int finish(struct state *s, uint64_t *number, struct err *e)
{
    if (*number && clip_model_wait(s->run->model, *number, e))
        return -1;
    if (*number)
        embed_ring_give(&s->ring, EMBED_COMPUTE);
    *number = 0;
    return 0;
}

// The device works on a batch while the next one is given to it.
static int compute_batches(struct state *s, struct err *e)
{
    uint64_t on_device = 0, number;
    for (;;) {
        if (embed_ring_empty(&s->ring, EMBED_COMPUTE) && finish(s, &on_device, e))
            return -1;
        double began = clock_seconds();
        struct embed_batch *b = embed_ring_take(&s->ring, EMBED_COMPUTE);
        s->run->read_wait += clock_seconds() - began;
        if (!b)
            return finish(s, &on_device, e);
        if (start(s->run, b, &number, e) || finish(s, &on_device, e))
            return -1;
        if (!number) // it has been computed already
            embed_ring_give(&s->ring, EMBED_COMPUTE);
        on_device = number;
    }
}

static void compute_all(struct state *s)
{
    struct err e, ignored;
    if (compute_batches(s, &e)) {
        embed_ring_fail(&s->ring, &e);
        // Nothing may come into memory that is given back.
        if (s->run->model)
            s->run->model->dev->op->sync(s->run->model->dev, &ignored);
    }
    embed_ring_end(&s->ring, EMBED_COMPUTE);
}

static int run_threads(struct state *s, struct err *e)
{
    pthread_t ids[2];
    void *(*const mains[2])(void *) = {reader, writer};
    int started = 0, rc = 0;
    for (; started < 2 && !rc; started += !rc)
        rc = pthread_create(&ids[started], NULL, mains[started], s);
    if (rc) {
        err_set(e, "cannot start a thread: %s", strerror(rc));
        embed_ring_fail(&s->ring, e);
    }
    compute_all(s);
    for (int i = 0; i < started; i++)
        pthread_join(ids[i], NULL);
    if (s->ring.failed)
        *e = s->ring.err;
    return s->ring.failed ? -1 : 0;
}

int embed_run_all(struct embed_run *r, struct err *e)
{
    struct state s = {.run = r};
    const struct clip_config *c = r->model ? &r->model->cfg : NULL;
    size_t size = r->image && c ? (size_t)c->image_size : 0;
    struct embed_shape shape = {r->batch, 3 * size * size, r->context,
                                c ? (size_t)c->embed_dim : 0};
    if (embed_ring_init(&s.ring, &shape, e))
        return -1;
    int rc = run_threads(&s, e);
    for (size_t i = 0; i < ITEMS; i++)
        release_item(&s.items[i]);
    embed_ring_release(&s.ring);
    return rc;
}
