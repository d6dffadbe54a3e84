// SPDX-License-Identifier: Apache-2.0
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h> // dirname
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mem.h"
#include "sig.h" // a temporary file is removed when a signal ends the run

enum { OUT_BUF = 1 << 18 };

int io_write_all(int fd, const void *data, size_t n)
{
    const uint8_t *p = data;
    while (n) {
        ssize_t k = write(fd, p, n);
        if (k < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

ssize_t io_read_full(int fd, void *data, size_t n)
{
    uint8_t *p = data;
    size_t have = 0;
    while (have < n) {
        ssize_t k = read(fd, p + have, n - have);
        if (k == 0)
            break;
        if (k < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        have += (size_t)k;
    }
    return (ssize_t)have;
}

// "dir/name" -> "dir/.name.PID.tmp": the same directory, so that rename cannot cross file systems.
static char *temporary_name(const char *path, struct err *e)
{
    size_t room = strlen(path) + 48;
    char *tmp = mem_alloc(room, 1, e);
    if (!tmp)
        return NULL;
    const char *slash = strrchr(path, '/');
    int dir_n = slash ? (int)(slash - path) + 1 : 0;
    snprintf(tmp, room, "%.*s.%s.%ld.tmp", dir_n, path, path + dir_n, (long)getpid());
    return tmp;
}

static void out_release(struct out *o)
{
    if (o->fd > STDERR_FILENO)
        close(o->fd);
    free(o->path);
    free(o->tmp);
    free(o->buf);
    *o = (struct out){.fd = -1};
}

static int open_stdout(struct out *o)
{
    // Writing must start at the file's beginning for out_pwrite's offsets to hold (not so with
    // `>>`).
    int flags = fcntl(STDOUT_FILENO, F_GETFL);
    o->fd = STDOUT_FILENO;
    o->is_stdout = true;
    o->can_seek = flags != -1 && !(flags & O_APPEND) && lseek(STDOUT_FILENO, 0, SEEK_CUR) == 0;
    return 0;
}

// A device or a pipe named as output is written as it is: renaming a file over it would replace it.
static int open_special(struct out *o, struct err *e)
{
    o->fd = open(o->path, O_WRONLY | O_CLOEXEC);
    if (o->fd < 0) {
        err_errno(e, "cannot open '%s'", o->path);
        out_release(o);
        return -1;
    }
    o->direct = true;
    return 0;
}

// The file has no name at all until it is whole, where the file system can do that (O_TMPFILE):
// then not even kill -9 leaves anything. Elsewhere it has the temporary name from the start.
static int open_temporary(struct out *o, struct err *e)
{
    char *copy = mem_strdup(o->path, e);
    if (!copy)
        return -1;
    o->fd = open(dirname(copy), O_RDWR | O_TMPFILE | O_CLOEXEC, 0666);
    free(copy);
    o->nameless = o->fd >= 0;
    if (!o->nameless) {
        sig_guard_path(o->tmp);
        o->fd = open(o->tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    }
    if (o->fd >= 0)
        return 0;
    err_errno(e, "cannot create '%s'", o->path);
    sig_unguard_path(o->tmp);
    return -1;
}

// What giving the file its name would say at the end of the run, as an errno; 0: nothing. A file
// that may not be written is not replaced either.
static int name_error(const struct out *o, const struct stat *there)
{
    struct stat unused;
    size_t n = strlen(o->path);
    if (n == 0)
        return ENOENT;
    if (there ? S_ISDIR(there->st_mode) : o->path[n - 1] == '/')
        return EISDIR;
    if (there && access(o->path, W_OK))
        return errno;
    return lstat(o->tmp, &unused) && errno == ENAMETOOLONG ? ENAMETOOLONG : 0;
}

int out_open(struct out *o, const char *path, struct err *e)
{
    *o = (struct out){.fd = -1};
    o->path = mem_strdup(path, e);
    o->buf = mem_alloc(OUT_BUF, 1, e);
    if (!o->path || !o->buf) {
        out_release(o);
        return -1;
    }
    if (strcmp(path, "-") == 0)
        return open_stdout(o);
    struct stat st;
    bool there = stat(path, &st) == 0;
    if (there && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return open_special(o, e);
    o->tmp = temporary_name(path, e);
    int rc = o->tmp ? 0 : -1;
    if (!rc && (errno = name_error(o, there ? &st : NULL)))
        rc = err_errno(e, "cannot write '%s'", path);
    if (rc || open_temporary(o, e)) {
        out_release(o);
        return -1;
    }
    o->can_seek = true;
    return 0;
}

static int write_failed(struct out *o, struct err *e)
{
    return o->is_stdout ? err_errno(e, "cannot write standard output")
                        : err_errno(e, "cannot write '%s'", o->path);
}

int out_flush(struct out *o, struct err *e)
{
    if (o->n_buf && io_write_all(o->fd, o->buf, o->n_buf))
        return write_failed(o, e);
    o->n_buf = 0;
    return 0;
}

int out_write(struct out *o, const void *data, size_t n, struct err *e)
{
    o->written += n;
    if (n > OUT_BUF - o->n_buf && out_flush(o, e))
        return -1;
    if (n >= OUT_BUF)
        return io_write_all(o->fd, data, n) ? write_failed(o, e) : 0;
    memcpy(o->buf + o->n_buf, data, n);
    o->n_buf += n;
    return 0;
}

int out_pwrite(struct out *o, const void *data, size_t n, off_t at, struct err *e)
{
    if (out_flush(o, e))
        return -1;
    const uint8_t *p = data;
    while (n) {
        ssize_t k = pwrite(o->fd, p, n, at);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return write_failed(o, e);
        p += k;
        at += k;
        n -= (size_t)k;
    }
    return 0;
}

// The new name must survive a crash too, so the directory is synced after the rename.
static int sync_directory(const char *path, struct err *e)
{
    char *copy = mem_strdup(path, e);
    if (!copy)
        return -1;
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    if (fd < 0)
        return 0; // not readable: the rename itself succeeded
    int bad = fsync(fd) && errno != EINVAL && errno != EROFS;
    if (bad)
        err_errno(e, "cannot sync the directory of '%s'", path);
    close(fd);
    return bad ? -1 : 0;
}

// Some file systems report a full disk only at close.
static int commit_direct(struct out *o, struct err *e)
{
    int bad = close(o->fd) ? write_failed(o, e) : 0;
    o->fd = -1;
    out_release(o);
    return bad;
}

// Gives a nameless file its temporary name; renaming then replaces what may stand at the final one.
static int give_name(struct out *o)
{
    if (!o->nameless)
        return 0;
    char fd_path[48];
    snprintf(fd_path, sizeof fd_path, "/proc/self/fd/%d", o->fd);
    sig_guard_path(o->tmp);
    unlink(o->tmp); // of a killed run that had our process number
    return linkat(AT_FDCWD, fd_path, AT_FDCWD, o->tmp, AT_SYMLINK_FOLLOW);
}

int out_commit(struct out *o, struct err *e)
{
    if (out_flush(o, e)) {
        out_abort(o);
        return -1;
    }
    if (o->is_stdout || o->direct)
        return commit_direct(o, e);
    int bad = fsync(o->fd) && errno != EINVAL;
    if (bad) {
        write_failed(o, e);
    } else if (give_name(o) || rename(o->tmp, o->path)) {
        err_errno(e, "cannot name '%s'", o->path);
        bad = 1;
    }
    if (bad) {
        out_abort(o);
        return -1;
    }
    sig_unguard_path(o->tmp);
    int rc = sync_directory(o->path, e);
    out_release(o);
    return rc;
}

void out_abort(struct out *o)
{
    if (!o->path)
        return;
    if (o->tmp) {
        unlink(o->tmp);
        sig_unguard_path(o->tmp);
    }
    out_release(o);
}

// Do both names lead to one regular file?
static bool same_file(const char *a, const struct stat *at_a, const char *b)
{
    struct stat at_b;
    if (strcmp(a, b) == 0)
        return true;
    return stat(b, &at_b) == 0 && at_a->st_dev == at_b.st_dev && at_a->st_ino == at_b.st_ino;
}

int io_check_apart(const char *const *outputs, size_t n_outputs, char *const *inputs,
                   size_t n_inputs, struct err *e)
{
    for (size_t i = 0; i < n_outputs; i++) {
        struct stat st = {0};
        const char *out = outputs[i];
        if (!out)
            continue;
        bool there = strcmp(out, "-") != 0 && stat(out, &st) == 0;
        if (there && !S_ISREG(st.st_mode))
            continue;
        for (size_t k = 0; k < i; k++)
            if (outputs[k] && strcmp(out, outputs[k]) == 0)
                return err_set(e, "two outputs are named %s", out);
        for (size_t k = 0; there && k < n_inputs; k++)
            if (same_file(out, &st, inputs[k]))
                return err_set(e, "'%s' is an input: it would be lost", out);
    }
    return 0;
}

int map_open(struct map *m, const char *path, struct err *e)
{
    *m = (struct map){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "cannot open '%s'", path);
    struct stat st;
    int rc = 0;
    if (fstat(fd, &st)) {
        rc = err_errno(e, "cannot read '%s'", path);
    } else if (!S_ISREG(st.st_mode)) {
        rc = err_set(e, "cannot map '%s': not a regular file", path);
    } else if (st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) {
            rc = err_errno(e, "cannot map '%s'", path);
        } else {
            m->data = p;
            m->n = (size_t)st.st_size;
            sig_watch_map(p, m->n, path);
        }
    }
    close(fd);
    return rc;
}

bool map_resident(const struct map *m)
{
    enum { PAGES = 4096, MOST_AWAY = 16 }; // one page of so many may be away
    unsigned char in[PAGES];
    size_t page = (size_t)sysconf(_SC_PAGESIZE), away = 0;
    for (size_t at = 0; at < m->n; at += PAGES * page) {
        size_t n = m->n - at < PAGES * page ? m->n - at : PAGES * page;
        if (mincore((void *)(uintptr_t)(m->data + at), n, in))
            return false;
        for (size_t i = 0; i < (n + page - 1) / page; i++)
            away += !(in[i] & 1);
    }
    return away <= m->n / page / MOST_AWAY;
}

void map_close(struct map *m)
{
    if (m->data) {
        sig_unwatch_map(m->data);
        munmap((void *)(uintptr_t)m->data, m->n);
    }
    *m = (struct map){0};
}
