// SPDX-License-Identifier: Apache-2.0
#include "read/keep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/path.h"
#include "formats/sidecar.h"

int read_keep_open(struct read_keep *k, const char *folder, const char *shard_name, struct err *e)
{
    size_t room = strlen(folder) + strlen(shard_name) + 8;
    struct sidecar sc = {0};
    *k = (struct read_keep){0};
    k->path = mem_alloc(room, 1, e);
    if (!k->path)
        return -1;
    snprintf(k->path, room, "%s/%.*s.npy", folder, (int)path_stem(shard_name), shard_name);
    if (npy_open_as(&k->mask, k->path, NPY_U1, 1, e))
        goto fail;
    k->open = true;
    if (sidecar_open(k->path, k->mask.h.rows, &sc, e) < 0)
        goto fail;
    memcpy(k->keys, sc.keys, sizeof k->keys);
    sidecar_release(&sc);
    return 0;
fail:
    read_keep_close(k);
    return -1;
}

int read_keep_row(const struct read_keep *k, uint64_t row, struct err *e)
{
    if (row >= k->mask.h.rows)
        return err_set(e, "keep mask '%s' has %llu rows, the shard has more", k->path,
                       (unsigned long long)k->mask.h.rows);
    return npy_item_i64(&k->mask, row) != 0;
}

int read_keep_check(const struct read_keep *k, uint64_t rows, const char *keys, struct err *e)
{
    if (rows != k->mask.h.rows)
        return err_set(e, "keep mask '%s' has %llu rows, the shard has %llu", k->path,
                       (unsigned long long)k->mask.h.rows, (unsigned long long)rows);
    if (*k->keys && strcmp(k->keys, keys) != 0)
        return err_set(e, "keep mask '%s' was made for other keys than those of the shard",
                       k->path);
    return 0;
}

void read_keep_close(struct read_keep *k)
{
    if (k->open)
        npy_close(&k->mask);
    free(k->path);
    *k = (struct read_keep){0};
}
