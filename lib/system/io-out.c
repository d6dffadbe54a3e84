// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <libgen.h> // dirname
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/path.h"
#include "system/io-path.h"
#include "system/io.h"
#include "base/mem.h"
#include "system/signals.h" // a temporary file is removed when a signal ends the run

enum { OUT_BUF = 1 << 18, TMP_NAME = 120, TMP_HOST = 24 };

// "dir/name" -> "dir/.name.HOST.PID.RANDOM.tmp": in the same directory, so that rename cannot cross
// file systems. Another host may write the same output to a shared folder, and may have this
// process's number; O_EXCL refuses what is left to chance. Long names are cut: the temporary one
// must not be longer than a name can be.
static char *temporary_name(const char *path, struct err *e)
{
    char host[HOST_NAME_MAX + 1] = "";
    uint32_t chance = 0;
    size_t room = strlen(path) + TMP_HOST + 64;
    char *tmp = mem_alloc(room, 1, e);
    if (!tmp)
        return NULL;
    gethostname(host, sizeof host - 1);
    for (char *p = host; *p; p++)
        if (*p == '/' || *p == '.')
            *p = '_';
    if (getrandom(&chance, sizeof chance, GRND_NONBLOCK) != sizeof chance)
        chance = (uint32_t)(uintptr_t)tmp;
    int dir_n = (int)(path_base(path) - path);
    snprintf(tmp, room, "%.*s.%.*s.%.*s.%ld.%08x.tmp", dir_n, path, TMP_NAME, path + dir_n,
             TMP_HOST, host, (long)getpid(), chance);
    return tmp;
}

static void out_release(struct out *o)
{
    if (o->fd > STDERR_FILENO)
        close(o->fd);
    free(o->path);
    free(o->target);
    free(o->tmp);
    free(o->buf);
    *o = (struct out){.fd = -1};
}

// Writing must start at the file's beginning for out_pwrite's offsets to hold (not so with `>>`).
static bool at_start(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags != -1 && !(flags & O_APPEND) && lseek(fd, 0, SEEK_CUR) == 0;
}

// A descriptor of the caller's is written where it stands.
static int open_stream(struct out *o, int fd, struct err *e)
{
    o->is_stdout = fd == STDOUT_FILENO;
    o->direct = true;
    o->fd = o->is_stdout ? fd : fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int flags = o->fd >= 0 ? fcntl(o->fd, F_GETFL) : -1;
    if (!o->is_stdout && flags != -1 && (flags & O_ACCMODE) == O_RDONLY) {
        errno = EBADF;
        flags = -1;
    }
    if (!o->is_stdout && flags == -1) {
        err_errno(e, "cannot write '%s'", o->path);
        out_release(o);
        return -1;
    }
    o->can_seek = at_start(fd);
    return 0;
}

// A device or a pipe named as output is written as it is: renaming a file over it would replace it.
static int open_special(struct out *o, struct err *e)
{
    o->fd = open(o->target, O_WRONLY | O_CLOEXEC);
    if (o->fd < 0) {
        err_errno(e, "cannot open '%s'", o->path);
        out_release(o);
        return -1;
    }
    o->direct = true;
    return 0;
}

// True if the nameless file of this descriptor can get a name, which needs /proc.
static bool can_be_named(int fd)
{
    char fd_path[48];
    struct stat of_path, of_fd;
    snprintf(fd_path, sizeof fd_path, "/proc/self/fd/%d", fd);
    return fstat(fd, &of_fd) == 0 && stat(fd_path, &of_path) == 0 &&
           of_path.st_ino == of_fd.st_ino && of_path.st_dev == of_fd.st_dev;
}

// The file has no name at all until it is whole, where the system can do that (O_TMPFILE and
// /proc): then not even kill -9 leaves anything. Elsewhere it has the temporary name from the
// start.
static int open_temporary(struct out *o, struct err *e)
{
    char *copy = mem_strdup(o->target, e);
    if (!copy)
        return -1;
    o->fd = open(dirname(copy), O_RDWR | O_TMPFILE | O_CLOEXEC, 0666);
    free(copy);
    o->nameless = o->fd >= 0 && can_be_named(o->fd);
    if (o->fd >= 0 && !o->nameless)
        close(o->fd);
    if (!o->nameless) {
        signals_guard_path(o->tmp);
        o->fd = open(o->tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    }
    if (o->fd >= 0)
        return 0;
    err_errno(e, "cannot create '%s'", o->path);
    signals_unguard_path(o->tmp);
    return -1;
}

// Checks now for errors that rename() would only report at the end of the run. Returns an errno, or
// 0. A file that may not be written is not replaced either.
static int name_error(const struct out *o, const struct stat *there)
{
    struct stat unused;
    if (there && S_ISDIR(there->st_mode))
        return EISDIR;
    if (there && access(o->target, W_OK))
        return errno;
    return lstat(o->target, &unused) && errno == ENAMETOOLONG ? ENAMETOOLONG : 0;
}

static int open_file(struct out *o, struct err *e)
{
    struct stat st;
    bool there = stat(o->target, &st) == 0;
    if (there && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return open_special(o, e);
    o->tmp = temporary_name(o->target, e);
    int rc = o->tmp ? 0 : -1;
    if (!rc && (errno = name_error(o, there ? &st : NULL)))
        rc = err_errno(e, "cannot write '%s'", o->path);
    if (rc || open_temporary(o, e)) {
        out_release(o);
        return -1;
    }
    o->can_seek = true;
    return 0;
}

int out_open(struct out *o, const char *path, struct err *e)
{
    struct io_path to;
    *o = (struct out){.fd = -1};
    if (!*path || path[strlen(path) - 1] == '/') {
        errno = *path ? EISDIR : ENOENT;
        return err_errno(e, "cannot write '%s'", path);
    }
    o->path = mem_strdup(path, e);
    o->buf = o->path ? mem_alloc(OUT_BUF, 1, e) : NULL;
    if (!o->buf || io_path_follow(path, &to, e)) {
        out_release(o);
        return -1;
    }
    o->target = to.file;
    return to.fd >= 0 ? open_stream(o, to.fd, e) : open_file(o, e);
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

// The new name must survive a crash too, so the directory is synced after the rename. Not every
// file system can do that, and a directory that may not be read cannot be opened for it.
static int sync_directory(const struct out *o, struct err *e)
{
    char *copy = mem_strdup(o->target, e);
    if (!copy)
        return -1;
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    if (fd < 0)
        return 0;
    bool bad = fsync(fd) && (errno == EIO || errno == ENOSPC || errno == EDQUOT);
    if (bad)
        err_errno(e, "'%s' is written, but its folder cannot be synced: a crash may undo it",
                  o->path);
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

// The access list that the file at `from` has, for fd: where there is none, nothing happens.
static void copy_access_list(const char *from, int fd)
{
    static const char name[] = "system.posix_acl_access";
    char list[4096];
    ssize_t n = getxattr(from, name, list, sizeof list);
    if (n > 0 && fsetxattr(fd, name, list, (size_t)n, 0))
        return; // the mode says the most of it
}

// Copies owner, group, mode and access list of the replaced file, as far as that is allowed. If the
// group cannot be copied, the group's permissions are not copied either.
static void keep_access(const struct out *o)
{
    struct stat was, is;
    if (stat(o->target, &was) || fstat(o->fd, &is))
        return;
    mode_t mode = was.st_mode & 0777;
    if (was.st_gid != is.st_gid && fchown(o->fd, (uid_t)-1, was.st_gid))
        mode = (mode & 0707) | (mode & 07) << 3;
    if (was.st_uid != is.st_uid && fchown(o->fd, was.st_uid, (gid_t)-1))
        errno = 0; // only root may give a file away
    if (fchmod(o->fd, mode) == 0)
        copy_access_list(o->target, o->fd);
}

// Gives a nameless file its temporary name; renaming then replaces what may stand at the final one.
static int give_name(struct out *o)
{
    if (!o->nameless)
        return 0;
    char fd_path[48];
    snprintf(fd_path, sizeof fd_path, "/proc/self/fd/%d", o->fd);
    signals_guard_path(o->tmp);
    return linkat(AT_FDCWD, fd_path, AT_FDCWD, o->tmp, AT_SYMLINK_FOLLOW);
}

int out_commit(struct out *o, struct err *e)
{
    if (out_flush(o, e)) {
        out_abort(o);
        return -1;
    }
    if (o->direct)
        return commit_direct(o, e);
    keep_access(o);
    int bad = fsync(o->fd) && errno != EINVAL;
    if (bad) {
        write_failed(o, e);
    } else if (give_name(o) || rename(o->tmp, o->target)) {
        err_errno(e, "cannot give '%s' its name", o->path);
        bad = 1;
    }
    if (bad) {
        out_abort(o);
        return -1;
    }
    signals_unguard_path(o->tmp);
    int rc = sync_directory(o, e);
    out_release(o);
    return rc;
}

void out_abort(struct out *o)
{
    if (!o->path)
        return;
    if (o->tmp) {
        unlink(o->tmp);
        signals_unguard_path(o->tmp);
    }
    out_release(o);
}
