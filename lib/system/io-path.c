// SPDX-License-Identifier: Apache-2.0
// realpath() alone will not do: the file need not exist, and /dev/stdout must lead to the
// descriptor, not to the file that happens to be open there.
#include "system/io-path.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/path.h"
#include "base/mem.h"

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
