// SPDX-License-Identifier: Apache-2.0
// rng and par: known answers, permutations, and a pipeline whose output has one order for any
// number of threads.
#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "system/threads.h"
#include "base/rng.h"
#include "unit/tap.h"

struct sum {
    int hits[1000];
};

static void touch(void *ctx, size_t i)
{
    ((struct sum *)ctx)->hits[i]++;
}

struct run {
    int next, n, fail_read_at, fail_work_at, stop_at;
    int out[500], n_out;
};

static int read_step(void *ctx, void *item, struct err *e)
{
    struct run *r = ctx;
    if (r->next == r->fail_read_at)
        return err_set(e, "read %d", r->next);
    if (r->next == r->n)
        return 0;
    *(int *)item = r->next++;
    return 1;
}

static int work_step(void *ctx, void *item, struct err *e)
{
    struct run *r = ctx;
    if (*(int *)item == r->fail_work_at)
        return err_set(e, "work %d", *(int *)item);
    volatile double x = 0;
    for (int i = 0; i < (*(int *)item * 7919) % 5000; i++)
        x += i;
    (void)x;
    *(int *)item *= 2;
    return 0;
}

static int write_step(void *ctx, void *item, struct err *e)
{
    struct run *r = ctx;
    (void)e;
    r->out[r->n_out++] = *(int *)item;
    return r->n_out == r->stop_at;
}

static int run_pipeline(struct run *r, int threads, struct err *e)
{
    static const struct pipeline_steps steps = {read_step, work_step, write_step};
    int values[6];
    void *items[6];
    for (int i = 0; i < 6; i++)
        items[i] = &values[i];
    return pipeline_run(threads, items, 6, &steps, r, e);
}

static int in_order(const struct run *r)
{
    for (int i = 0; i < r->n_out; i++) {
        if (r->out[i] != 2 * i)
            return 0;
    }
    return 1;
}

static void test_pipeline(void)
{
    struct err e;
    for (int t = 1; t <= 4; t++) {
        struct run r = {.n = 500, .fail_read_at = -1, .fail_work_at = -1};
        ok(run_pipeline(&r, t, &e) == 0 && r.n_out == 500 && in_order(&r),
           "%d threads: all written in order", t);
        struct run bad = {.n = 500, .fail_read_at = 100, .fail_work_at = -1};
        ok(run_pipeline(&bad, t, &e) == -1 && bad.n_out == 100 && !strcmp(e.text, "read 100"),
           "%d threads: what was read before an error is written", t);
        struct run work = {.n = 500, .fail_read_at = -1, .fail_work_at = 50};
        ok(run_pipeline(&work, t, &e) == -1 && work.n_out == 50 && !strcmp(e.text, "work 50"),
           "%d threads: an error in work ends the output at its place", t);
        struct run early = {.n = 500, .fail_read_at = -1, .fail_work_at = -1, .stop_at = 33};
        ok(run_pipeline(&early, t, &e) == 0 && early.n_out == 33, "%d threads: stop early", t);
    }
}

static void test_permutation(void)
{
    for (uint64_t n = 1; n < 3000; n = n * 3 + 1) {
        unsigned char *seen = calloc(n, 1);
        int good = seen != NULL;
        for (uint64_t i = 0; good && i < n; i++) {
            uint64_t k = rng_permute(5, 2, n, i);
            good = k < n && !seen[k];
            if (good)
                seen[k] = 1;
        }
        free(seen);
        ok(good, "rng_permute is a permutation of %d", (int)n);
    }
}

static size_t tasks_of_process(void)
{
    DIR *d = opendir("/proc/self/task");
    size_t n = 0;
    for (struct dirent *f; d && (f = readdir(d));)
        n += f->d_name[0] != '.';
    if (d)
        closedir(d);
    return n;
}

static void add_one(void *ctx, size_t i)
{
    atomic_size_t *sum = ctx;
    atomic_fetch_add(sum, i);
}

static void *many_loops(void *arg)
{
    struct err e;
    size_t *wrong = arg;
    for (int t = 0; t < 300; t++) {
        atomic_size_t sum = 0;
        if (threads_for(1 + t % 8, 100, add_one, &sum, &e) || sum != 4950)
            ++*wrong;
    }
    return NULL;
}

// A short loop that starts its threads anew costs more than it saves.
static void test_threads_stay(void)
{
    pthread_t id[3];
    size_t wrong[4] = {0}, most;
    many_loops(&wrong[0]);
    most = tasks_of_process();
    ok(!wrong[0] && most <= 8, "300 loops on up to 8 threads: %zu threads are there", most);
    for (int i = 0; i < 3; i++)
        pthread_create(&id[i], NULL, many_loops, &wrong[i + 1]);
    for (int i = 0; i < 3; i++)
        pthread_join(id[i], NULL);
    most = tasks_of_process();
    ok(!wrong[1] && !wrong[2] && !wrong[3] && most <= 24, "loops of three callers at once: %zu",
       most);
}

int main(void)
{
    uint32_t b[4];
    rng_block(0, 0, 0, b); // known answers published with Philox4x32-10
    ok(b[0] == 0x6627e8d5 && b[1] == 0xe169c58d && b[2] == 0xbc57ac4c && b[3] == 0x9b00dbd8,
       "Philox4x32-10, zero key and counter");
    rng_block(~0ull, ~0ull, ~0ull, b);
    ok(b[0] == 0x408f276d && b[1] == 0x41c83b0e && b[2] == 0xa20bc7c6 && b[3] == 0x6d5451fd,
       "Philox4x32-10, all ones");
    struct rng r;
    rng_init(&r, 1, 0);
    double s = 0, s2 = 0;
    for (int i = 0; i < 100000; i++) {
        double x = rng_normal(&r);
        s += x;
        s2 += x * x;
    }
    ok(fabs(s / 1e5) < 0.02 && fabs(s2 / 1e5 - 1) < 0.02, "normal: mean 0, variance 1");
    int counts[3] = {0};
    for (int i = 0; i < 30000; i++)
        counts[rng_below(&r, 3)]++;
    ok(abs(counts[0] - 10000) < 400 && abs(counts[1] - 10000) < 400, "rng_below is even");
    test_permutation();

    struct err e;
    for (int t = 1; t <= 3; t++) {
        struct sum sum = {{0}};
        int good = threads_for(t, 1000, touch, &sum, &e) == 0;
        for (int i = 0; i < 1000; i++)
            good = good && sum.hits[i] == 1;
        ok(good, "threads_for, %d threads: each index once", t);
    }
    ok(threads_cpus() >= 1, "there is a processor");
    test_pipeline();
    test_threads_stay();
    return tap_done();
}
