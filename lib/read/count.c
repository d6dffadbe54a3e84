// SPDX-License-Identifier: Apache-2.0
#include "read/count.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/path.h"
#include "formats/npy.h"
#include "read/keep.h"
#include "system/io.h"

static int count_kept(const char *folder, const char *name, uint64_t *n, struct err *e)
{
    struct read_keep k;
    if (read_keep_open(&k, folder, name, e))
        return -1;
    int kept = 0;
    *n = 0;
    for (uint64_t row = 0; row < k.mask.h.rows && kept >= 0; row++) {
        kept = read_keep_row(&k, row, e);
        *n += kept > 0;
    }
    read_keep_close(&k);
    return kept < 0 ? -1 : 0;
}

static int count_rows(const char *path, uint64_t *n, struct err *e)
{
    struct npy a;
    if (npy_open(&a, path, e))
        return -1;
    *n = a.h.rows;
    npy_close(&a);
    return 0;
}

static int count_lines(const char *path, uint64_t *n, struct err *e)
{
    struct map m;
    if (map_open(&m, path, e))
        return -1;
    *n = 0;
    for (const uint8_t *p = m.data, *end = p ? p + m.n : p; p < end; (*n)++) {
        p = memchr(p, '\n', (size_t)(end - p));
        if (!p) {
            map_close(&m);
            return err_set(e, "'%s' ends within a line", path);
        }
        p++;
    }
    map_close(&m);
    return 0;
}

int read_count(const struct read_options *o, size_t i, uint64_t *n, struct err *e)
{
    char path[PATH_BYTES];
    const char *name = path_base(o->shards->names[i]);
    int stem = (int)path_stem(name);
    if (o->keep)
        return count_kept(o->keep, name, n, e);
    if (path_format(path, e, "%s/%.*s.npy", o->counts, stem, name))
        return -1;
    if (access(path, F_OK) == 0)
        return count_rows(path, n, e);
    if (path_format(path, e, "%s/%.*s.tsv", o->counts, stem, name))
        return -1;
    return count_lines(path, n, e);
}

int read_counts(const struct read_options *o, uint64_t **counts, uint64_t *total, struct err *e)
{
    size_t n = o->shards->n;
    int rc = 0;
    *total = 0;
    *counts = mem_alloc(n, sizeof **counts, e);
    if (!*counts)
        return -1;
    for (size_t i = 0; !rc && i < n; i++) {
        rc = read_count(o, i, &(*counts)[i], e);
        if (!rc && (*counts)[i] > READ_ALL / 2 - *total)
            rc = err_set(e, "more samples than can be counted");
        *total += rc ? 0 : (*counts)[i];
    }
    if (rc) {
        free(*counts);
        *counts = NULL;
    }
    return rc;
}
