// SPDX-License-Identifier: Apache-2.0
#include "system/threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "system/signals.h"

int threads_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set))
        return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? n : 1;
}

// Idle threads wait for the next call, of this or another caller, because a loop over a few
// thousand rows takes less time than starting sixteen threads. They end with the process.
struct threads_call {
    void *(*entry)(void *);
    void *arg;
    size_t wanted, busy; // threads that may still join; those at work
    pthread_cond_t back;
    struct threads_call *next;
};
static struct {
    pthread_mutex_t lock;
    pthread_cond_t called;
    struct threads_call *calls; // loops that can use more threads
    size_t wanted, idle; // by all calls; threads without work, those that are being started too
} shared = {.lock = PTHREAD_MUTEX_INITIALIZER, .called = PTHREAD_COND_INITIALIZER};

// Lowers the number of threads that c still waits for by n.
static void want_less(struct threads_call *c, size_t n)
{
    struct threads_call **at = &shared.calls;
    c->wanted -= n;
    shared.wanted -= n;
    while (!c->wanted && *at && *at != c)
        at = &(*at)->next;
    if (!c->wanted && *at)
        *at = c->next;
}

static void *thread_main(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&shared.lock);
    for (;;) {
        while (!shared.calls)
            pthread_cond_wait(&shared.called, &shared.lock);
        struct threads_call *c = shared.calls;
        want_less(c, 1);
        c->busy++;
        shared.idle--;
        pthread_mutex_unlock(&shared.lock);
        c->entry(c->arg);
        pthread_mutex_lock(&shared.lock);
        shared.idle++;
        if (--c->busy == 0)
            pthread_cond_signal(&c->back);
    }
    return NULL;
}

static int start_thread(void)
{
    pthread_attr_t detached;
    pthread_t id;
    if (pthread_attr_init(&detached))
        return -1;
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    int rc = pthread_create(&id, &detached, thread_main, NULL);
    pthread_attr_destroy(&detached);
    shared.idle += rc == 0;
    return rc;
}

// Runs `entry` on `threads` threads, the caller's among them.
static int run_threads(int threads, void *(*entry)(void *), void *arg, struct err *e)
{
    struct threads_call c = {.entry = entry, .arg = arg, .back = PTHREAD_COND_INITIALIZER};
    int rc = 0;
    pthread_mutex_lock(&shared.lock);
    if (threads > 1) {
        c.wanted = (size_t)threads - 1;
        shared.wanted += c.wanted;
        c.next = shared.calls;
        shared.calls = &c;
    }
    while (shared.idle < shared.wanted && !rc)
        if (start_thread())
            rc = err_set(e, "cannot start all of %d threads", threads);
    pthread_cond_broadcast(&shared.called);
    pthread_mutex_unlock(&shared.lock);
    entry(arg); // the work is done even when a thread is missing; the caller still learns of it
    pthread_mutex_lock(&shared.lock);
    if (c.wanted)
        want_less(&c, c.wanted); // all is done
    while (c.busy)
        pthread_cond_wait(&c.back, &shared.lock);
    pthread_mutex_unlock(&shared.lock);
    pthread_cond_destroy(&c.back);
    return rc;
}

struct loop {
    atomic_size_t next;
    size_t n;
    void (*work)(void *, size_t);
    void *ctx;
    bool stoppable;
};

static void *loop_thread(void *arg)
{
    struct loop *l = arg;
    for (size_t i; (i = atomic_fetch_add(&l->next, 1)) < l->n;) {
        if (l->stoppable && signals_stop_wanted())
            break;
        l->work(l->ctx, i);
    }
    return NULL;
}

static int run_loop(struct loop *l, int threads, struct err *e)
{
    if (threads <= 1 || l->n <= 1) {
        loop_thread(l);
        return 0;
    }
    return run_threads((size_t)threads < l->n ? threads : (int)l->n, loop_thread, l, e);
}

int threads_for(int threads, size_t n, void (*work)(void *ctx, size_t i), void *ctx, struct err *e)
{
    struct loop l = {.n = n, .work = work, .ctx = ctx};
    return run_loop(&l, threads, e);
}

int threads_take(void *first, size_t size, int threads)
{
    int slot = 0;
    while (atomic_flag_test_and_set((atomic_flag *)((char *)first + (size_t)slot * size)))
        slot = (slot + 1) % threads;
    return slot;
}

int threads_for_stop(int threads, size_t n, void (*work)(void *ctx, size_t i), void *ctx,
                     struct err *e)
{
    struct loop l = {.n = n, .work = work, .ctx = ctx, .stoppable = true};
    if (run_loop(&l, threads, e))
        return -1;
    return signals_stop_wanted() ? err_set(e, "stopped") : 0;
}

enum slot_state { SLOT_FREE, SLOT_READ, SLOT_WORKING, SLOT_DONE };

struct pipeline_slot {
    enum slot_state state;
    int failed; // the error of work is kept until its turn to be written
    struct err error;
};

// Item number i lives in slot i % n_slots. reading/writing are locks held while the step runs
// outside the mutex.
struct pipeline {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    const struct pipeline_steps *steps;
    void *ctx, **items;
    struct pipeline_slot *slots;
    size_t n_slots, n_read, n_taken, n_written;
    bool reading, writing, ended, stopped;
    int read_failed, rc;
    struct err read_error, *e;
};

static bool can_write(const struct pipeline *p)
{
    return !p->writing && p->n_written < p->n_read &&
           p->slots[p->n_written % p->n_slots].state == SLOT_DONE;
}

static bool can_read(const struct pipeline *p)
{
    return !p->reading && !p->ended && p->n_read - p->n_written < p->n_slots;
}

static void stop(struct pipeline *p, int rc, const struct err *why)
{
    p->stopped = p->ended = true;
    if (rc && !p->rc) {
        p->rc = rc;
        *p->e = *why;
    }
}

static void step_write(struct pipeline *p)
{
    size_t i = p->n_written % p->n_slots;
    struct pipeline_slot *s = &p->slots[i];
    struct err why = s->error;
    int rc = s->failed;
    p->writing = true;
    pthread_mutex_unlock(&p->lock);
    if (!rc)
        rc = p->steps->write(p->ctx, p->items[i], &why);
    pthread_mutex_lock(&p->lock);
    p->writing = false;
    s->state = SLOT_FREE;
    p->n_written++;
    if (rc)
        stop(p, rc < 0 ? -1 : 0, &why);
}

static void step_work(struct pipeline *p)
{
    size_t i = p->n_taken++ % p->n_slots;
    struct pipeline_slot *s = &p->slots[i];
    s->state = SLOT_WORKING;
    pthread_mutex_unlock(&p->lock);
    int rc = p->steps->work(p->ctx, p->items[i], &s->error);
    pthread_mutex_lock(&p->lock);
    s->failed = rc;
    s->state = SLOT_DONE;
}

static void step_read(struct pipeline *p)
{
    size_t i = p->n_read % p->n_slots;
    p->reading = true;
    pthread_mutex_unlock(&p->lock);
    int rc = p->steps->read(p->ctx, p->items[i], &p->read_error);
    pthread_mutex_lock(&p->lock);
    p->reading = false;
    if (rc <= 0) {
        p->ended = true;
        p->read_failed = rc < 0;
        return;
    }
    p->slots[i] = (struct pipeline_slot){.state = SLOT_READ};
    p->n_read++;
}

static void *pipeline_thread(void *arg)
{
    struct pipeline *p = arg;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        if (p->stopped || (p->ended && !p->reading && p->n_written == p->n_read))
            break;
        if (can_write(p))
            step_write(p);
        else if (p->n_taken < p->n_read)
            step_work(p);
        else if (can_read(p))
            step_read(p);
        else {
            pthread_cond_wait(&p->changed, &p->lock);
            continue;
        }
        pthread_cond_broadcast(&p->changed);
    }
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

int pipeline_run(int threads, void **items, size_t n_items, const struct pipeline_steps *steps,
                 void *ctx, struct err *e)
{
    struct pipeline p = {.steps = steps, .ctx = ctx, .items = items, .n_slots = n_items, .e = e};
    p.slots = mem_alloc(n_items, sizeof *p.slots, e);
    if (!p.slots)
        return -1;
    pthread_mutex_init(&p.lock, NULL);
    pthread_cond_init(&p.changed, NULL);
    struct err thread_error;
    int rc = run_threads(threads, pipeline_thread, &p, &thread_error);
    if (p.rc)
        rc = p.rc;
    else if (p.read_failed && !p.stopped) {
        *e = p.read_error;
        rc = -1;
    } else if (rc)
        *e = thread_error;
    pthread_cond_destroy(&p.changed);
    pthread_mutex_destroy(&p.lock);
    free(p.slots);
    return rc;
}
