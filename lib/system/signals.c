// SPDX-License-Identifier: Apache-2.0
#include "system/signals.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "system/crash.h"

// Grown as needed. The handler may run at any instant on any thread, so the holder of the lock has
// blocked all signals: the handler never waits for the thread that it interrupted.
static atomic_flag lock = ATOMIC_FLAG_INIT;

// Guarded paths, and maps with their files: first is 0 for a path.
struct watch_list {
    struct watch {
        uintptr_t first, end;
        char *path;
    } * at;
    size_t n, cap;
};
static struct watch_list guards, maps;

static atomic_bool progress_flag, catching_stop;
static atomic_int stop_signal, guarded_group;
static atomic_llong first_order; // when the first SIGTERM or SIGINT came, in milliseconds; 0: none
enum { SAME_TERM_MS = 5000 };

static void take_lock(void)
{
    while (atomic_flag_test_and_set(&lock))
        sched_yield();
}

static void enter(sigset_t *before)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, before);
    take_lock();
}

static void leave(const sigset_t *before)
{
    atomic_flag_clear(&lock);
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

// One more for the list; where memory is short the list stays as it is.
static void add(struct watch_list *l, uintptr_t first, uintptr_t end, const char *path)
{
    sigset_t before;
    char *copy = strdup(path);
    if (!copy)
        return;
    enter(&before);
    bool there = l->n < l->cap;
    if (!there) {
        size_t cap = l->cap ? 2 * l->cap : 16;
        struct watch *more = realloc(l->at, cap * sizeof *more);
        there = more != NULL;
        l->at = more ? more : l->at;
        l->cap = more ? cap : l->cap;
    }
    if (there)
        l->at[l->n++] = (struct watch){first, end, copy};
    leave(&before);
    if (!there)
        free(copy);
}

// Drops the last with this `first` and, unless it is NULL, this path.
static void drop(struct watch_list *l, uintptr_t first, const char *path)
{
    sigset_t before;
    char *found = NULL;
    enter(&before);
    for (size_t i = l->n; i-- > 0 && !found;) {
        if (l->at[i].first != first || (path && strcmp(l->at[i].path, path) != 0))
            continue;
        found = l->at[i].path;
        l->at[i] = l->at[--l->n];
    }
    leave(&before);
    free(found);
}

void signals_guard_path(const char *path)
{
    add(&guards, 0, 0, path);
}

void signals_unguard_path(const char *path)
{
    drop(&guards, 0, path);
}

void signals_watch_map(const void *at, size_t bytes, const char *path)
{
    add(&maps, (uintptr_t)at, (uintptr_t)at + bytes, path);
}

void signals_unwatch_map(const void *at)
{
    drop(&maps, (uintptr_t)at, NULL);
}

static void die_of(int sig)
{
    struct sigaction def;
    memset(&def, 0, sizeof def);
    def.sa_handler = SIG_DFL;
    sigaction(sig, &def, NULL);
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, sig);
    raise(sig);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
}

// With the lock, which is never given back: the process ends.
static void remove_guarded(void)
{
    for (size_t i = 0; i < guards.n; i++)
        unlink(guards.at[i].path);
    if (atomic_load(&guarded_group) > 0)
        kill(-atomic_load(&guarded_group), SIGTERM);
}

void signals_guard_group(int group)
{
    atomic_store(&guarded_group, group);
}

void signals_tell(const char *a, const char *b, const char *c)
{
    static char line[4096 + 128];
    const char *const parts[] = {program_invocation_short_name, ": ", a, b, c, "\n"};
    size_t n = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        for (const char *p = parts[i]; *p && n < sizeof line; p++)
            line[n++] = *p;
    if (write(STDERR_FILENO, line, n) != (ssize_t)n)
        return; // it cannot be written, and there is no other place for it
}

// What was mapped is no longer in the file: an error of that input, not a fault of the program.
static void on_bus(int sig, siginfo_t *info, void *context)
{
    uintptr_t at = (uintptr_t)info->si_addr;
    (void)context;
    take_lock();
    remove_guarded();
    for (size_t i = 0; i < maps.n && info->si_code == BUS_ADRERR; i++) {
        if (at < maps.at[i].first || at >= maps.at[i].end)
            continue;
        signals_tell("cannot read '", maps.at[i].path, "': it became shorter while it was in use");
        _exit(1);
    }
    die_of(sig);
}

static long long milliseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1 + (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000; // 0 = never
}

// True if the signal belongs to the first request to stop. A closing terminal sends SIGHUP twice,
// from the shell and from the system, and SIGUSR2 never kills: neither counts as the second signal,
// which kills. Batch systems send SIGTERM twice at a time limit, once for the job and once for its
// step: one that comes soon after the first is the same.
static bool asks_to_stop(int sig)
{
    long long never = 0, now = milliseconds();
    int none = 0;
    if (!atomic_load(&catching_stop))
        return false;
    if (sig == SIGHUP || sig == SIGUSR2) {
        atomic_compare_exchange_strong(&stop_signal, &none, sig);
        return true;
    }
    if (sig != SIGTERM && sig != SIGINT)
        return false;
    if (atomic_compare_exchange_strong(&first_order, &never, now)) {
        atomic_store(&stop_signal, sig);
        return true;
    }
    return sig == SIGTERM && atomic_load(&stop_signal) == SIGTERM && now - never < SAME_TERM_MS;
}

static struct {
    const atomic_ullong *done; // NULL: nothing to tell
    const char *what;
} death;

void signals_tell_at_death(const atomic_ullong *done, const char *what)
{
    death.what = what;
    death.done = done;
}

static void tell_death(void)
{
    char number[24], *p = number + sizeof number;
    unsigned long long n = atomic_load(death.done);
    *--p = 0;
    do
        *--p = (char)('0' + n % 10);
    while (n /= 10);
    signals_tell("stopped after ", p, death.what);
}

static void on_fatal(int sig)
{
    if (asks_to_stop(sig))
        return;
    if (death.done && sig != SIGPIPE)
        tell_death();
    take_lock();
    remove_guarded();
    die_of(sig);
}

void signals_remove_guarded(void)
{
    // The handler may have interrupted the holder of the lock.
    for (int i = 0; i < 1000; i++) {
        if (!atomic_flag_test_and_set(&lock)) {
            remove_guarded();
            // A library's thread that exit() waits for may get a signal.
            atomic_flag_clear(&lock);
            return;
        }
        sched_yield();
    }
}

static void on_progress(int sig)
{
    (void)sig;
    atomic_store(&progress_flag, true);
}

void signals_install(void)
{
    static const int fatal[] = {SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGUSR2, SIGXCPU, SIGXFSZ};
    struct sigaction a;
    memset(&a, 0, sizeof a);
    sigemptyset(&a.sa_mask);
    a.sa_flags = SA_RESTART;
    a.sa_handler = on_progress;
    sigaction(SIGUSR1, &a, NULL);
    a.sa_handler = on_fatal;
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) {
        struct sigaction old;
        if (sigaction(fatal[i], NULL, &old) == 0 && old.sa_handler == SIG_IGN)
            continue; // nohup, or a shell's background job
        sigaction(fatal[i], &a, NULL);
    }
    a.sa_flags = SA_SIGINFO;
    a.sa_sigaction = on_bus;
    sigaction(SIGBUS, &a, NULL);
    crash_install();
    // Some libraries (libgomp, libarchive) call exit() where memory runs out. At any other exit
    // there is nothing to remove.
    atexit(signals_remove_guarded);
}

void signals_catch_stop(void)
{
    atomic_store(&catching_stop, true);
}

bool signals_stop_wanted(void)
{
    return atomic_load(&stop_signal) != 0;
}

int signals_stop_signal(void)
{
    return atomic_load(&stop_signal);
}

void signals_die_of_stop(void)
{
    int sig = atomic_load(&stop_signal);
    if (sig)
        die_of(sig);
}

bool signals_progress_wanted(void)
{
    return atomic_exchange(&progress_flag, false);
}
