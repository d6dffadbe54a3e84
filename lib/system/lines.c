// SPDX-License-Identifier: Apache-2.0
#include "system/lines.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "system/io.h"
#include "base/mem.h"

enum { CHUNK = 1 << 16 };

// The whole file with a NUL behind it. Not mapped: a list often comes from a pipe.
static int read_all(struct lines *l, int fd, size_t *n, struct err *e)
{
    size_t cap = 0;
    for (*n = 0;;) {
        void *p = l->text;
        if (mem_grow(&p, &cap, *n + CHUNK + 1, 1, e))
            return -1;
        l->text = p;
        ssize_t k = io_read_full(fd, l->text + *n, CHUNK);
        if (k < 0)
            return err_errno(e, "cannot read");
        *n += (size_t)k;
        if (k < CHUNK)
            break;
    }
    l->text[*n] = '\0';
    return memchr(l->text, '\0', *n) ? err_set(e, "a NUL byte in a text") : 0;
}

size_t lines_mark(const void *text, size_t n)
{
    return n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
}

static int cut(struct lines *l, size_t n, struct err *e)
{
    size_t room = 1;
    for (const char *p = l->text; *p; p++)
        room += *p == '\n';
    l->line = mem_alloc(room, sizeof *l->line, e);
    if (!l->line)
        return -1;
    for (char *p = l->text + lines_mark(l->text, n); *p;) {
        char *end = p + strcspn(p, "\n"), *next = *end ? end + 1 : end;
        *end = '\0';
        if (end > p && end[-1] == '\r')
            end[-1] = '\0';
        l->line[l->n++] = p;
        p = next;
    }
    while (l->n && l->line[l->n - 1][0] == '\0')
        l->n--;
    return 0;
}

int lines_read(struct lines *l, const char *path, struct err *e)
{
    size_t n;
    *l = (struct lines){0};
    int fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "cannot open '%s'", path);
    int rc = read_all(l, fd, &n, e);
    if (fd != STDIN_FILENO)
        close(fd);
    if (rc == 0)
        rc = cut(l, n, e);
    if (rc) {
        lines_release(l);
        return err_wrap(e, "%s", path);
    }
    return 0;
}

void lines_release(struct lines *l)
{
    free(l->text);
    free(l->line);
    *l = (struct lines){0};
}
