// SPDX-License-Identifier: Apache-2.0
#include "system/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

// A worker that has nothing to do looks this often before it sleeps: the gap between two loops of
// a forward pass is shorter than a wake-up.
enum { SPINS = 2000 };

struct pool {
    int threads;
    pthread_t *ids; // the started ones, threads - 1
    int started;
    pthread_mutex_t lock;
    pthread_cond_t wake, idle;
    atomic_uint round; // one more for each loop
    bool stop;
    atomic_int busy; // workers that have not finished the round
    size_t n;
    atomic_size_t next;
    void (*work)(void *, size_t, int);
    void *ctx;
};

struct start {
    struct pool *pool;
    int worker;
};

static void run_items(struct pool *p, int worker)
{
    size_t i;
    while ((i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed)) < p->n)
        p->work(p->ctx, i, worker);
}

static void spin_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

// Waits for a round other than `seen`; false when the pool ends.
static bool wait_round(struct pool *p, unsigned *seen)
{
    for (int i = 0; i < SPINS && atomic_load(&p->round) == *seen; i++)
        spin_pause();
    pthread_mutex_lock(&p->lock);
    while (atomic_load(&p->round) == *seen && !p->stop)
        pthread_cond_wait(&p->wake, &p->lock);
    bool go = !p->stop;
    *seen = atomic_load(&p->round);
    pthread_mutex_unlock(&p->lock);
    return go;
}

static void *worker_main(void *arg)
{
    struct start s = *(struct start *)arg;
    free(arg);
    unsigned seen = 0;
    while (wait_round(s.pool, &seen)) {
        run_items(s.pool, s.worker);
        if (atomic_fetch_sub(&s.pool->busy, 1) == 1) {
            pthread_mutex_lock(&s.pool->lock);
            pthread_cond_signal(&s.pool->idle);
            pthread_mutex_unlock(&s.pool->lock);
        }
    }
    return NULL;
}

static int start_workers(struct pool *p, struct err *e)
{
    for (int i = 1; i < p->threads; i++) {
        struct start *s = mem_alloc(1, sizeof *s, e);
        if (!s)
            return -1;
        *s = (struct start){p, i};
        int rc = pthread_create(&p->ids[p->started], NULL, worker_main, s);
        if (rc) {
            free(s);
            return err_set(e, "cannot start a thread: %s", strerror(rc));
        }
        p->started++;
    }
    return 0;
}

struct pool *pool_new(int threads, struct err *e)
{
    struct pool *p = mem_alloc(1, sizeof *p, e);
    if (!p)
        return NULL;
    p->threads = threads < 1 ? 1 : threads;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->idle, NULL);
    p->ids = mem_alloc((size_t)p->threads, sizeof *p->ids, e);
    if (!p->ids || start_workers(p, e)) {
        pool_free(p);
        return NULL;
    }
    return p;
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->started; i++)
        pthread_join(p->ids[i], NULL);
    pthread_cond_destroy(&p->idle);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p->ids);
    free(p);
}

static void wait_idle(struct pool *p)
{
    for (int i = 0; i < SPINS && atomic_load(&p->busy) > 0; i++)
        spin_pause();
    pthread_mutex_lock(&p->lock);
    while (atomic_load(&p->busy) > 0)
        pthread_cond_wait(&p->idle, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

void pool_for(struct pool *p, size_t n, void (*work)(void *ctx, size_t i, int worker), void *ctx)
{
    if (p->started == 0 || n < 2) {
        for (size_t i = 0; i < n; i++)
            work(ctx, i, 0);
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->work = work;
    p->ctx = ctx;
    p->n = n;
    atomic_store(&p->next, 0);
    atomic_store(&p->busy, p->started);
    atomic_fetch_add(&p->round, 1);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    run_items(p, 0);
    wait_idle(p);
}
