// SPDX-License-Identifier: Apache-2.0
#include "balance/keys.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/path.h"
#include "system/io.h"

enum { EACH = 64, CHUNK = 1 << 14 };

int balance_keys_open(struct balance_keys *k, const char *dir, const struct embedding_files *f,
                      struct err *e)
{
    *k = (struct balance_keys){.dir = dir, .files = f};
    k->place = mem_alloc(f->set.n_parts, sizeof *k->place, e);
    return k->place ? 0 : -1;
}

void balance_keys_close(struct balance_keys *k)
{
    for (size_t i = 0; k->place && i < k->files->set.n_parts; i++)
        free(k->place[i]);
    free(k->place);
    k->place = NULL;
}

static int path_of(const struct balance_keys *k, size_t part, char path[PATH_BYTES], struct err *e)
{
    const char *name = path_base(k->files->set.parts[part].path);
    size_t n = strlen(name);
    n -= n > 4 && !strcmp(name + n - 4, ".npy") ? 4 : 0;
    return path_format(path, e, "%s/%.*s.tsv", k->dir, (int)n, name);
}

int balance_keys_check(const char *dir, const struct embedding_files *f, struct err *e)
{
    const struct balance_keys k = {.dir = dir, .files = f};
    char path[PATH_BYTES];
    for (size_t i = 0; i < f->set.n_parts; i++) {
        if (path_of(&k, i, path, e))
            return -1;
        if (access(path, R_OK))
            return err_errno(e, "--index-dir: cannot open '%s'", path);
    }
    return 0;
}

// Finds the lines of an index, which has one for each row.
static int look_into(struct balance_keys *k, size_t part, const char *path, struct err *e)
{
    uint64_t rows = k->files->set.parts[part].rows, line = 0;
    struct map m;
    uint64_t *place = mem_alloc((size_t)(rows / EACH + 1), sizeof *place, e);
    if (!place || map_open(&m, path, e)) {
        free(place);
        return -1;
    }
    const char *text = (const char *)m.data, *end = text ? text + m.n : text;
    for (const char *p = text; p < end; line++) {
        if (line % EACH == 0 && line <= rows)
            place[line / EACH] = (uint64_t)(p - text);
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        p = stop ? stop + 1 : end;
    }
    map_close(&m);
    k->place[part] = place;
    return line == rows ? 0
                        : err_set(e, "'%s' has %" PRIu64 " lines, '%s' %" PRIu64 " rows", path,
                                  line, k->files->set.parts[part].path, rows);
}

// The second column of line `skip` from the text's place on. It reads on until the line is whole.
static int read_key(int fd, uint64_t place, size_t skip, const char *path, char *key, struct err *e)
{
    char text[CHUNK];
    size_t tabs = 0, n_key = 0;
    for (;;) {
        ssize_t n = pread(fd, text, sizeof text, (off_t)place);
        if (n < 0)
            return err_errno(e, "cannot read '%s'", path);
        for (ssize_t i = 0; i < n; i++) {
            bool whole = text[i] == '\n' || (!skip && tabs == 1 && text[i] == '\t');
            if (whole && !skip) {
                key[n_key] = '\0';
                return 0;
            }
            skip -= text[i] == '\n';
            if (skip)
                continue;
            if (tabs == 1 && n_key + 1 < BALANCE_KEY)
                key[n_key++] = text[i];
            tabs += text[i] == '\t';
        }
        if (!n) {
            key[n_key] = '\0';
            return 0;
        }
        place += (uint64_t)n;
    }
}

int balance_keys_get(struct balance_keys *k, uint64_t row, char *key, struct err *e)
{
    char path[PATH_BYTES];
    size_t part = npy_set_find(&k->files->set, row);
    uint64_t line = row - k->files->set.parts[part].first;
    if (path_of(k, part, path, e) || (!k->place[part] && look_into(k, part, path, e)))
        return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "cannot open '%s'", path);
    int rc = read_key(fd, k->place[part][line / EACH], (size_t)(line % EACH), path, key, e);
    close(fd);
    return rc;
}
