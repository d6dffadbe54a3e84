// SPDX-License-Identifier: Apache-2.0
#include "sig.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

enum { GUARDS = 64, PATH_ROOM = 4096 };

// The handler may run at any instant on any thread, so it reads only slots marked full; a slot is
// filled before it is marked.
static struct guard {
    atomic_bool full;
    char path[PATH_ROOM];
} guards[GUARDS];
static pthread_mutex_t guards_lock = PTHREAD_MUTEX_INITIALIZER;

static struct watched_map {
    atomic_bool full;
    uintptr_t first, end;
    char path[PATH_ROOM];
} maps[GUARDS];

static atomic_bool progress_flag, catching_stop;
static atomic_int stop_signal;

void sig_guard_path(const char *path)
{
    size_t n = strlen(path) + 1;
    if (n > PATH_ROOM)
        return;
    pthread_mutex_lock(&guards_lock);
    for (int i = 0; i < GUARDS; i++) {
        if (atomic_load(&guards[i].full))
            continue;
        memcpy(guards[i].path, path, n);
        atomic_store(&guards[i].full, true);
        break;
    }
    pthread_mutex_unlock(&guards_lock);
}

void sig_unguard_path(const char *path)
{
    pthread_mutex_lock(&guards_lock);
    for (int i = 0; i < GUARDS; i++) {
        if (atomic_load(&guards[i].full) && strcmp(guards[i].path, path) == 0) {
            atomic_store(&guards[i].full, false);
            break;
        }
    }
    pthread_mutex_unlock(&guards_lock);
}

void sig_watch_map(const void *at, size_t bytes, const char *path)
{
    size_t n = strlen(path) + 1;
    if (n > PATH_ROOM)
        return;
    pthread_mutex_lock(&guards_lock);
    for (int i = 0; i < GUARDS; i++) {
        if (atomic_load(&maps[i].full))
            continue;
        memcpy(maps[i].path, path, n);
        maps[i].first = (uintptr_t)at;
        maps[i].end = (uintptr_t)at + bytes;
        atomic_store(&maps[i].full, true);
        break;
    }
    pthread_mutex_unlock(&guards_lock);
}

void sig_unwatch_map(const void *at)
{
    pthread_mutex_lock(&guards_lock);
    for (int i = 0; i < GUARDS; i++) {
        if (atomic_load(&maps[i].full) && maps[i].first == (uintptr_t)at) {
            atomic_store(&maps[i].full, false);
            break;
        }
    }
    pthread_mutex_unlock(&guards_lock);
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

static void remove_guarded(void)
{
    for (int i = 0; i < GUARDS; i++)
        if (atomic_load(&guards[i].full))
            unlink(guards[i].path);
}

// "TOOL: cannot read 'PATH': ..." in one write; the handler may use no stdio.
static void tell_cut_off(const char *path)
{
    static char line[PATH_ROOM + 128];
    const char *const parts[] = {program_invocation_short_name, ": cannot read '", path,
                                 "': it became shorter while it was in use\n"};
    size_t n = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        for (const char *p = parts[i]; *p && n < sizeof line; p++)
            line[n++] = *p;
    if (write(STDERR_FILENO, line, n) != (ssize_t)n)
        return; // nobody to tell
}

// What was mapped is no longer in the file: an error of that input, not a fault of the program.
static void on_bus(int sig, siginfo_t *info, void *context)
{
    uintptr_t at = (uintptr_t)info->si_addr;
    (void)context;
    remove_guarded();
    for (int i = 0; i < GUARDS && info->si_code == BUS_ADRERR; i++) {
        if (!atomic_load(&maps[i].full) || at < maps[i].first || at >= maps[i].end)
            continue;
        tell_cut_off(maps[i].path);
        _exit(1);
    }
    die_of(sig);
}

static void on_fatal(int sig)
{
    if ((sig == SIGTERM || sig == SIGINT) && atomic_load(&catching_stop) &&
        atomic_exchange(&stop_signal, sig) == 0)
        return;
    remove_guarded();
    die_of(sig);
}

static void on_progress(int sig)
{
    (void)sig;
    atomic_store(&progress_flag, true);
}

void sig_install(void)
{
    static const int fatal[] = {SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGXCPU, SIGXFSZ};
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
}

void sig_catch_stop(void)
{
    atomic_store(&catching_stop, true);
}

bool sig_stop_wanted(void)
{
    return atomic_load(&stop_signal) != 0;
}

int sig_stop_signal(void)
{
    return atomic_load(&stop_signal);
}

void sig_die_of_stop(void)
{
    int sig = atomic_load(&stop_signal);
    if (sig)
        die_of(sig);
}

bool sig_progress_wanted(void)
{
    return atomic_exchange(&progress_flag, false);
}
