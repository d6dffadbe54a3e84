// SPDX-License-Identifier: Apache-2.0
// Works that are done behind the caller's, in the order given, on one thread.
#include <pthread.h>
#include <stdlib.h>

#include "base/mem.h"
#include "comm/run.h"

struct queue_item {
    int (*work)(void *ctx, struct comm *c, struct err *e);
    void *ctx;
};

struct comm_queue {
    struct comm *c;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct queue_item *items; // [at, n) wait or run
    size_t at, n, room;
    bool ends, failed;
    struct err e; // with failed
};

static void *run(void *arg)
{
    struct comm_queue *q = arg;
    pthread_mutex_lock(&q->lock);
    for (;;) {
        while (q->at == q->n && !q->ends)
            pthread_cond_wait(&q->changed, &q->lock);
        if (q->at == q->n)
            break;
        struct queue_item item = q->items[q->at];
        bool passed_over = q->failed;
        struct err e;
        pthread_mutex_unlock(&q->lock);
        int r = passed_over ? 0 : item.work(item.ctx, q->c, &e);
        pthread_mutex_lock(&q->lock);
        if (r) {
            q->failed = true;
            q->e = e;
        }
        if (++q->at == q->n)
            q->at = q->n = 0;
        pthread_cond_broadcast(&q->changed);
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

static int begin(struct comm *c, struct err *e)
{
    struct comm_queue *q = mem_alloc(1, sizeof *q, e);
    if (!q)
        return -1;
    q->c = c;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->changed, NULL);
    if (pthread_create(&q->thread, NULL, run, q)) {
        pthread_cond_destroy(&q->changed);
        pthread_mutex_destroy(&q->lock);
        free(q);
        return err_machine(e, "cannot start a thread");
    }
    c->queue = q;
    return 0;
}

int comm_later(struct comm *c, int (*work)(void *ctx, struct comm *c, struct err *e), void *ctx,
               struct err *e)
{
    if (c->size == 1)
        return work(ctx, c, e);
    if (!c->queue && begin(c, e))
        return -1;
    struct comm_queue *q = c->queue;
    pthread_mutex_lock(&q->lock);
    int r = q->failed ? -1 : mem_grow(&q->items, &q->room, q->n + 1, sizeof *q->items, e);
    if (q->failed)
        *e = q->e;
    if (!r)
        q->items[q->n++] = (struct queue_item){work, ctx};
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
    return r;
}

int comm_wait(struct comm *c, struct err *e)
{
    struct comm_queue *q = c->queue;
    if (!q)
        return 0;
    pthread_mutex_lock(&q->lock);
    while (q->at < q->n)
        pthread_cond_wait(&q->changed, &q->lock);
    int r = q->failed ? -1 : 0;
    if (r)
        *e = q->e;
    pthread_mutex_unlock(&q->lock);
    return r;
}

void comm_queue_free(struct comm_queue *q)
{
    if (!q)
        return;
    pthread_mutex_lock(&q->lock);
    q->ends = true;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
    pthread_join(q->thread, NULL);
    pthread_cond_destroy(&q->changed);
    pthread_mutex_destroy(&q->lock);
    free(q->items);
    free(q);
}
