// SPDX-License-Identifier: Apache-2.0
#include "feed/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "system/signals.h"

extern char **environ;

enum { OUTPUT_MS = 100, POLL_MS = 10, TERM_MS = 5000, KILL_MS = 5000 };

void train_child_init(struct train_child *c)
{
    *c = (struct train_child){.fd = -1};
    pthread_mutex_init(&c->lock, NULL);
}

void train_child_release(struct train_child *c)
{
    struct err unused;
    train_child_end(c, CHILD_EARLY, &unused);
    pthread_mutex_destroy(&c->lock);
}

// Not fork: that copies the page tables of a process of many gigabytes, and fails where memory may
// not be promised twice. 0, or an errno.
static int spawn(char **words, int out, pid_t *pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    sigset_t pipe_only;
    int rc = posix_spawn_file_actions_init(&files);
    if (rc)
        return rc;
    if ((rc = posix_spawnattr_init(&how))) {
        posix_spawn_file_actions_destroy(&files);
        return rc;
    }
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    rc = posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
    // Outside of the terminal's foreground group a read from it would stop the command.
    if (!rc && isatty(STDIN_FILENO))
        rc = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!rc)
        rc = posix_spawnattr_setsigdefault(&how, &pipe_only);
    if (!rc)
        rc = posix_spawnattr_setpgroup(&how, 0);
    if (!rc)
        rc = posix_spawnattr_setflags(&how, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
    if (!rc)
        rc = posix_spawnp(pid, words[0], &files, &how, words, environ);
    posix_spawnattr_destroy(&how);
    posix_spawn_file_actions_destroy(&files);
    return rc;
}

int train_child_start(struct train_child *c, char **words, struct err *e)
{
    int data[2], why;
    pid_t pid = 0;
    if (pipe2(data, O_CLOEXEC))
        return err_errno(e, "cannot make a pipe");
    pthread_mutex_lock(&c->lock);
    why = c->stopped ? ECANCELED : spawn(words, data[1], &pid);
    c->pid = why ? 0 : pid;
    signals_guard_group((int)c->pid);
    pthread_mutex_unlock(&c->lock);
    close(data[1]);
    if (why) {
        close(data[0]);
        errno = why;
        return err_errno(e, "cannot run the data command '%s'", words[0]);
    }
    c->fd = data[0];
    return 0;
}

int train_child_wait_output(struct train_child *c, struct err *e)
{
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    for (;;) {
        pthread_mutex_lock(&c->lock);
        bool stopped = c->stopped;
        pthread_mutex_unlock(&c->lock);
        if (stopped || signals_stop_wanted())
            return err_set(e, "stopped before the data command wrote anything");
        int rc = poll(&p, 1, OUTPUT_MS);
        if (rc > 0)
            return 0;
        if (rc < 0 && errno != EINTR)
            return err_errno(e, "cannot read from the data command");
    }
}

// Waits until it has ended, without taking its status: until then its number stays its own. False
// when `ms` have passed; below 0: for ever.
static bool wait_for(pid_t pid, int ms)
{
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000};
    int flags = WEXITED | WNOWAIT | (ms < 0 ? 0 : WNOHANG);
    for (;;) {
        siginfo_t info = {.si_pid = 0};
        int rc = waitid(P_PID, (id_t)pid, &info, flags);
        if ((rc && errno != EINTR) || (!rc && info.si_pid))
            return true;
        if (ms >= 0 && (ms -= POLL_MS) < 0)
            return false;
        if (ms >= 0)
            nanosleep(&pause, NULL);
    }
}

static void end_early(pid_t pid)
{
    kill(-pid, SIGTERM);
    wait_for(pid, TERM_MS);
    kill(-pid, SIGKILL); // whoever is left of the group
    wait_for(pid, KILL_MS);
}

int train_child_end(struct train_child *c, enum child_end how, struct err *e)
{
    int status = 0;
    pid_t pid = c->pid; // written by this thread only
    if (!pid)
        return 0;
    close(c->fd);
    c->fd = -1;
    bool itself = how != CHILD_EARLY && wait_for(pid, how == CHILD_DONE ? -1 : TERM_MS);
    if (!itself)
        end_early(pid);
    pthread_mutex_lock(&c->lock);
    c->pid = 0;
    signals_guard_group(0);
    pid_t got = waitpid(pid, &status, WNOHANG);
    pthread_mutex_unlock(&c->lock);
    if (!itself)
        return 0;
    if (got != pid)
        return err_errno(e, "cannot wait for the data command");
    if (how == CHILD_FAILED && WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE)
        return 0;
    if (WIFSIGNALED(status))
        return err_set(e, "the data command was ended by signal %d (%s)", WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
    return WEXITSTATUS(status)
               ? err_set(e, "the data command ended with status %d", WEXITSTATUS(status))
               : 0;
}

void train_child_stop(struct train_child *c, int sig)
{
    pthread_mutex_lock(&c->lock);
    c->stopped = true;
    if (c->pid)
        kill(-c->pid, sig);
    pthread_mutex_unlock(&c->lock);
}
