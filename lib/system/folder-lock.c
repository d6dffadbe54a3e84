// SPDX-License-Identifier: Apache-2.0
#include "system/folder-lock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "system/io.h"
#include "system/process.h"
#include "system/signals.h"

enum { TRIES = 5, TEXT = 1024 };

// What a lock file says.
struct owner {
    struct process who;
    char tool[64], since[32];
};

static void describe_self(const char *tool, char text[TEXT])
{
    struct process p;
    char since[32];
    time_t now = time(NULL);
    struct tm tm;
    process_self(&p);
    strftime(since, sizeof since, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    const char *job = getenv("SLURM_JOB_ID");
    snprintf(text, TEXT,
             "tool %.60s\nhost %s\npid %ld\nstart %" PRIu64 "\nboot %s\nsince %s\n%s%.60s%s", tool,
             p.host, p.pid, p.start, p.boot, since, job ? "job " : "", job ? job : "",
             job ? "\n" : "");
}

// "NAME VALUE" in the text: the value cut to `room`; "" when it is not there.
static void value_of(const char *text, const char *name, char *to, size_t room)
{
    size_t n = strlen(name);
    to[0] = '\0';
    for (const char *p = text; p; p = strchr(p, '\n')) {
        p += *p == '\n';
        if (strncmp(p, name, n) || p[n] != ' ')
            continue;
        size_t len = strcspn(p + n + 1, "\n");
        snprintf(to, room, "%.*s", (int)(len < room ? len : room - 1), p + n + 1);
        return;
    }
}

// False if it is not a lock file of this program.
static bool read_owner(int fd, struct owner *o)
{
    char text[TEXT], number[32];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    *o = (struct owner){0};
    value_of(text, "tool", o->tool, sizeof o->tool);
    value_of(text, "host", o->who.host, sizeof o->who.host);
    value_of(text, "boot", o->who.boot, sizeof o->who.boot);
    value_of(text, "since", o->since, sizeof o->since);
    value_of(text, "pid", number, sizeof number);
    o->who.pid = strtol(number, NULL, 10);
    value_of(text, "start", number, sizeof number);
    o->who.start = strtoull(number, NULL, 10);
    return o->who.host[0] && o->who.pid > 0;
}

// False only when another process holds it: many a network file system has no flock.
static bool try_flock(int fd)
{
    return !flock(fd, LOCK_EX | LOCK_NB) || errno != EWOULDBLOCK;
}

static bool same_file(int fd, const char *path)
{
    struct stat a, b;
    return !fstat(fd, &a) && !stat(path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

// Writes a file that identifies this process and locks it with flock; its descriptor, or -1.
static int write_own(const char *path, const char *tool, struct err *e)
{
    char text[TEXT];
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return err_errno(e, "cannot create '%s'", path);
    describe_self(tool, text);
    if (try_flock(fd) && !io_write_all(fd, text, strlen(text)) && !fsync(fd))
        return fd;
    err_errno(e, "cannot write '%s'", path);
    unlink(path);
    close(fd);
    return -1;
}

static int in_use(const char *dir, const char *path, const struct owner *o, bool elsewhere,
                  struct err *e)
{
    if (!elsewhere)
        return err_set(e,
                       "'%s' is in use by %s, process %ld of this host, since %s: end it first, "
                       "or give another folder",
                       dir, o->tool[0] ? o->tool : "a run", o->who.pid, o->since);
    return err_set(e,
                   "'%s' is locked by %s on host %s, process %ld (start %" PRIu64
                   "), since %s; whether it still runs cannot be seen from here. If it has ended, "
                   "remove '%s' and run again",
                   dir, o->tool[0] ? o->tool : "a run", o->who.host, o->who.pid, o->who.start,
                   o->since, path);
}

// The lock at `path` is another's. 1: its owner is gone and `own` has taken its place; 0: it has
// changed meanwhile, try again; -1: it is held.
static int take_over(const char *dir, const char *path, const char *own, struct err *e)
{
    struct owner o;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_errno(e, "cannot open '%s'", path);
    int rc = -1;
    enum process_state state = PROCESS_GONE;
    if (!read_owner(fd, &o))
        err_set(e, "'%s' does not say whose lock it is: if no run is at work there, remove it",
                path);
    else if ((state = process_look(&o.who)) != PROCESS_GONE || !try_flock(fd))
        in_use(dir, path, &o, state == PROCESS_ELSEWHERE, e);
    else if (!same_file(fd, path)) // another one was faster
        rc = 0;
    else if (rename(own, path))
        err_errno(e, "cannot name '%s'", path);
    else
        rc = 1;
    close(fd);
    return rc;
}

// link(2) may have worked though its answer was lost.
static bool linked(int fd)
{
    struct stat st;
    return !fstat(fd, &st) && st.st_nlink == 2;
}

// `own` under its final name: 1, 0 try again, -1.
static int place(const char *dir, const char *path, const char *own, int fd, struct err *e)
{
    if (!link(own, path) || linked(fd)) {
        unlink(own);
        return 1;
    }
    if (errno == EEXIST)
        return take_over(dir, path, own, e);
    // A file system without links: the process that creates the file has the lock.
    int made = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (made < 0)
        return errno == EEXIST ? take_over(dir, path, own, e)
                               : err_errno(e, "cannot create '%s'", path);
    close(made);
    return rename(own, path) ? err_errno(e, "cannot name '%s'", path) : 1;
}

int folder_lock_take(struct folder_lock *l, const char *dir, const char *tool, struct err *e)
{
    struct process self;
    char path[PATH_MAX], own[PATH_MAX];
    process_self(&self);
    *l = (struct folder_lock){.fd = -1};
    if (snprintf(path, sizeof path, "%s/.lock", dir) >= (int)sizeof path ||
        snprintf(own, sizeof own, "%s/.lock.%s.%ld.tmp", dir, self.host, self.pid) >=
            (int)sizeof own)
        return err_set(e, "'%s': the name is too long", dir);
    signals_guard_path(own);
    int fd = write_own(own, tool, e), rc = fd < 0 ? -1 : 0;
    for (int i = 0; i < TRIES && !rc; i++)
        rc = place(dir, path, own, fd, e);
    if (rc == 0)
        err_set(e, "'%s' changes hands all the time", path);
    if (rc == 1) {
        memcpy(l->path, path, sizeof path);
        l->fd = fd;
        signals_guard_path(path);
    } else if (fd >= 0) {
        unlink(own);
        close(fd);
    }
    signals_unguard_path(own);
    return rc == 1 ? 0 : -1;
}

void folder_lock_release(struct folder_lock *l)
{
    if (!l->path[0])
        return;
    signals_unguard_path(l->path);
    if (same_file(l->fd, l->path))
        unlink(l->path);
    close(l->fd);
    *l = (struct folder_lock){.fd = -1};
}
