// SPDX-License-Identifier: Apache-2.0
// Checks of outputs before a run starts.
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "system/io-path.h"
#include "system/io.h"
#include "base/mem.h"

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
