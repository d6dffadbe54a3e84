// SPDX-License-Identifier: Apache-2.0
// The pipeline itself: source, work on each sample, sink.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/image.h"
#include "system/lines.h"
#include "base/mem.h"
#include "base/url.h"
#include "system/threads.h"
#include "read/json.h"
#include "read/order.h"
#include "read/source.h"
#include "read/text.h"
#include "read/read.h"
#include "shards/shard.h"

enum { SLOTS_PER_THREAD = 2, SLOTS_MORE = 4, CAPTION_MAX = 1 << 20 };

// One place in flight.
struct sample_slot {
    struct read_event ev;
    struct samples_record out; // of a sample
    bool bad;                  // see struct read_sink
    struct err reason;
    uint8_t *pixels; // size * size * 3, kept from one sample to the next
    char *caption;   // of the sample's json, until the next one
};

struct run {
    const struct read_options *o;
    const struct read_sink *sink;
    struct read_source *source;
    struct read_order order;
    struct sample_slot *slots;
    size_t n_slots;
    pthread_mutex_t lock;
    struct read_scratch *scratch; // one a thread
    struct read_scratch **idle;   // those not in use
    size_t n_scratch, n_idle;
};

static size_t picture_bytes(const struct read_options *o)
{
    return (size_t)o->picture.crop.size * (size_t)o->picture.crop.size * 3;
}

static int step_read(void *ctx, void *item, struct err *e)
{
    struct run *run = ctx;
    struct sample_slot *slot = item;
    return read_source_next(run->source, &slot->ev, e);
}

static struct read_scratch *take_scratch(struct run *run)
{
    pthread_mutex_lock(&run->lock);
    struct read_scratch *s = run->idle[--run->n_idle]; // as many as threads
    pthread_mutex_unlock(&run->lock);
    return s;
}

static void give_scratch(struct run *run, struct read_scratch *s)
{
    pthread_mutex_lock(&run->lock);
    run->idle[run->n_idle++] = s;
    pthread_mutex_unlock(&run->lock);
}

// The first thing wrong with a sample is its status; what comes later does not replace it.
static void blame(struct sample_slot *slot, enum sample_status status, const char *why)
{
    if (slot->out.status != SAMPLE_OK)
        return;
    slot->out.status = status;
    if (why != slot->reason.text)
        err_set(&slot->reason, "%s", why);
}

// 0, also for a bad picture; -1 when the machine failed.
static int do_pixels(struct run *run, struct sample_slot *slot, struct err *e)
{
    const struct read_sample *s = &slot->ev.sample;
    struct samples_record *r = &slot->out;
    struct rng rng;
    struct err why;
    read_order_sample(&run->order, slot->ev.shard->name, s->ordinal, &rng);
    struct read_scratch *scratch = take_scratch(run);
    int rc = read_picture_decode(&run->o->picture, scratch, s->image, s->image_size, &rng,
                                 slot->pixels, &r->width, &r->height, &why);
    give_scratch(run, scratch);
    if (rc && why.machine) {
        *e = why;
        return err_wrap(e, "%s: record %llu", slot->ev.shard->path, (unsigned long long)s->ordinal);
    }
    if (rc) {
        blame(slot, SAMPLE_BAD_IMAGE, why.text);
        return 0;
    }
    r->image = slot->pixels;
    r->image_bytes = picture_bytes(run->o);
    return 0;
}

static int do_image(struct run *run, struct sample_slot *slot, struct err *e)
{
    const struct read_sample *s = &slot->ev.sample;
    if (!s->image) {
        blame(slot, SAMPLE_NO_IMAGE, "no jpg, png, jpeg or webp");
    } else if (run->o->images == SAMPLES_PIXELS) {
        return do_pixels(run, slot, e);
    } else if (image_format_of(s->image, s->image_size) == IMAGE_UNKNOWN) {
        blame(slot, SAMPLE_BAD_IMAGE, "neither JPEG nor PNG nor WebP");
    } else {
        slot->out.image = s->image;
        slot->out.image_bytes = s->image_size;
    }
    return 0;
}

// The caption is a member of the json.
static void take_json_caption(const char *name, struct sample_slot *slot)
{
    struct read_sample *s = &slot->ev.sample;
    struct err why;
    free(slot->caption);
    slot->caption = NULL;
    if (!s->json)
        err_set(&why, "no json");
    else
        slot->caption = read_json_string(s->json, s->json_size, name, &why);
    if (!slot->caption)
        blame(slot, SAMPLE_NO_CAPTION, why.text);
    s->caption = (const uint8_t *)slot->caption;
    s->caption_size = slot->caption ? strlen(slot->caption) : 0;
}

static void do_caption(const struct read_options *o, struct sample_slot *slot)
{
    const struct read_sample *s = &slot->ev.sample;
    if (o->caption)
        take_json_caption(o->caption, slot);
    if (!s->caption) {
        blame(slot, SAMPLE_NO_CAPTION, "no txt");
        return;
    }
    // The mark is passed on: the tokenizer's cleaning drops it, as ftfy does.
    size_t n = s->caption_size, mark = lines_mark(s->caption, n), at = 0;
    slot->out.caption_bytes = n;
    if (n > CAPTION_MAX) {
        struct err why;
        err_set(&why, "caption of %zu bytes, at most %d", n, CAPTION_MAX);
        blame(slot, SAMPLE_OVERSIZE, why.text);
        return;
    }
    enum sample_status status = read_caption_status(s->caption + mark, n - mark, &at);
    if (status == SAMPLE_OK) {
        slot->out.caption = (const char *)s->caption;
    } else if (status == SAMPLE_BAD_UTF8) {
        struct err why;
        if (read_text_utf16(s->caption, n))
            err_set(&why, "caption is UTF-16, not UTF-8");
        else
            err_set(&why, "caption is not UTF-8 at byte %zu", at + mark);
        blame(slot, status, why.text);
    } else {
        blame(slot, status, n > mark ? "caption is white space only" : "caption is empty");
    }
}

static void do_json(struct sample_slot *slot)
{
    const struct read_sample *s = &slot->ev.sample;
    struct err why;
    if (s->json && read_json_check(s->json, s->json_size, &why))
        blame(slot, SAMPLE_BAD_JSON, why.text);
}

static int step_work(void *ctx, void *item, struct err *e)
{
    struct run *run = ctx;
    struct sample_slot *slot = item;
    const struct read_sample *s = &slot->ev.sample;
    slot->reason.text[0] = 0;
    slot->out = (struct samples_record){
        .ordinal = s->ordinal, .key = s->key, .reason = slot->reason.text, .status = SAMPLE_OK};
    if (slot->ev.kind == READ_DROPPED)
        blame(slot, slot->ev.dropped, slot->ev.reason);
    slot->bad = false;
    if (slot->ev.kind != READ_SAMPLE)
        return 0;
    if (s->flags & SHARD_OVERSIZE)
        blame(slot, SAMPLE_OVERSIZE, "a member is too large");
    if (run->o->images != SAMPLES_NO_IMAGES && do_image(run, slot, e))
        return -1;
    if (run->o->captions)
        do_caption(run->o, slot);
    do_json(slot);
    if (s->flags & SHARD_DUPLICATE)
        blame(slot, SAMPLE_DUPLICATE_KEY, "key used before in this shard");
    // Keys name samples within a shard, so a key that another shard has too is no fault.
    slot->bad = slot->out.status != SAMPLE_OK;
    if (s->flags & SHARD_DUPLICATE_OTHER)
        blame(slot, SAMPLE_DUPLICATE_KEY, "key used before in another shard");
    return 0;
}

static int step_write(void *ctx, void *item, struct err *e)
{
    struct run *run = ctx;
    struct sample_slot *slot = item;
    const struct read_sink *sink = run->sink;
    struct read_shard *shard = slot->ev.shard;
    int rc;
    switch (slot->ev.kind) {
    case READ_SKIPPED:
        return sink->skipped ? sink->skipped(sink->ctx, slot->ev.skip->n, slot->ev.skip->chain, e)
                             : 0;
    case READ_BEGIN:
        return sink->begin(sink->ctx, shard, e);
    case READ_END:
        rc = sink->end(sink->ctx, shard, e);
        atomic_store(&shard->done, true); // the source may free it from now on
        return rc;
    default:
        rc = sink->sample(sink->ctx, shard, &slot->out, slot->bad, e);
        free(slot->ev.sample.key);
        slot->ev.sample.key = NULL;
        return rc;
    }
}

static void release(struct run *run)
{
    for (size_t i = 0; run->slots && i < run->n_slots; i++) {
        free(run->slots[i].ev.sample.key);
        free(run->slots[i].pixels);
        free(run->slots[i].caption);
    }
    free(run->slots);
    for (size_t i = 0; i < run->n_scratch; i++)
        read_scratch_release(&run->scratch[i]);
    free(run->scratch);
    free(run->idle);
    read_source_free(run->source);
    pthread_mutex_destroy(&run->lock);
}

static int prepare(struct run *run, size_t threads, struct err *e)
{
    run->n_slots = threads * SLOTS_PER_THREAD + SLOTS_MORE;
    run->slots = mem_alloc(run->n_slots, sizeof *run->slots, e);
    run->scratch = run->slots ? mem_alloc(threads, sizeof *run->scratch, e) : NULL;
    run->idle = run->scratch ? mem_alloc(threads, sizeof *run->idle, e) : NULL;
    if (!run->idle)
        return -1;
    for (; run->n_scratch < threads; run->n_scratch++)
        give_scratch(run, &run->scratch[run->n_scratch]);
    for (size_t i = 0; run->o->images == SAMPLES_PIXELS && i < run->n_slots; i++) {
        run->slots[i].pixels = mem_alloc(picture_bytes(run->o), 1, e);
        if (!run->slots[i].pixels)
            return -1;
    }
    run->source = read_source_new(run->o, e);
    return run->source ? 0 : -1;
}

int read_run(const struct read_options *o, const struct read_sink *sink, struct err *e)
{
    static const struct pipeline_steps steps = {step_read, step_work, step_write};
    struct run run = {.o = o, .sink = sink};
    int threads = o->threads > 0 ? o->threads : 1;
    pthread_mutex_init(&run.lock, NULL);
    read_order_init(&run.order, o->seed, o->epoch, o->view);
    int rc = prepare(&run, (size_t)threads, e);
    void **items = rc ? NULL : mem_alloc(run.n_slots, sizeof *items, e);
    if (items) {
        for (size_t i = 0; i < run.n_slots; i++)
            items[i] = &run.slots[i];
        rc = pipeline_run(threads, items, run.n_slots, &steps, &run, e);
    } else {
        rc = -1;
    }
    free(items);
    release(&run);
    return rc;
}

static int check_input(const struct read_options *o, const char *path, struct err *e)
{
    struct stat st;
    if (url_is(path)) // whether it is there shows when it is opened
        return 0;
    if (access(path, R_OK) || stat(path, &st))
        return err_errno(e, "cannot open '%s'", path);
    if (S_ISDIR(st.st_mode))
        return err_set(e, "'%s' is a folder, not a tar archive", path);
    // The counting would leave nothing for the reading.
    if (o->n_parts > 1 && !S_ISREG(st.st_mode))
        return err_set(e, "'%s' is a pipe or device, which can be read only once: parts need files",
                       path);
    return 0;
}

int read_check(const struct read_options *o, struct err *e)
{
    if (o->images == SAMPLES_PIXELS && crop_check(&o->picture.crop, e))
        return -1;
    for (size_t i = 0; i < o->shards->n; i++) {
        const char *path = o->shards->names[i];
        if (strcmp(path, "-") != 0) {
            if (check_input(o, path, e))
                return -1;
            continue;
        }
        if (o->n_parts > 1)
            return err_set(e, "'-' cannot be counted beforehand: parts need files");
        if (o->keep)
            return err_set(e, "'-' has no name to find its keep mask by");
    }
    return 0;
}
