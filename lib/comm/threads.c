// SPDX-License-Identifier: Apache-2.0
// Threads as ranks. Each pair of ranks has a box each way; a call puts a reference to its bytes
// into the boxes of those it gives to, copies out of the boxes of those it takes from, and waits
// until its own are empty.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "comm/comm.h"

struct comm_box {
    const char *what;
    const void *p;
    size_t n;
    bool full;
};

struct meeting {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int size;
    struct comm_box *box; // from * size + to
    bool *gone;           // per rank: it has returned
    int failed;           // the first rank that failed, or -1
};

struct rank_thread {
    struct meeting *m;
    struct comm_backend b;
    struct comm c;
    pthread_t thread;
    int (*rank)(void *ctx, struct comm *c, struct err *e);
    void *ctx;
    int status;
    bool started, victim; // victim: of another rank's failure
    struct err e;
};

static struct comm_box *box_of(struct meeting *m, int from, int to)
{
    return &m->box[from * m->size + to];
}

// Another rank's failure, or its end, ends this one's wait.
static int lost(struct rank_thread *t, int peer)
{
    struct meeting *m = t->m;
    if (m->failed >= 0) {
        t->victim |= m->failed != t->b.rank;
        snprintf(t->b.why, sizeof t->b.why, "rank %d failed", m->failed);
        return -1;
    }
    if (!m->gone[peer])
        return 0;
    snprintf(t->b.why, sizeof t->b.why, "rank %d has ended", peer);
    return -1;
}

static void put(struct rank_thread *t, const char *what, int peer, const void *p, size_t n)
{
    struct meeting *m = t->m;
    pthread_mutex_lock(&m->lock);
    *box_of(m, t->b.rank, peer) = (struct comm_box){what, p, n, true};
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

static int fits(struct rank_thread *t, const char *what, int peer, const struct comm_box *is,
                size_t n)
{
    if (is->n == n && strcmp(is->what, what) == 0)
        return 0;
    snprintf(t->b.why, sizeof t->b.why, "%zu bytes wanted, rank %d has %zu of %s", n, peer, is->n,
             is->what);
    return -1;
}

static int take(struct rank_thread *t, const char *what, int peer, void *p, size_t n)
{
    struct meeting *m = t->m;
    struct comm_box *box = box_of(m, peer, t->b.rank);
    int r = 0;
    pthread_mutex_lock(&m->lock);
    while (!box->full && !(r = lost(t, peer)))
        pthread_cond_wait(&m->changed, &m->lock);
    r = r || fits(t, what, peer, box, n) ? -1 : 0;
    if (!r && n)
        memcpy(p, box->p, n); // under the lock: its owner may take it back
    box->full = box->full && r;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    return r;
}

// After a failure: what was put is the caller's again.
static int take_back(struct rank_thread *t, int r)
{
    struct meeting *m = t->m;
    pthread_mutex_lock(&m->lock);
    for (int k = 0; k < m->size && r; k++)
        box_of(m, t->b.rank, k)->full = false;
    pthread_mutex_unlock(&m->lock);
    return r;
}

static int wait_taken(struct rank_thread *t, int peer)
{
    struct meeting *m = t->m;
    struct comm_box *box = box_of(m, t->b.rank, peer);
    int r = 0;
    pthread_mutex_lock(&m->lock);
    while (box->full && !(r = lost(t, peer)))
        pthread_cond_wait(&m->changed, &m->lock);
    pthread_mutex_unlock(&m->lock);
    return r;
}

static int gather(struct comm_backend *b, const char *what, const void *mine, const size_t *bytes,
                  void *all)
{
    struct rank_thread *t = b->impl;
    char *to = all;
    int r = 0;
    for (int k = 0; k < b->size; k++)
        if (k != b->rank)
            put(t, what, k, mine, bytes[b->rank]);
    for (int k = 0; k < b->size && !r; k++) {
        if (k != b->rank)
            r = take(t, what, k, to, bytes[k]);
        else if (bytes[k] && to != mine)
            memcpy(to, mine, bytes[k]);
        to += bytes[k];
    }
    for (int k = 0; k < b->size && !r; k++)
        r = k == b->rank ? 0 : wait_taken(t, k);
    return take_back(t, r);
}

static int exchange(struct comm_backend *b, const char *what, int peer, const void *give,
                    size_t n_give, void *to, size_t n_take)
{
    struct rank_thread *t = b->impl;
    put(t, what, peer, give, n_give);
    return take_back(t, take(t, what, peer, to, n_take) || wait_taken(t, peer) ? -1 : 0);
}

static int spread(struct comm_backend *b, const char *what, const void *give, const size_t *n_give,
                  void *all, const size_t *n_take)
{
    struct rank_thread *t = b->impl;
    const char *from = give, *own = NULL;
    char *to = all;
    int r = 0;
    for (int k = 0; k < b->size; k++) {
        if (k == b->rank)
            own = from;
        else
            put(t, what, k, from, n_give[k]);
        from += n_give[k];
    }
    for (int k = 0; k < b->size && !r; k++) {
        if (k != b->rank)
            r = take(t, what, k, to, n_take[k]);
        else if (n_take[k])
            memcpy(to, own, n_take[k]);
        to += n_take[k];
    }
    for (int k = 0; k < b->size && !r; k++)
        r = k == b->rank ? 0 : wait_taken(t, k);
    return take_back(t, r);
}

static int barrier(struct comm_backend *b, const char *what)
{
    size_t *none = calloc((size_t)b->size, sizeof *none);
    int r = none ? gather(b, what, NULL, none, NULL) : -1;
    if (!none)
        snprintf(b->why, sizeof b->why, "out of memory");
    free(none);
    return r;
}

static void leave(struct rank_thread *t, bool failed)
{
    struct meeting *m = t->m;
    pthread_mutex_lock(&m->lock);
    m->gone[t->b.rank] = true;
    if (failed && m->failed < 0)
        m->failed = t->b.rank;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

static void give_up(struct comm_backend *b, int status)
{
    leave(b->impl, status != 0);
}

static void nothing(struct comm_backend *b)
{
    (void)b;
}

static void *run(void *arg)
{
    struct rank_thread *t = arg;
    t->status = t->rank(t->ctx, &t->c, &t->e);
    if (t->status)
        leave(t, true);
    comm_close(&t->c);
    leave(t, t->status != 0);
    return NULL;
}

static void set_up(struct rank_thread *t, struct meeting *m, int rank,
                   int (*work)(void *ctx, struct comm *c, struct err *e), void *ctx)
{
    *t = (struct rank_thread){.m = m, .rank = work, .ctx = ctx};
    t->b = (struct comm_backend){.rank = rank,
                                 .size = m->size,
                                 .impl = t,
                                 .gather = gather,
                                 .exchange = exchange,
                                 .spread = spread,
                                 .barrier = barrier,
                                 .abort = give_up,
                                 .close = nothing};
    t->c = (struct comm){.rank = rank, .size = m->size, .backend = m->size > 1 ? &t->b : NULL};
}

static int run_all(struct meeting *m, struct rank_thread *t, struct err *e)
{
    int r = 0;
    for (int i = 0; i < m->size; i++) {
        t[i].started = pthread_create(&t[i].thread, NULL, run, &t[i]) == 0;
        if (!t[i].started) {
            t[i].status = err_machine(&t[i].e, "cannot start a thread");
            leave(&t[i], true);
        }
    }
    for (int i = 0; i < m->size; i++)
        if (t[i].started)
            pthread_join(t[i].thread, NULL);
    for (int victims = 0; victims < 2 && !r; victims++)
        for (int i = 0; i < m->size && !r; i++)
            if (t[i].status && (victims || !t[i].victim)) {
                *e = t[i].e;
                r = -1;
            }
    return r;
}

int comm_threads(int size, int (*rank)(void *ctx, struct comm *c, struct err *e), void *ctx,
                 struct err *e)
{
    struct meeting m = {.size = size, .failed = -1};
    size_t n = (size_t)size;
    pthread_mutex_init(&m.lock, NULL);
    pthread_cond_init(&m.changed, NULL);
    m.box = mem_alloc(n * n, sizeof *m.box, e);
    m.gone = m.box ? mem_alloc(n, sizeof *m.gone, e) : NULL;
    struct rank_thread *t = m.gone ? mem_alloc(n, sizeof *t, e) : NULL;
    for (int i = 0; t && i < size; i++)
        set_up(&t[i], &m, i, rank, ctx);
    int r = t ? run_all(&m, t, e) : -1;
    pthread_cond_destroy(&m.changed);
    pthread_mutex_destroy(&m.lock);
    free(m.box);
    free(m.gone);
    free(t);
    return r;
}
