// SPDX-License-Identifier: Apache-2.0
// Preloaded into a tool (LD_PRELOAD), lets one call of the C library fail, so that a test can look
// at what the tool does then.
//
//   INJECT=KIND:N        the Nth call of that kind since main() fails; for `short` it is cut to one
//                        byte, for `die` it ends the process as kill -9 does
//   INJECT=KIND:N:ERRNO  with that errno, a number; EIO without
//   INJECT_TOOL=NAME     in processes of that name only
//   INJECT_BUT=TEXT      files whose path has TEXT in it are left alone: those that are written at
//                        times which no run repeats
//   INJECT_COUNT=FILE    appends "KIND CALLS" for each kind when the process ends
//
// Built by tests/cli/faults.t: cc -shared -fPIC -o inject.so inject.c
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind {
    MEMORY, // malloc and its sisters
    MAP,    // mmap
    READ,
    WRITE,
    OPEN,
    SYNC,
    NAME,   // rename, link
    CUT,    // ftruncate
    REMOVE, // unlink
    FOLDER, // mkdir
    THREAD,
    SHORT,
    DIE, // before something is written, synced, opened or named
    KINDS
};

static const char *const words[KINDS] = {"memory", "map",   "read", "write",  "open",
                                         "sync",   "name",  "cut",  "remove", "folder",
                                         "thread", "short", "die"};
static atomic_ulong calls[KINDS];
static enum kind chosen = KINDS;
static unsigned long nth;
static int with = EIO;
static bool armed;      // from main() on
static const char *but; // INJECT_BUT
enum { FILES = 1024 };
static atomic_bool spared[FILES]; // by number of an open file

// The next definition of a function behind this one.
#define REAL(f)                                                                                    \
    static __typeof__(&f) real;                                                                    \
    if (!real)                                                                                     \
    *(void **)&real = dlsym(RTLD_NEXT, #f)

// Counts a call. True, with errno set, for the one that is to fail.
static bool fails(enum kind k)
{
    if (!armed || atomic_fetch_add(&calls[k], 1) + 1 != nth || k != chosen)
        return false;
    errno = with;
    return true;
}

static bool changes_fail(enum kind k)
{
    if (fails(DIE))
        kill(getpid(), SIGKILL);
    return fails(k);
}

static size_t moved(size_t n)
{
    return n > 1 && fails(SHORT) ? 1 : n;
}

ssize_t read(int fd, void *to, size_t n)
{
    REAL(read);
    return fails(READ) ? -1 : real(fd, to, moved(n));
}

ssize_t pread(int fd, void *to, size_t n, off_t at)
{
    REAL(pread);
    return fails(READ) ? -1 : real(fd, to, moved(n), at);
}

static bool spares(const char *path)
{
    return but && strstr(path, but);
}

static int opened(const char *path, int fd)
{
    if (fd >= 0 && fd < FILES)
        spared[fd] = spares(path);
    return fd;
}

ssize_t write(int fd, const void *from, size_t n)
{
    REAL(write);
    if (fd >= 0 && fd < FILES && spared[fd])
        return real(fd, from, n);
    return changes_fail(WRITE) ? -1 : real(fd, from, moved(n));
}

ssize_t pwrite(int fd, const void *from, size_t n, off_t at)
{
    REAL(pwrite);
    return changes_fail(WRITE) ? -1 : real(fd, from, moved(n), at);
}

ssize_t writev(int fd, const struct iovec *v, int n)
{
    REAL(writev);
    return changes_fail(WRITE) ? -1 : real(fd, v, n);
}

int fsync(int fd)
{
    REAL(fsync);
    return changes_fail(SYNC) ? -1 : real(fd);
}

int fdatasync(int fd)
{
    REAL(fdatasync);
    return changes_fail(SYNC) ? -1 : real(fd);
}

int rename(const char *from, const char *to)
{
    REAL(rename);
    return !spares(to) && changes_fail(NAME) ? -1 : real(from, to);
}

int link(const char *from, const char *to)
{
    REAL(link);
    return changes_fail(NAME) ? -1 : real(from, to);
}

int linkat(int a, const char *from, int b, const char *to, int flags)
{
    REAL(linkat);
    return changes_fail(NAME) ? -1 : real(a, from, b, to, flags);
}

int ftruncate(int fd, off_t n)
{
    REAL(ftruncate);
    return changes_fail(CUT) ? -1 : real(fd, n);
}

int unlink(const char *path)
{
    REAL(unlink);
    return !spares(path) && fails(REMOVE) ? -1 : real(path);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    return changes_fail(FOLDER) ? -1 : real(path, mode);
}

int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*run)(void *), void *arg)
{
    REAL(pthread_create);
    return fails(THREAD) ? with : real(t, a, run, arg);
}

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    REAL(mmap);
    return fails(MAP) ? MAP_FAILED : real(at, n, protection, flags, fd, offset);
}

static mode_t mode_of(int flags, va_list more)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
    REAL(open);
    va_list more;
    va_start(more, flags);
    mode_t mode = mode_of(flags, more);
    va_end(more);
    return !spares(path) && changes_fail(OPEN) ? -1 : opened(path, real(path, flags, mode));
}

int openat(int dir, const char *path, int flags, ...)
{
    REAL(openat);
    va_list more;
    va_start(more, flags);
    mode_t mode = mode_of(flags, more);
    va_end(more);
    return !spares(path) && changes_fail(OPEN) ? -1 : opened(path, real(dir, path, flags, mode));
}

// dlsym allocates, so the allocator is reached by the names that glibc has for it.
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

static bool no_memory(void)
{
    bool none = fails(MEMORY);
    if (none)
        errno = ENOMEM;
    return none;
}

void *malloc(size_t n)
{
    return no_memory() ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    return no_memory() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    return no_memory() ? NULL : __libc_realloc(p, n);
}

void *aligned_alloc(size_t align, size_t n)
{
    return no_memory() ? NULL : __libc_memalign(align, n);
}

int posix_memalign(void **p, size_t align, size_t n)
{
    void *got = no_memory() ? NULL : __libc_memalign(align, n);
    if (!got)
        return ENOMEM;
    *p = got;
    return 0;
}

// With plain system calls: nothing of it is counted.
static void tell(void)
{
    const char *path = getenv("INJECT_COUNT");
    armed = false;
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
    for (int k = 0; fd >= 0 && k < KINDS; k++)
        dprintf(fd, "%s %lu\n", words[k], atomic_load(&calls[k]));
    if (fd >= 0)
        close(fd);
}

__attribute__((constructor)) static void arm(void)
{
    const char *tool = getenv("INJECT_TOOL"), *what = getenv("INJECT");
    if (tool && strcmp(tool, program_invocation_short_name))
        return;
    for (int k = 0; what && k < KINDS; k++) {
        size_t n = strlen(words[k]);
        if (strncmp(what, words[k], n) == 0 && what[n] == ':')
            chosen = (enum kind)k;
    }
    if (what) {
        char *end;
        nth = strtoul(strchr(what, ':') + 1, &end, 10);
        with = *end == ':' ? atoi(end + 1) : EIO;
    }
    but = getenv("INJECT_BUT");
    if (getenv("INJECT_COUNT"))
        atexit(tell);
    armed = true;
}
