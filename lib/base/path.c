// SPDX-License-Identifier: Apache-2.0
#include "base/path.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/url.h"

int path_format(char to[PATH_BYTES], struct err *e, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(to, PATH_BYTES, fmt, ap);
    va_end(ap);
    if (n >= 0 && n < PATH_BYTES)
        return 0;
    return err_set(e, "path too long: '%.100s...'", to);
}

static const char *between(const char *folder)
{
    size_t n = strlen(folder);
    return n && folder[n - 1] != '/' ? "/" : "";
}

int path_join(char to[PATH_BYTES], const char *folder, const char *name, struct err *e)
{
    return path_format(to, e, "%s%s%s", folder, between(folder), name);
}

char *path_new(const char *folder, const char *name, struct err *e)
{
    size_t n;
    if (!mem_add(strlen(folder), strlen(name) + 2, &n)) {
        err_set(e, "path too long");
        return NULL;
    }
    char *p = mem_alloc(n, 1, e);
    if (p)
        snprintf(p, n, "%s%s%s", folder, between(folder), name);
    return p;
}

const char *path_base(const char *path)
{
    const char *slash = memrchr(path, '/', url_path_end(path));
    return slash ? slash + 1 : path;
}

static size_t stem_of(const char *name, size_t n)
{
    static const char *const ends[] = {".tar",     ".tar.gz",   ".tar.bz2", ".tar.xz",
                                       ".tar.zst", ".tar.zstd", ".tar.lz4", ".tgz",
                                       ".tbz2",    ".txz",      ".tzst"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t m = strlen(ends[i]);
        if (n > m && strncasecmp(name + n - m, ends[i], m) == 0)
            return n - m;
    }
    return 0;
}

size_t path_stem(const char *name)
{
    size_t whole = strlen(name), n = stem_of(name, strcspn(name, "?"));
    if (!n)
        n = stem_of(name, whole);
    return n ? n : whole;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add(struct path_names *l, const char *name, struct err *e)
{
    void *p = l->names;
    int rc = mem_grow(&p, &l->cap, l->n + 1, sizeof *l->names, e);
    l->names = p;
    if (rc || !(l->names[l->n] = mem_strdup(name, e)))
        return -1;
    l->n++;
    return 0;
}

int path_names_of(struct path_names *l, const char *folder, const char *ending, struct err *e)
{
    size_t k = strlen(ending);
    DIR *d = opendir(folder);
    if (!d)
        return errno == ENOENT ? 0 : err_errno(e, "cannot read '%s'", folder);
    int rc = 0;
    struct dirent *f;
    for (errno = 0; rc == 0 && (f = readdir(d)); errno = 0) {
        size_t n = strlen(f->d_name);
        if (f->d_name[0] != '.' && n >= k && strcmp(f->d_name + n - k, ending) == 0)
            rc = add(l, f->d_name, e);
    }
    if (rc == 0 && errno)
        rc = err_errno(e, "cannot read '%s'", folder);
    closedir(d);
    if (rc)
        path_names_free(l);
    else if (l->n)
        qsort(l->names, l->n, sizeof *l->names, by_name);
    return rc;
}

void path_names_free(struct path_names *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->names[i]);
    free(l->names);
    *l = (struct path_names){0};
}
