// SPDX-License-Identifier: Apache-2.0
// Where outputs lead, and checks of them before a run starts.
//
// realpath() alone will not do: the file need not exist, and /dev/stdout must lead to the
// descriptor, not to the file that happens to be open there.
#include "system/io-path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/path.h"
#include "base/mem.h"
#include "system/io.h"

enum { LINKS_MAX = 40 }; // as the kernel

// The number that `text` is, or -1.
static int number(const char *text)
{
    int n = 0;
    if (!*text)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || n > INT_MAX / 10 - 1)
            return -1;
        n = 10 * n + (*text - '0');
    }
    return n;
}

// The descriptor that a name in /dev or /proc means, or -1. Without /proc too.
static int by_name(const char *path)
{
    static const char *const folders[] = {"/dev/fd/", "/proc/self/fd/", "/proc/thread-self/fd/"};
    if (strcmp(path, "-") == 0 || strcmp(path, "/dev/stdout") == 0)
        return STDOUT_FILENO;
    if (strcmp(path, "/dev/stderr") == 0)
        return STDERR_FILENO;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (strncmp(path, folders[i], strlen(folders[i])) == 0)
            return number(path + strlen(folders[i]));
    return -1;
}

// The same for a file in `folder`, which has no symbolic links left.
static int by_folder(const char *folder, const char *name)
{
    char own[48];
    size_t n = (size_t)snprintf(own, sizeof own, "/proc/%ld/", (long)getpid());
    size_t len = strlen(folder);
    bool fds = strncmp(folder, own, n) == 0 && len >= 3 && strcmp(folder + len - 3, "/fd") == 0;
    return fds ? number(name) : -1;
}

// One step: where `path` leads with its folder resolved. 1: p is filled; 0: *path was a link and is
// now what it points to; -1.
static int step(char **path, struct io_path *p, struct err *e)
{
    char folder[PATH_MAX], target[PATH_MAX];
    char *slash = strrchr(*path, '/');
    const char *name = path_base(*path);
    char *above =
        slash ? slash == *path ? mem_strdup("/", e) : strndup(*path, (size_t)(slash - *path))
              : mem_strdup(".", e);
    if (!above)
        return err_set(e, "out of memory");
    bool there = realpath(above, folder) != NULL;
    free(above);
    if (!there)
        return err_errno(e, "cannot create '%s'", *path);
    if ((p->fd = by_folder(folder, name)) >= 0)
        return 1;
    char *full = path_new(folder, name, e);
    if (!full)
        return -1;
    ssize_t n = *name ? readlink(full, target, sizeof target - 1) : -1;
    if (n < 0) { // no link, or nothing there
        p->file = full;
        return 1;
    }
    target[n] = '\0';
    free(*path);
    *path = target[0] == '/' ? mem_strdup(target, e) : path_new(folder, target, e);
    free(full);
    return *path ? 0 : -1;
}

int io_path_follow(const char *path, struct io_path *p, struct err *e)
{
    *p = (struct io_path){.fd = by_name(path)};
    if (p->fd >= 0)
        return 0;
    char *at = mem_strdup(path, e);
    int r = at ? 0 : -1;
    for (int i = 0; !r && i < LINKS_MAX; i++)
        if ((p->fd = by_name(at)) >= 0)
            r = 1;
        else
            r = step(&at, p, e);
    free(at);
    if (r == 0) {
        errno = ELOOP;
        return err_errno(e, "cannot write '%s'", path);
    }
    return r < 0 ? -1 : 0;
}

// ---- checks

// True if both names lead to one regular file.
static bool same_file(const char *a, const struct stat *at_a, const char *b)
{
    struct stat at_b;
    if (strcmp(a, b) == 0)
        return true;
    return stat(b, &at_b) == 0 && at_a->st_dev == at_b.st_dev && at_a->st_ino == at_b.st_ino;
}

// True if both outputs, which need not exist, lead to one file.
static bool same_target(const char *a, const char *b)
{
    struct io_path x, y;
    struct err unused;
    if (strcmp(a, b) == 0)
        return true;
    if (io_path_follow(a, &x, &unused))
        return false;
    bool same = false;
    if (io_path_follow(b, &y, &unused) == 0) {
        same = x.file && y.file ? strcmp(x.file, y.file) == 0 : x.fd >= 0 && x.fd == y.fd;
        free(y.file);
    }
    free(x.file);
    return same;
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
            if (outputs[k] && same_target(out, outputs[k]))
                return err_set(e, "two outputs are named %s", out);
        for (size_t k = 0; there && k < n_inputs; k++)
            if (same_file(out, &st, inputs[k]))
                return err_set(e, "'%s' is an input: it would be lost", out);
    }
    return 0;
}

bool io_is_stream(const char *path)
{
    struct io_path p;
    struct err unused;
    struct stat st;
    if (io_path_follow(path, &p, &unused))
        return false;
    bool stream =
        p.fd >= 0 || (stat(p.file, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode));
    free(p.file);
    return stream;
}

// A descriptor, a device or a pipe: not opened, since opening a pipe waits for its reader.
static int check_stream(const char *path, const struct io_path *p, struct err *e)
{
    int flags = p->fd >= 0 ? fcntl(p->fd, F_GETFL) : 0;
    if (flags != -1 && p->fd >= 0 && (flags & O_ACCMODE) == O_RDONLY) {
        errno = EBADF;
        flags = -1;
    }
    if (flags != -1 && (p->fd >= 0 || access(p->file, W_OK) == 0))
        return 0;
    return p->fd == STDOUT_FILENO ? err_errno(e, "cannot write standard output")
                                  : err_errno(e, "cannot write '%s'", path);
}

int io_check_output(const char *path, struct err *e)
{
    struct io_path p;
    struct out o;
    if (io_is_stream(path)) {
        if (io_path_follow(path, &p, e))
            return -1;
        int r = check_stream(path, &p, e);
        free(p.file);
        return r;
    }
    if (out_open(&o, path, e))
        return -1;
    out_abort(&o);
    return 0;
}

int io_check_outputs(const char *const *paths, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (paths[i] && io_check_output(paths[i], e))
            return -1;
    return 0;
}

int io_check_existing(const char *path, struct err *e)
{
    struct stat st;
    if (stat(path, &st))
        return errno == ENOENT ? 0 : err_errno(e, "cannot write '%s'", path);
    if (S_ISDIR(st.st_mode))
        errno = EISDIR;
    else if (access(path, W_OK) == 0)
        return 0;
    return err_errno(e, "cannot write '%s'", path);
}

int io_make_folder(const char *path, bool *made, struct err *e)
{
    struct stat st;
    *made = mkdir(path, 0777) == 0;
    if (!*made && errno != EEXIST)
        return err_errno(e, "cannot create the folder '%s'", path);
    if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
        errno = ENOTDIR;
    else if (access(path, W_OK | X_OK) == 0)
        return 0;
    return err_errno(e, "cannot write into '%s'", path);
}
