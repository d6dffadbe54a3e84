// SPDX-License-Identifier: Apache-2.0
// What is guarded goes when a library ends the process by exit(), as libgomp and libarchive do
// where memory runs out; and a crash after a refused allocation ends with status 1, any other by
// its signal.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "system/signals.h"
#include "unit/tap.h"

static char path[] = "/tmp/sig-exit-test.XXXXXX";

static void by_exit(void)
{
    exit(3);
}

static void by_refused_memory(void)
{
    errno = ENOMEM;
    abort();
}

static void by_abort(void)
{
    errno = 0;
    abort();
}

// The status of a child that guards the path and ends in `how`.
// A library with a thread of its own, which exit() waits for: OpenBLAS.
static pthread_t helper;
static atomic_bool ending;

static void *help(void *unused)
{
    while (!atomic_load(&ending))
        sched_yield();
    return unused;
}

static void shut_down(void)
{
    pthread_kill(helper, SIGTERM);
    pthread_join(helper, NULL);
}

static void by_signal_in_exit(void)
{
    alarm(20);
    atexit(shut_down); // before signals_install, so it runs behind what that leaves for the end
    signals_install();
    pthread_create(&helper, NULL, help, NULL);
    exit(3);
}

static int run(void (*how)(void))
{
    int status = -1, fd = open(path, O_CREAT | O_WRONLY, 0600);
    close(fd);
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        freopen("/dev/null", "w", stderr);
        signals_install();
        signals_guard_path(path);
        how();
        _exit(99);
    }
    waitpid(pid, &status, 0);
    return status;
}

int main(void)
{
    int status = mkstemp(path);
    if (status < 0)
        return 1;
    close(status);
    status = run(by_exit);
    ok(WIFEXITED(status) && WEXITSTATUS(status) == 3, "exit() of a library");
    ok(access(path, F_OK) != 0, "its guarded file is gone");
    status = run(by_refused_memory);
    ok(WIFEXITED(status) && WEXITSTATUS(status) == 1, "an abort after a refused allocation");
    ok(access(path, F_OK) != 0, "its guarded file is gone");
    status = run(by_abort);
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "another abort keeps its signal");
    status = run(by_signal_in_exit);
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM,
       "a signal to a library's thread in exit()");
    unlink(path);
    return tap_done();
}
