// SPDX-License-Identifier: Apache-2.0
// The samples of an evaluation split: read in order, decoded on many threads, handed on in order.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "base/path.h"
#include "eval/set.h"
#include "base/half.h"
#include "base/mem.h"
#include "formats/npy.h"
#include "system/threads.h"
#include "shards/shard.h"

enum { SLOTS_A_THREAD = 4 };

struct read_slot {
    struct eval_sample sample;
    char *key;
    size_t cap_key;
    uint8_t *file; // the encoded picture
    size_t n_file, cap_file;
    uint8_t *pixels;
    uint8_t *targets;
    char *text; // captions
    size_t cap_text;
    const char **captions;
    size_t cap_captions;
    struct read_scratch scratch;
    struct err reason;
    char shard_name[32];
};

struct set_reader {
    const struct eval_set *set;
    const char *split;
    const struct read_picture *picture;
    eval_sink_fn *sink;
    void *user;
    size_t n_shards, next_shard;
    struct shard *shard; // open now
    uint64_t row;
};

static int copy_bytes(void *to_pointer, size_t *cap, const void *from, size_t n, struct err *e)
{
    void *p;
    memcpy(&p, to_pointer, sizeof p);
    int rc = mem_grow(&p, cap, n + 1, 1, e);
    memcpy(to_pointer, &p, sizeof p);
    if (rc == 0) {
        memcpy(p, from, n);
        ((char *)p)[n] = '\0';
    }
    return rc;
}

// ---- labels

static int parse_class(struct read_slot *t, const struct shard_member *m, size_t classes,
                       struct err *e)
{
    const char *text = (const char *)m->data;
    char *end;
    errno = 0;
    long v = strtol(text, &end, 10);
    while (end < text + m->size && (*end == '\n' || *end == '\r' || *end == ' '))
        end++;
    if (end == text || end != text + m->size || errno)
        return err_set(e, "cls is not a number");
    if (v < 0 || (size_t)v >= classes)
        return err_set(e, "class %ld is not among the %zu class names", v, classes);
    t->sample.label = (int32_t)v;
    return 0;
}

static double target_at(const struct npy_header *h, const uint8_t *rows, size_t i)
{
    int64_t i8;
    int32_t i4;
    double f8;
    float f4;
    uint16_t f2;
    switch (h->type) {
    case NPY_U1:
        return rows[i];
    case NPY_I4:
        memcpy(&i4, rows + 4 * i, 4);
        return i4;
    case NPY_I8:
    case NPY_U8:
        memcpy(&i8, rows + 8 * i, 8);
        return (double)i8;
    case NPY_F8:
        memcpy(&f8, rows + 8 * i, 8);
        return f8;
    case NPY_F4:
        memcpy(&f4, rows + 4 * i, 4);
        return (double)f4;
    case NPY_F2:
        memcpy(&f2, rows + 2 * i, 2);
        return (double)half_to_f32_one(f2);
    case NPY_U8_PAIR:
        break;
    }
    return -1;
}

static int parse_targets(struct read_slot *t, const struct shard_member *m, size_t classes,
                         struct err *e)
{
    struct npy_header h;
    if (npy_parse(&h, m->data, m->size, m->size, e))
        return err_wrap(e, "npy");
    if (h.rows * h.dim != classes)
        return err_set(e, "npy holds %llu values, not one for each of %zu classes",
                       (unsigned long long)(h.rows * h.dim), classes);
    for (size_t c = 0; c < classes; c++) {
        double v = target_at(&h, m->data + h.data_at, c);
        if (v != 0 && v != 1)
            return err_set(e, "npy holds a value that is neither 0 nor 1");
        t->targets[c] = v == 1;
    }
    t->sample.targets = t->targets;
    return 0;
}

// One caption a line; empty lines are none.
static int parse_captions(struct read_slot *t, const struct shard_member *m, struct err *e)
{
    if (memchr(m->data, '\0', m->size))
        return err_set(e, "txt holds a NUL byte");
    if (copy_bytes(&t->text, &t->cap_text, m->data, m->size, e))
        return -1;
    size_t n = 0;
    for (char *p = t->text, *end; *p; p = end) {
        end = p + strcspn(p, "\r\n");
        if (*end)
            *end++ = '\0';
        if (*p == '\0')
            continue;
        if (utf8_valid_up_to(p, strlen(p)) < strlen(p))
            return err_set(e, "caption %zu of txt is not UTF-8", n + 1);
        void *list = t->captions;
        if (mem_grow(&list, &t->cap_captions, n + 1, sizeof *t->captions, e))
            return -1;
        t->captions = list;
        t->captions[n++] = p;
    }
    t->sample.captions = t->captions;
    t->sample.n_captions = n;
    return n ? 0 : err_set(e, "txt holds no caption");
}

static int parse_label(const struct set_reader *r, struct read_slot *t,
                       const struct shard_sample *s, struct err *e)
{
    static const char *const ext[] = {
        [EVAL_CLASSES] = "cls", [EVAL_MULTILABEL] = "npy", [EVAL_RETRIEVAL] = "txt"};
    const struct shard_member *m = shard_find(s, ext[r->set->type]);
    if (!m)
        return err_set(e, "no %s", ext[r->set->type]);
    switch (r->set->type) {
    case EVAL_CLASSES:
        return parse_class(t, m, r->set->classes.n, e);
    case EVAL_MULTILABEL:
        return parse_targets(t, m, r->set->classes.n, e);
    case EVAL_RETRIEVAL:
        return parse_captions(t, m, e);
    }
    return -1;
}

// ---- the pipeline's steps

// The next sample of any shard: 1, 0 at the end of all, -1.
static int next_sample(struct set_reader *r, struct shard_sample *s, struct err *e)
{
    for (;;) {
        char path[PATH_BYTES];
        if (!r->shard) {
            if (r->next_shard == r->n_shards)
                return 0;
            if (eval_set_shard_path(path, r->set, r->split, r->next_shard++, e))
                return -1;
            if (!(r->shard = shard_open(path, NULL, e)))
                return err_wrap(e, "%s", path);
        }
        int rc = shard_next(r->shard, s, e);
        if (rc > 0)
            return 1;
        shard_close(r->shard);
        r->shard = NULL;
        if (rc < 0)
            return err_wrap(e, "cannot read '%s/%s/%zu.tar'", r->set->folder, r->split,
                            r->next_shard - 1);
    }
}

static int step_read(void *ctx, void *item, struct err *e)
{
    struct set_reader *r = ctx;
    struct read_slot *t = item;
    struct shard_sample s;
    int rc = next_sample(r, &s, e);
    if (rc <= 0)
        return rc;
    snprintf(t->shard_name, sizeof t->shard_name, "%zu.tar", r->next_shard - 1);
    t->sample = (struct eval_sample){.row = r->row++, .shard_name = t->shard_name, .label = -1};
    if (copy_bytes(&t->key, &t->cap_key, s.key, strlen(s.key), e))
        return -1;
    t->sample.key = t->key;
    if (parse_label(r, t, &s, e))
        return err_wrap(e, "cannot use '%s/%s/%s': sample '%s'", r->set->folder, r->split,
                        t->shard_name, s.key);
    t->n_file = s.image && r->picture ? s.image->size : 0;
    if (t->n_file && copy_bytes(&t->file, &t->cap_file, s.image->data, s.image->size, e))
        return -1;
    return 1;
}

static int step_work(void *ctx, void *item, struct err *e)
{
    const struct set_reader *r = ctx;
    struct read_slot *t = item;
    uint32_t width, height;
    struct rng rng;
    rng_init(&rng, 0, t->sample.row);
    if (!r->picture)
        return 0;
    t->reason.machine = false;
    if (t->n_file == 0)
        t->sample.reason = "no image";
    else if (read_picture_decode(r->picture, &t->scratch, t->file, t->n_file, &rng, t->pixels,
                                 &width, &height, &t->reason))
        t->sample.reason = t->reason.text;
    else
        t->sample.pixels = t->pixels;
    if (!t->sample.reason || !t->reason.machine)
        return 0;
    *e = t->reason; // not a bad picture, which would be the sample's
    return err_wrap(e, "cannot use '%s/%s/%s': sample '%s'", r->set->folder, r->split,
                    t->shard_name, t->key);
}

static int step_write(void *ctx, void *item, struct err *e)
{
    struct set_reader *r = ctx;
    struct read_slot *t = item;
    return r->sink(r->user, &t->sample, e);
}

// ---- slots

static void slots_free(struct read_slot *slots, size_t n)
{
    for (size_t i = 0; slots && i < n; i++) {
        free(slots[i].key);
        free(slots[i].file);
        free(slots[i].pixels);
        free(slots[i].targets);
        free(slots[i].text);
        free(slots[i].captions);
        read_scratch_release(&slots[i].scratch);
    }
    free(slots);
}

static struct read_slot *slots_new(const struct set_reader *r, size_t n, struct err *e)
{
    struct read_slot *slots = mem_alloc(n, sizeof *slots, e);
    size_t side = r->picture ? (size_t)r->picture->crop.size : 0;
    for (size_t i = 0; slots && i < n; i++) {
        slots[i].pixels = mem_alloc(side * side, 3, e);
        slots[i].targets = mem_alloc(r->set->classes.n, 1, e);
        if (!slots[i].pixels || !slots[i].targets) {
            slots_free(slots, n);
            return NULL;
        }
    }
    return slots;
}

int eval_set_read(const struct eval_set *s, const char *split, const struct read_picture *picture,
                  int threads, eval_sink_fn *sink, void *user, struct err *e)
{
    struct set_reader r = {
        .set = s, .split = split, .picture = picture, .sink = sink, .user = user};
    if (eval_set_shards(s, split, &r.n_shards, e))
        return -1;
    if (r.n_shards == 0)
        return err_set(e, "'%s' has no split '%s'", s->folder, split);
    size_t n = (size_t)threads * SLOTS_A_THREAD;
    struct read_slot *slots = slots_new(&r, n, e);
    void **items = slots ? mem_alloc(n, sizeof *items, e) : NULL;
    int rc = -1;
    if (items) {
        for (size_t i = 0; i < n; i++)
            items[i] = &slots[i];
        static const struct pipeline_steps steps = {step_read, step_work, step_write};
        rc = pipeline_run(threads, items, n, &steps, &r, e);
    }
    shard_close(r.shard);
    free(items);
    slots_free(slots, n);
    return rc;
}
