// SPDX-License-Identifier: Apache-2.0
#include "embed/batch.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static void *room(size_t rows, size_t each, size_t size, struct err *e)
{
    size_t n;
    if (mem_mul(rows, each, &n))
        return mem_alloc(n ? n : 1, size, e);
    err_set(e, "a batch of %zu is too large", rows);
    return NULL;
}

static int batch_init(struct embed_batch *b, const struct embed_shape *s, struct err *e)
{
    *b = (struct embed_batch){0};
    b->has_image = room(s->rows, 1, sizeof *b->has_image, e);
    b->has_text = room(s->rows, 1, sizeof *b->has_text, e);
    b->pixels = room(s->rows, s->image_bytes, 1, e);
    b->tokens = room(s->rows, s->context, sizeof *b->tokens, e);
    b->image = room(s->rows, s->image_bytes ? s->dim : 0, sizeof *b->image, e);
    b->text = room(s->rows, s->context ? s->dim : 0, sizeof *b->text, e);
    return b->has_image && b->has_text && b->pixels && b->tokens && b->image && b->text ? 0 : -1;
}

double embed_sample_bytes(const struct embed_shape *s)
{
    size_t sides = (s->image_bytes ? 1 : 0) + (s->context ? 1 : 0);
    return EMBED_BATCHES *
           (2 * sizeof(bool) + (double)s->image_bytes + (double)s->context * sizeof(int32_t) +
            (double)(sides * s->dim) * sizeof(float));
}

int embed_ring_init(struct embed_ring *r, const struct embed_shape *s, struct err *e)
{
    memset(r, 0, sizeof *r);
    r->shape = *s;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->moved, NULL);
    for (int i = 0; i < EMBED_BATCHES; i++)
        if (batch_init(&r->batch[i], s, e)) {
            embed_ring_release(r);
            return -1;
        }
    return 0;
}

void embed_ring_release(struct embed_ring *r)
{
    for (int i = 0; i < EMBED_BATCHES; i++) {
        struct embed_batch *b = &r->batch[i];
        void *all[] = {b->has_image, b->has_text, b->pixels, b->tokens, b->image, b->text};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            free(all[k]);
    }
    pthread_cond_destroy(&r->moved);
    pthread_mutex_destroy(&r->lock);
    memset(r, 0, sizeof *r);
}

// True if the stage has a batch to work on; for reading, a batch that writing has finished.
static bool ready(const struct embed_ring *r, enum embed_stage s)
{
    if (s == EMBED_READ)
        return r->taken[EMBED_READ] - r->done[EMBED_WRITE] < EMBED_BATCHES;
    return r->taken[s] < r->done[s - 1];
}

struct embed_batch *embed_ring_take(struct embed_ring *r, enum embed_stage s)
{
    struct embed_batch *b = NULL;
    pthread_mutex_lock(&r->lock);
    while (!r->failed && !ready(r, s) && !(s != EMBED_READ && r->ended[s - 1]))
        pthread_cond_wait(&r->moved, &r->lock);
    if (!r->failed && ready(r, s))
        b = &r->batch[r->taken[s]++ % EMBED_BATCHES];
    pthread_mutex_unlock(&r->lock);
    if (b && s == EMBED_READ) {
        b->item = NULL;
        b->last = false;
        b->n = b->n_images = b->n_texts = 0;
    }
    return b;
}

bool embed_ring_empty(struct embed_ring *r, enum embed_stage s)
{
    pthread_mutex_lock(&r->lock);
    bool yes = !r->failed && !ready(r, s) && !(s != EMBED_READ && r->ended[s - 1]);
    pthread_mutex_unlock(&r->lock);
    return yes;
}

void embed_ring_give(struct embed_ring *r, enum embed_stage s)
{
    pthread_mutex_lock(&r->lock);
    r->done[s]++;
    pthread_cond_broadcast(&r->moved);
    pthread_mutex_unlock(&r->lock);
}

void embed_ring_end(struct embed_ring *r, enum embed_stage s)
{
    pthread_mutex_lock(&r->lock);
    r->ended[s] = true;
    pthread_cond_broadcast(&r->moved);
    pthread_mutex_unlock(&r->lock);
}

void embed_ring_fail(struct embed_ring *r, const struct err *e)
{
    pthread_mutex_lock(&r->lock);
    if (!r->failed)
        r->err = *e;
    r->failed = true;
    pthread_cond_broadcast(&r->moved);
    pthread_mutex_unlock(&r->lock);
}
