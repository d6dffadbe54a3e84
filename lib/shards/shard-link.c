// SPDX-License-Identifier: Apache-2.0
#include "shards/shard-link.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/path.h"
#include "base/url.h"
#include "system/io.h"
#include "system/threads.h"

static const char mark[] = "clip-cid remote shard\n";

bool shard_link_read(const char *text, size_t n, char *url)
{
    size_t m = sizeof mark - 1;
    url[0] = '\0';
    if (n < m || memcmp(text, mark, m))
        return false;
    const char *end = memchr(text + m, '\n', n - m);
    size_t size = end ? (size_t)(end - text) - m : 0;
    if (!size || size >= SHARD_NAME_MAX || memchr(text + m, '\0', size))
        return true;
    memcpy(url, text + m, size);
    url[size] = '\0';
    if (!url_is(url))
        url[0] = '\0';
    return true;
}

// The first bytes of a file, or -1.
static ssize_t read_start(const char *path, char *to, size_t room)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = io_read_full(fd, to, room);
    close(fd);
    return n;
}

bool shard_link_of(const char *path, char *url)
{
    char text[SHARD_LINK_MAX];
    struct stat st;
    if (stat(path, &st) || !S_ISREG(st.st_mode) || st.st_size > SHARD_LINK_MAX)
        return false;
    ssize_t n = read_start(path, text, sizeof text);
    return n > 0 && shard_link_read(text, (size_t)n, url);
}

uint64_t shard_link_bytes(const struct shard_list *l)
{
    char url[SHARD_NAME_MAX];
    struct stat st;
    uint64_t bytes = 0;
    for (size_t i = 0; i < l->n; i++) {
        const char *name = l->names[i];
        if (url_is(name))
            return 0;
        if (stat(name, &st)) {
            if (!strcmp(name, "-"))
                return 0;
            continue;
        }
        if (!S_ISREG(st.st_mode) || shard_link_of(name, url))
            return 0;
        bytes += (uint64_t)st.st_size;
    }
    return bytes;
}

int shard_link_text(const struct remote_entry *at, char *to, struct err *e)
{
    int n = snprintf(to, SHARD_LINK_MAX, "%s%s\nbytes\t%llu\ntime\t%lld\netag\t%s\n", mark,
                     at->name, (unsigned long long)at->size, (long long)at->modified, at->etag);
    return n >= 0 && n < SHARD_LINK_MAX && strlen(at->name) < SHARD_NAME_MAX
               ? 0
               : err_set(e, "the name of a shard is too long");
}

void shard_links_release(struct shard_links *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->links[i].stem);
        remote_entry_release(&l->links[i].at);
    }
    free(l->links);
    *l = (struct shard_links){0};
}

// Takes over *at.
static int add(struct shard_links *l, struct remote_entry *at, struct err *e)
{
    const char *base = path_base(at->name);
    size_t n = path_stem(base);
    char *stem = mem_alloc(n + 1, 1, e);
    if (!stem || mem_grow(&l->links, &l->cap, l->n + 1, sizeof *l->links, e)) {
        free(stem);
        return -1;
    }
    memcpy(stem, base, n);
    l->links[l->n++] = (struct shard_link){stem, *at};
    *at = (struct remote_entry){0};
    return 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

struct names {
    const char **sorted; // NULL: all are wanted
    size_t n;
};

static bool wanted(const struct names *w, const char *name)
{
    char stem[PATH_BYTES];
    const char *base = path_base(name), *p = stem;
    size_t n = path_stem(base);
    if (!base[n] || n >= sizeof stem)
        return false; // no archive
    memcpy(stem, base, n);
    stem[n] = '\0';
    return !w->sorted || bsearch(&p, w->sorted, w->n, sizeof *w->sorted, by_text);
}

static int find_listed(struct shard_links *l, struct remote *r, const char *folder,
                       const struct names *w, struct err *e)
{
    char prefix[PATH_BYTES];
    struct remote_list found = {0};
    if (path_format(prefix, e, "%s%s", folder, folder[strlen(folder) - 1] == '/' ? "" : "/"))
        return -1;
    int rc = remote_list(r, prefix, &found, e) ? err_wrap(e, "cannot list '%s'", prefix) : 0;
    for (size_t i = 0; !rc && i < found.n; i++)
        if (wanted(w, found.entries[i].name))
            rc = add(l, &found.entries[i], e);
    remote_list_release(&found);
    return rc;
}

// Looking for files of a web server, many at a time.
struct looks {
    struct remote *r;
    const char *folder;
    const char *const *names;
    struct look {
        struct remote_entry at;
        int rc; // as remote_look
        struct err e;
    } * of;
};

static void look(void *ctx, size_t i)
{
    const struct looks *x = ctx;
    struct look *to = &x->of[i];
    char name[PATH_BYTES], joined[PATH_BYTES];
    to->rc = -1;
    if (path_join(joined, x->folder, x->names[i], &to->e) ||
        path_format(name, &to->e, "%s.tar", joined))
        return;
    to->rc = remote_look(x->r, name, &to->at, &to->e);
    if (to->rc < 0)
        err_wrap(&to->e, "cannot look for '%s'", name);
}

static int find_each(struct shard_links *l, const struct looks *x, size_t n, int threads,
                     struct err *e)
{
    int rc = threads_for(threads, n, look, (void *)x, e);
    for (size_t i = 0; i < n; i++) {
        struct look *one = &x->of[i];
        if (!rc && one->rc < 0) {
            *e = one->e;
            rc = -1;
        }
        if (!rc && one->rc > 0)
            rc = add(l, &one->at, e);
        remote_entry_release(&one->at);
    }
    return rc;
}

int shard_links_find(struct shard_links *l, struct remote *r, const char *folder,
                     const char *const *names, size_t n, int threads, struct err *e)
{
    if (strncmp(folder, "s3://", 5)) {
        struct looks x = {r, folder, names, NULL};
        char shown[PATH_BYTES];
        url_show(folder, shown, sizeof shown);
        if (!names)
            return err_set(e, "%s: a web server's folder cannot be listed: name its shards", shown);
        x.of = mem_alloc(n, sizeof *x.of, e);
        int rc = x.of ? find_each(l, &x, n, threads, e) : -1;
        free(x.of);
        return rc;
    }
    struct names w = {NULL, n};
    if (names) {
        w.sorted = mem_alloc(n, sizeof *w.sorted, e);
        if (!w.sorted)
            return -1;
        memcpy(w.sorted, names, n * sizeof *w.sorted);
        qsort(w.sorted, n, sizeof *w.sorted, by_text);
    }
    int rc = find_listed(l, r, folder, &w, e);
    free(w.sorted);
    return rc;
}

static int by_stem(const void *a, const void *b)
{
    return strcmp(((const struct shard_link *)a)->stem, ((const struct shard_link *)b)->stem);
}

int shard_links_sort(struct shard_links *l, struct err *e)
{
    if (l->n)
        qsort(l->links, l->n, sizeof *l->links, by_stem);
    for (size_t i = 1; i < l->n; i++)
        if (!by_stem(&l->links[i - 1], &l->links[i]))
            return err_set(e, "'%s' and '%s' have one name: rename one", l->links[i - 1].at.name,
                           l->links[i].at.name);
    return 0;
}

// True where the file's text is that.
static bool is_same(const char *path, const char *text)
{
    char there[SHARD_LINK_MAX + 1];
    ssize_t n = read_start(path, there, sizeof there);
    return n == (ssize_t)strlen(text) && !memcmp(there, text, (size_t)n);
}

// Written in place: one that is cut off has another text, so the next run writes it again.
static int write_link(const char *path, const char *text, int64_t time, struct err *e)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return err_errno(e, "cannot write '%s'", path);
    struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = (time_t)time}};
    bool good = !io_write_all(fd, text, strlen(text)) && (time < 0 || !futimens(fd, t));
    int error = errno;
    close(fd);
    errno = error;
    return good ? 0 : err_errno(e, "cannot write '%s'", path);
}

static int put_link(const char *folder, const struct shard_link *s, struct err *e)
{
    char path[PATH_BYTES], text[SHARD_LINK_MAX], url[SHARD_NAME_MAX];
    if (path_join(path, folder, s->stem, e) || path_format(url, e, "%s.tar", path))
        return -1;
    if (shard_link_text(&s->at, text, e))
        return -1;
    if (is_same(url, text))
        return 0;
    bool fresh = access(url, F_OK) != 0;
    if (!fresh && !shard_link_of(url, path))
        return err_set(e, "'%s' is there and no link to a remote shard", url);
    return write_link(url, text, fresh ? s->at.modified : -1, e);
}

static int remove_others(const struct shard_links *l, const char *folder, struct err *e)
{
    struct path_names there = {0};
    int rc = path_names_of(&there, folder, ".tar", e);
    for (size_t i = 0; !rc && i < there.n; i++) {
        char path[PATH_BYTES], url[SHARD_NAME_MAX];
        rc = path_join(path, folder, there.names[i], e);
        there.names[i][path_stem(there.names[i])] = '\0';
        const struct shard_link key = {.stem = there.names[i]};
        if (rc || (l->n && bsearch(&key, l->links, l->n, sizeof key, by_stem)) ||
            !shard_link_of(path, url))
            continue;
        if (unlink(path))
            rc = err_errno(e, "cannot remove '%s'", path);
    }
    path_names_free(&there);
    return rc;
}

int shard_links_write(const struct shard_links *l, const char *folder, struct err *e)
{
    bool made;
    if (io_make_folder(folder, &made, e) || remove_others(l, folder, e))
        return -1;
    for (size_t i = 0; i < l->n; i++)
        if (put_link(folder, &l->links[i], e))
            return -1;
    return 0;
}
