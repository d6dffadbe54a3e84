// SPDX-License-Identifier: Apache-2.0
// Signals: which ask for a stop and which kill, what is removed, and that the long loops of k-means
// and balance end inside an iteration or a pass, not behind it.
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "balance/balance.h"
#include "unit/child.h"
#include "cluster/kmeans.h"
#include "system/threads.h"
#include "unit/rows.h"
#include "system/signals.h"

enum { MANY = 500 };

static char dir[] = "/tmp/stop-test-XXXXXX";

static void path_of(char to[64], int i)
{
    snprintf(to, 64, "%s/%d", dir, i);
}

// ---- which signals stop

static uint64_t hangup_twice(void)
{
    signals_install();
    signals_catch_stop();
    raise(SIGHUP);
    raise(SIGHUP);
    return (uint64_t)signals_stop_signal() << 1 | (unsigned)signals_stop_wanted();
}

static uint64_t hangup_then_term(void)
{
    signals_install();
    signals_catch_stop();
    raise(SIGHUP);
    raise(SIGTERM);
    raise(SIGHUP);
    return (uint64_t)signals_stop_signal();
}

static uint64_t term_twice(void)
{
    signals_install();
    signals_catch_stop();
    raise(SIGTERM);
    raise(SIGTERM);
    return (uint64_t)signals_stop_signal();
}

static uint64_t term_late(void)
{
    struct timespec wait = {5, 200000000};
    term_twice();
    while (nanosleep(&wait, &wait))
        ;
    raise(SIGTERM);
    return 1;
}

static uint64_t term_then_interrupt(void)
{
    signal(SIGINT, SIG_DFL); // a shell ignores it for what it runs in the background
    term_twice();
    raise(SIGINT);
    return 1;
}

// What a batch system sends: the warning, then at the time limit SIGTERM twice.
static uint64_t warned(void)
{
    signals_install();
    signals_catch_stop();
    raise(SIGUSR2);
    raise(SIGUSR2);
    int first = signals_stop_signal();
    raise(SIGTERM);
    raise(SIGTERM);
    raise(SIGUSR2);
    return (uint64_t)first << 8 | (unsigned)signals_stop_signal();
}

static uint64_t warned_uncaught(void)
{
    signals_install();
    raise(SIGUSR2);
    return 1;
}

static uint64_t ignored(void)
{
    signal(SIGHUP, SIG_IGN);
    signals_install();
    signals_catch_stop();
    raise(SIGHUP);
    return signals_stop_wanted() ? 0 : 1;
}

static uint64_t uncaught(void)
{
    signals_install();
    raise(SIGHUP);
    return 1;
}

static void test_signals(void)
{
    uint64_t r;
    int status = child("T", "", hangup_twice, &r);
    ok(status == 0 && r == (SIGHUP << 1 | 1),
       "SIGHUP asks for a stop, and its second does not kill");
    status = child("T", "", hangup_then_term, &r);
    ok(status == 0 && r == SIGTERM, "nor does a first SIGTERM after it");
    status = child("T", "", term_twice, &r);
    ok(status == 0 && r == SIGTERM, "a second SIGTERM at once is the same one");
    status = child("T", "", term_late, &r);
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM, "one after more than 5 s kills");
    status = child("T", "", term_then_interrupt, &r);
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT, "so does SIGINT after it");
    status = child("T", "", warned, &r);
    ok(status == 0 && r == (SIGUSR2 << 8 | SIGTERM),
       "SIGUSR2 asks for a stop, and SIGTERM after it does not kill");
    status = child("T", "", warned_uncaught, &r);
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR2, "SIGUSR2 ends a tool that cannot stop");
    status = child("T", "", ignored, &r);
    ok(status == 0 && r == 1, "SIGHUP that nohup ignores stays ignored");
    status = child("T", "", uncaught, &r);
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGHUP, "a tool that cannot stop dies of it");
}

// ---- many paths and maps

static uint64_t guard_many(void)
{
    char path[64];
    signals_install();
    for (int i = 0; i < MANY; i++) {
        path_of(path, i);
        close(open(path, O_CREAT | O_WRONLY, 0600));
        signals_guard_path(path);
    }
    for (int i = 0; i < MANY; i += 5) {
        path_of(path, i);
        signals_unguard_path(path);
    }
    raise(SIGTERM);
    return 1;
}

static void test_guards(void)
{
    uint64_t r;
    char path[64];
    int left = 0, wrong = 0, status = child("T", "", guard_many, &r);
    for (int i = 0; i < MANY; i++) {
        path_of(path, i);
        bool there = access(path, F_OK) == 0;
        left += there;
        wrong += there != (i % 5 == 0);
        unlink(path);
    }
    ok(WIFSIGNALED(status) && left == MANY / 5 && !wrong,
       "%d guarded paths are removed, those no longer guarded are not: %d left", MANY, left);
}

static uint64_t cut_off(void)
{
    char path[64];
    const volatile char *map[MANY];
    signals_install();
    for (int i = 0; i < MANY; i++) {
        path_of(path, i);
        int fd = open(path, O_CREAT | O_RDWR, 0600);
        if (fd < 0 || ftruncate(fd, 4096))
            return 2;
        map[i] = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
        close(fd);
        signals_watch_map((const void *)(uintptr_t)map[i], 4096, path);
    }
    if (truncate(path, 0))
        return 3;
    return (uint64_t)map[MANY - 1][0];
}

static void test_maps(void)
{
    uint64_t r;
    char path[64];
    int status = child("T", "", cut_off, &r);
    ok(WIFEXITED(status) && WEXITSTATUS(status) == 1,
       "of %d maps, the last that is cut off ends the run with status 1", MANY);
    for (int i = 0; i < MANY; i++) {
        path_of(path, i);
        unlink(path);
    }
}

// ---- loops

static atomic_int calls;
static int stop_at; // the call that brings the signal

static void touch(void *ctx, size_t i)
{
    (void)ctx, (void)i;
    if (atomic_fetch_add(&calls, 1) == stop_at)
        raise(SIGTERM);
}

static uint64_t loop(void)
{
    struct err e;
    signals_install();
    signals_catch_stop();
    stop_at = 10;
    int r = threads_for_stop(1, 1000, touch, NULL, &e);
    return r == -1 && !strcmp(e.text, "stopped") ? (uint64_t)atomic_load(&calls) : 0;
}

static struct row_memory memory;

static int read_and_stop(void *ctx, uint64_t first, uint64_t count, float *out, struct err *e)
{
    (void)ctx, (void)e;
    touch(NULL, 0);
    memcpy(out, memory.rows + first * memory.dim, count * memory.dim * sizeof *out);
    return 0;
}

// Rows that are read again in each iteration, and call stop_at of reading brings the signal.
static struct row_source source_of(const float *x, uint64_t n, size_t dim)
{
    struct row_source s = row_source_memory(&memory, x, n, dim);
    memory = (struct row_memory){.rows = x, .dim = dim};
    s.read = read_and_stop;
    s.parts = NULL;
    return s;
}

struct saved {
    int n, level, iteration;
};

static int save(void *ctx, const struct kmeans_state *s, struct err *e)
{
    struct saved *v = ctx;
    (void)e;
    v->n++;
    v->level = s->level;
    v->iteration = s->iteration;
    return 0;
}

enum { K = 8, D = 16, ROWS = 60000, READS = (ROWS + 511) / 512 };

// The calls made in all, the iterations saved and how often it was saved; 0: no stop.
static uint64_t cluster(void)
{
    struct err e;
    float *x = gaussian(ROWS, D, 1);
    struct row_source s = source_of(x, ROWS, D);
    struct kmeans_points p = {.source = &s, .n = ROWS, .normalize = true};
    struct kmeans_state state = {0};
    struct saved v = {0};
    struct kmeans_options o = {.k = K,
                               .iterations = 5,
                               .levels = 1,
                               .seed = 1,
                               .normalize = true,
                               .threads = 1,
                               .save = save,
                               .ctx = &v};
    o.mem = kmeans_min_mem(ROWS, D, &o);
    signals_install();
    signals_catch_stop();
    stop_at = K + READS + READS / 4; // in the first chunks of the second iteration
    int r = kmeans_train(&p, &o, &state, &e);
    kmeans_state_release(&state);
    free(x);
    return r == 0
               ? 0
               : (uint64_t)atomic_load(&calls) << 16 | (unsigned)v.iteration << 8 | (unsigned)v.n;
}

static uint64_t balance(void)
{
    struct err e;
    float *x = gaussian(ROWS, D, 1);
    struct row_source s = source_of(x, ROWS, D);
    struct balance_result b;
    struct balance_options o = {.distance = 0.01, .remove = -1, .threads = 1, .mem = 1u << 30};
    signals_install();
    signals_catch_stop();
    stop_at = 5;
    int r = balance_run(&s, &o, &b, &e);
    free(x);
    return r ? (uint64_t)atomic_load(&calls) : 0;
}

static void test_loops(void)
{
    uint64_t r;
    int status = child("T", "", loop, &r);
    ok(status == 0 && r == 11, "a loop begins nothing more after the signal: %d calls", (int)r);
    status = child("T", "", cluster, &r);
    ok(status == 0 && (r >> 8 & 255) == 1 && (r >> 16) < K + 2 * READS,
       "k-means stops inside the second iteration, with the first saved: %d reads of %d",
       (int)(r >> 16), K + 2 * READS);
    ok((r & 255) == 2, "saved after the first, and at the stop: %d times", (int)(r & 255));
    status = child("T", "", balance, &r);
    ok(status == 0 && r == 6, "balance stops while it reads the rows for their cells: %d reads",
       (int)r);
}

int main(void)
{
    signal(SIGHUP, SIG_DFL); // this program may run under nohup
    if (!mkdtemp(dir))
        return 1;
    test_signals();
    test_guards();
    test_maps();
    test_loops();
    rmdir(dir);
    return tap_done();
}
