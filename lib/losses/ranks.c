// SPDX-License-Identifier: Apache-2.0
#include "losses/ranks.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "comm/tree.h"

static bool alone(const struct comm *c)
{
    return ranks_size(c) == 1;
}

// Maps device memory for the host; NULL with e set.
static void *begin(struct dev *d, void *p, size_t bytes, struct err *e)
{
    if (!strncmp(d->name, "cpu", 3))
        return d->op->sync(d, e) ? NULL : p;
    void *host = mem_alloc(bytes, 1, e);
    if (host && d->op->download(d, host, p, bytes, e)) {
        free(host);
        return NULL;
    }
    return host;
}

static int end(struct dev *d, void *p, void *host, size_t bytes, int rc, struct err *e)
{
    if (host == p)
        return rc;
    if (!rc) {
        d->op->upload(d, p, host, bytes);
        rc = d->op->sync(d, e);
    }
    free(host);
    return rc;
}

int ranks_gather(struct dev *d, struct comm *c, const char *what, void *all, size_t bytes,
                 struct err *e)
{
    if (alone(c))
        return 0;
    size_t total = bytes * (size_t)c->size;
    char *host = begin(d, all, total, e);
    if (!host)
        return -1;
    int rc = comm_gather(c, what, host + (size_t)c->rank * bytes, bytes, host, e);
    return end(d, all, host, total, rc, e);
}

int ranks_sum(struct dev *d, struct comm *c, const char *what, float *x, size_t n, bool share,
              struct err *e)
{
    if (alone(c))
        return 0;
    size_t bytes = n * sizeof *x;
    float *host = begin(d, x, bytes, e);
    void *room = host ? mem_alloc(comm_tree_room(c, n, sizeof *x), 1, e) : NULL;
    int rc = room ? 0 : -1;
    if (!rc)
        rc = (share ? comm_tree_scatter : comm_tree_all)(c, what, host, n, sizeof *x, comm_add_f32,
                                                         NULL, room, e);
    free(room);
    return host ? end(d, x, host, bytes, rc, e) : -1;
}
