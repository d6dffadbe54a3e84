// SPDX-License-Identifier: Apache-2.0
#include "read/shard.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/path.h"
#include "base/url.h"

int read_shard_name(struct read_shard *to, const char *path, struct err *e)
{
    const char *base = path_base(path);
    size_t room = strlen(path) + 8, n = url_path_end(path) - (size_t)(base - path);
    to->names = mem_alloc(room, 2, e);
    if (!to->names)
        return -1;
    if (url_is(path))
        url_show(path, to->names, room);
    else
        memcpy(to->names, path, strlen(path) + 1);
    memcpy(to->names + room, base, n);
    to->path = to->names;
    to->name = to->names + room;
    return 0;
}

void read_shard_free(struct read_shard *s)
{
    free(s->names);
    digest_free(s->digest);
    free(s);
}
