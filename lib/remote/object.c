// SPDX-License-Identifier: Apache-2.0
// One file, read in blocks by threads that run ahead of the reader.
#ifdef CLIPCID_REMOTE
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "remote/run.h"

enum state { FREE, LOADING, READY };

// A place for a block: block i goes to slot i % n_slots.
struct slot {
    uint8_t *data;
    enum state state;
    uint64_t index;
    size_t want, have; // bytes of the block; those that have come, which the reader may have
};

struct remote_object {
    struct remote *r;
    char *name;
    struct place place;
    pthread_mutex_t lock;
    pthread_cond_t arrived; // for the reader: bytes, the first answer, a failure
    pthread_cond_t room;    // for the threads: a slot is free, blocks are known, stop
    bool waiting;           // the reader does
    atomic_bool stop;

    // from the first answer
    bool known;
    uint64_t size;
    char etag[ANSWER_TAG], modified[ANSWER_WORD];

    struct slot slots[REMOTE_CONNECTIONS];
    size_t n_slots;      // in use: 1 until the object is opened
    uint64_t next_block; // to be loaded next
    uint64_t at;         // the reader's place
    size_t given;        // bytes behind it that the reader has
    struct err fail;
    bool failed;
    pthread_t threads[REMOTE_CONNECTIONS];
    size_t n_threads;
};

// A block being loaded.
struct object_load {
    struct remote_object *o;
    struct slot *s;
    uint64_t start; // of the block in the file
    size_t place;   // where in the block the next byte of this answer goes
    bool checked;   // this answer
    size_t before;  // s->have at the last try
};

static int changed(struct err *e)
{
    return err_machine(e, "it was changed while it was read");
}

// Wakes everybody. The lock is held.
static void tell(struct remote_object *o)
{
    pthread_cond_signal(&o->arrived);
    pthread_cond_broadcast(&o->room);
}

// The first answer of all: what the file is.
static int learn(struct remote_object *o, const struct answer *a, struct err *e)
{
    if (a->status == 206 && (!a->has_range || !a->has_total))
        return err_machine(e, "the server does not say which bytes it sends");
    if (a->status == 200 && (!a->has_length || a->length > o->r->block))
        return err_machine(e, "the server does not answer ranges of bytes, so it cannot be read "
                              "from here; copy it");
    o->size = a->status == 206 ? a->total : a->length;
    memcpy(o->etag, a->etag, sizeof o->etag);
    memcpy(o->modified, a->modified, sizeof o->modified);
    o->known = true;
    tell(o);
    return 0;
}

// True if this answer is about the same version of the file as the first answer.
static bool same(const struct remote_object *o, const struct answer *a)
{
    if (*o->etag || *a->etag)
        return !strcmp(o->etag, a->etag);
    return !strcmp(o->modified, a->modified);
}

// At the first bytes of an answer: checks that it holds the requested range.
static int check(struct object_load *l, const struct answer *a, struct err *e)
{
    struct remote_object *o = l->o;
    uint64_t asked = l->start + l->s->have;
    if (!o->known && learn(o, a, e))
        return -1;
    uint64_t size = a->status == 206 ? a->total : a->length;
    if (!same(o, a) || size != o->size)
        return changed(e);
    uint64_t from = a->status == 206 ? a->from : 0;
    if (from != asked && (a->status == 206 || l->start))
        return err_machine(e, "the server sends other bytes than those that were asked for");
    if (o->size - l->start < l->s->want)
        l->s->want = (size_t)(o->size - l->start);
    l->place = (size_t)(from - l->start);
    l->checked = true;
    return 0;
}

static int on_body(void *ctx, const struct answer *a, const void *data, size_t n, struct err *e)
{
    struct object_load *l = ctx;
    struct slot *s = l->s;
    pthread_mutex_lock(&l->o->lock);
    int rc = l->checked ? 0 : check(l, a, e);
    size_t want = s->want, have = s->have;
    pthread_mutex_unlock(&l->o->lock);
    if (rc)
        return -1;
    if (n > want - l->place)
        return err_machine(e, "the server sends more bytes than were asked for");
    // Of a whole answer to a second try, the first bytes are there already.
    size_t skip = l->place < have ? have - l->place : 0;
    skip = skip < n ? skip : n;
    memcpy(s->data + l->place + skip, (const uint8_t *)data + skip, n - skip);
    l->place += n;
    pthread_mutex_lock(&l->o->lock);
    if (l->place > s->have)
        s->have = l->place;
    if (l->o->waiting && s->index == l->o->at / l->o->r->block)
        pthread_cond_signal(&l->o->arrived);
    pthread_mutex_unlock(&l->o->lock);
    return 0;
}

// Sets the range to what is missing.
static void ask(struct object_load *l, struct http_request *q)
{
    pthread_mutex_lock(&l->o->lock);
    l->checked = false;
    q->from = l->start + l->s->have;
    q->to = l->start + l->s->want - 1;
    q->if_match = l->o->known && answer_strong(l->o->etag) ? l->o->etag : "";
    pthread_mutex_unlock(&l->o->lock);
}

static bool on_again(void *ctx, struct http_request *q)
{
    struct object_load *l = ctx;
    bool progress = l->s->have > l->before;
    l->before = l->s->have;
    ask(l, q);
    return progress;
}

// An answer without bytes: an empty file, or an error.
static int without_bytes(struct object_load *l, const struct answer *a, struct err *e)
{
    struct remote_object *o = l->o;
    if (a->status == 404)
        return err_machine(e, "there is no such %s (404)", o->place.store ? "object" : "file");
    if (o->known)
        return changed(e);
    bool empty = a->status == 416 ? !a->has_total || a->total == 0 : a->has_length && !a->length;
    if (!empty)
        return err_machine(e, "the server answers %d and sends nothing", a->status);
    pthread_mutex_lock(&o->lock);
    o->known = true;
    o->size = l->s->want = 0;
    tell(o);
    pthread_mutex_unlock(&o->lock);
    return 0;
}

static int load(struct remote_object *o, struct slot *s, struct err *e)
{
    struct object_load l = {.o = o, .s = s, .start = s->index * o->r->block};
    struct http_request q = {.place = &o->place,
                             .range = true,
                             .body = on_body,
                             .again = on_again,
                             .ctx = &l,
                             .stop = &o->stop};
    struct answer a;
    if (!s->data && !(s->data = remote_take_buffer(o->r, e)))
        return -1;
    do {
        l.before = s->have;
        ask(&l, &q);
        if (http_send(o->r, &q, &a, e))
            return -1;
        if (!l.checked)
            return without_bytes(&l, &a, e);
        if (s->have == l.before)
            return err_machine(e, "the server sends fewer bytes than it says");
    } while (s->have < s->want);
    return 0;
}

// The next block to be loaded, its slot marked; NULL when there is none for now. The lock is held.
static struct slot *claim(struct remote_object *o)
{
    uint64_t here = o->at / o->r->block;
    if (o->next_block < here)
        o->next_block = here;
    uint64_t i = o->next_block;
    struct slot *s = &o->slots[i % o->n_slots];
    if (i && !o->known) // the first block tells how many there are
        return NULL;
    if (i >= here + o->n_slots || s->state != FREE || (i && i * o->r->block >= o->size))
        return NULL;
    uint64_t left = o->known ? o->size - i * o->r->block : o->r->block;
    s->state = LOADING;
    s->index = i;
    s->have = 0;
    s->want = left < o->r->block ? (size_t)left : o->r->block;
    o->next_block++;
    return s;
}

static bool passed(const struct remote_object *o, const struct slot *s)
{
    return o->at >= s->index * o->r->block + o->r->block;
}

static void *work(void *ctx)
{
    struct remote_object *o = ctx;
    struct err e;
    pthread_mutex_lock(&o->lock);
    while (!atomic_load(&o->stop) && !o->failed) {
        struct slot *s = claim(o);
        if (!s) {
            pthread_cond_wait(&o->room, &o->lock);
            continue;
        }
        pthread_mutex_unlock(&o->lock);
        int rc = load(o, s, &e);
        pthread_mutex_lock(&o->lock);
        s->state = passed(o, s) ? FREE : READY;
        if (rc && !o->failed) {
            o->failed = true;
            o->fail = e;
            o->fail.machine = true;
        }
        if (o->failed)
            tell(o);
    }
    pthread_mutex_unlock(&o->lock);
    return NULL;
}

static int start_threads(struct remote_object *o, size_t n, struct err *e)
{
    for (; o->n_threads < n; o->n_threads++)
        if (pthread_create(&o->threads[o->n_threads], NULL, work, o))
            return o->n_threads ? 0 : err_machine(e, "cannot start a thread");
    return 0;
}

static struct remote_object *begin(struct remote *r, const char *name, struct err *e)
{
    struct remote_object *o = remote_start(r, e) ? NULL : mem_alloc(1, sizeof *o, e);
    if (!o)
        return NULL;
    o->r = r;
    o->n_slots = 1;
    pthread_mutex_init(&o->lock, NULL);
    pthread_cond_init(&o->arrived, NULL);
    pthread_cond_init(&o->room, NULL);
    o->name = mem_strdup(name, e);
    if (o->name && !place_of(&o->place, name, &r->aws, e) && !start_threads(o, 1, e))
        return o;
    remote_close(o);
    return NULL;
}

void remote_ahead(struct remote *r, const char *name)
{
    struct err unused;
    if (!r->ahead)
        r->ahead = begin(r, name, &unused);
}

// Block 0 keeps its slot when there are more of them.
static int more_slots(struct remote_object *o, struct err *e)
{
    uint64_t blocks = (o->size + o->r->block - 1) / o->r->block;
    size_t n = blocks < o->r->n_blocks ? (size_t)blocks : o->r->n_blocks;
    if (n <= 1)
        return 0;
    pthread_mutex_lock(&o->lock);
    o->n_slots = n;
    pthread_cond_broadcast(&o->room);
    pthread_mutex_unlock(&o->lock);
    return start_threads(o, n, e);
}

struct remote_object *remote_open(struct remote *r, const char *name, struct err *e)
{
    struct remote_object *o = r->ahead;
    if (o && strcmp(o->name, name)) {
        remote_close(o);
        o = NULL;
    }
    r->ahead = NULL;
    if (!o && !(o = begin(r, name, e)))
        return e->machine = true, NULL;
    pthread_mutex_lock(&o->lock);
    while (!o->known && !o->failed)
        pthread_cond_wait(&o->arrived, &o->lock);
    bool failed = o->failed && !o->known;
    pthread_mutex_unlock(&o->lock);
    if (failed)
        *e = o->fail;
    if (!failed && more_slots(o, e) == 0)
        return o;
    remote_close(o);
    return NULL;
}

uint64_t remote_size(const struct remote_object *o)
{
    return o->size;
}

// Moves the reader's place; blocks that are behind it are free. The lock is held.
static void advance(struct remote_object *o, uint64_t n)
{
    o->at += n;
    bool freed = false;
    for (size_t i = 0; i < o->n_slots; i++)
        if (o->slots[i].state == READY && passed(o, &o->slots[i])) {
            o->slots[i].state = FREE;
            freed = true;
        }
    if (freed)
        pthread_cond_broadcast(&o->room);
}

static const struct slot *slot_here(const struct remote_object *o)
{
    uint64_t i = o->at / o->r->block;
    const struct slot *s = &o->slots[i % o->n_slots];
    return s->state != FREE && s->index == i && s->have > o->at % o->r->block ? s : NULL;
}

ssize_t remote_next(struct remote_object *o, const uint8_t **data, struct err *e)
{
    const struct slot *s = NULL;
    ssize_t n = 0;
    pthread_mutex_lock(&o->lock);
    size_t given = o->given;
    o->given = 0;
    advance(o, given);
    o->waiting = true;
    while (o->at < o->size && !(s = slot_here(o)) && !o->failed)
        pthread_cond_wait(&o->arrived, &o->lock);
    o->waiting = false;
    if (s) {
        *data = s->data + o->at % o->r->block;
        n = (ssize_t)(o->given = s->have - (size_t)(o->at % o->r->block));
    } else if (o->at < o->size) {
        *e = o->fail;
        n = -1;
    }
    pthread_mutex_unlock(&o->lock);
    return n;
}

uint64_t remote_skip(struct remote_object *o, uint64_t n)
{
    pthread_mutex_lock(&o->lock);
    size_t given = o->given;
    o->given = 0;
    uint64_t left = o->size - (o->at + given);
    n = n < left ? n : left;
    advance(o, given + n);
    pthread_mutex_unlock(&o->lock);
    return n;
}

void remote_close(struct remote_object *o)
{
    if (!o)
        return;
    pthread_mutex_lock(&o->lock);
    atomic_store(&o->stop, true);
    pthread_cond_broadcast(&o->room);
    pthread_mutex_unlock(&o->lock);
    for (size_t i = 0; i < o->n_threads; i++)
        pthread_join(o->threads[i], NULL);
    for (size_t i = 0; i < REMOTE_CONNECTIONS; i++)
        remote_give_buffer(o->r, o->slots[i].data);
    pthread_cond_destroy(&o->arrived);
    pthread_cond_destroy(&o->room);
    pthread_mutex_destroy(&o->lock);
    free(o->name);
    free(o);
}
#endif
