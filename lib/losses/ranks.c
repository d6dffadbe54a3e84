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

// The ranks with the device's memory in place of the host's.
static struct comm on_device(const struct comm *c)
{
    struct comm device = *c;
    device.backend = c->device;
    return device;
}

static bool halves(const struct comm *c)
{
    return (c->size & (c->size - 1)) == 0;
}

size_t ranks_bytes_at(const struct comm *c, size_t most)
{
    return c && c->device && halves(c) ? comm_tree_room_at(c, most, sizeof(float)) : 0;
}

size_t ranks_bytes(const struct comm *c, size_t n)
{
    return c && c->device && halves(c) ? comm_tree_room(c, n, sizeof(float)) : 0;
}

size_t ranks_most(const struct comm *c, const size_t *cut)
{
    size_t most = 0;
    for (size_t r = 0; cut && r < ranks_size(c); r++)
        most = cut[r + 1] - cut[r] > most ? cut[r + 1] - cut[r] : most;
    return most;
}

static void *room(struct dev *d, struct comm *c, size_t bytes, struct err *e)
{
    if (c->device_room_bytes >= bytes)
        return c->device_room;
    ranks_release(d, c);
    c->device_room = d->op->alloc(d, bytes, e);
    c->device_room_bytes = c->device_room ? bytes : 0;
    return c->device_room;
}

void ranks_release(struct dev *d, struct comm *c)
{
    if (c->device_room)
        d->op->free(d, c->device_room);
    c->device_room = NULL;
    c->device_room_bytes = 0;
}

int ranks_gather(struct dev *d, struct comm *c, const char *what, void *all, size_t bytes,
                 struct err *e)
{
    if (alone(c))
        return 0;
    size_t total = bytes * (size_t)c->size, mine = (size_t)c->rank * bytes;
    if (c->device) {
        struct comm direct = on_device(c);
        int rc = comm_gather(&direct, what, (char *)all + mine, bytes, all, e);
        c->sent = direct.sent;
        return rc;
    }
    char *host = begin(d, all, total, e);
    if (!host)
        return -1;
    int rc = comm_gather(c, what, host + mine, bytes, host, e);
    return end(d, all, host, total, rc, e);
}

int ranks_gather_at(struct dev *d, struct comm *c, const char *what, void *all, const size_t *cut,
                    size_t bytes, struct err *e)
{
    if (alone(c))
        return 0;
    if (c->device) {
        struct comm direct = on_device(c);
        int rc = comm_tree_gather_at(&direct, what, all, cut, bytes, e);
        c->sent = direct.sent;
        return rc;
    }
    size_t total = cut[c->size] * bytes;
    char *host = begin(d, all, total, e);
    return host ? end(d, all, host, total, comm_tree_gather_at(c, what, host, cut, bytes, e), e)
                : -1;
}

static void add(void *ctx, void *x, const void *y, size_t n)
{
    struct dev *d = ctx;
    d->op->axpy(d, n, 1, y, x);
}

// How a sum is divided: n values in equal shares, which are gathered or not, or as cut.
struct division {
    size_t n;
    bool share;
    const size_t *cut;
};

static int join(struct comm *c, const char *what, float *x, const struct division *v,
                comm_join_fn *fn, void *ctx, void *room, struct err *e)
{
    if (v->cut)
        return comm_tree_scatter_at(c, what, x, v->cut, sizeof *x, fn, ctx, room, e);
    return (v->share ? comm_tree_scatter : comm_tree_all)(c, what, x, v->n, sizeof *x, fn, ctx,
                                                          room, e);
}

static size_t room_of(const struct comm *c, const struct division *v)
{
    return v->cut ? comm_tree_room_at(c, ranks_most(c, v->cut), sizeof(float))
                  : comm_tree_room(c, v->n, sizeof(float));
}

static int sum_on_device(struct dev *d, struct comm *c, const char *what, float *x,
                         const struct division *v, struct err *e)
{
    void *taken = room(d, c, room_of(c, v), e);
    if (!taken)
        return -1;
    struct comm direct = on_device(c);
    int rc = join(&direct, what, x, v, add, d, taken, e);
    c->sent = direct.sent;
    return rc;
}

static int sum(struct dev *d, struct comm *c, const char *what, float *x, const struct division *v,
               struct err *e)
{
    if (alone(c))
        return 0;
    if (c->device && halves(c)) // else the tree copies memory by itself
        return sum_on_device(d, c, what, x, v, e);
    size_t bytes = v->n * sizeof *x;
    float *host = begin(d, x, bytes, e);
    void *taken = host ? mem_alloc(room_of(c, v), 1, e) : NULL;
    int rc = taken ? join(c, what, host, v, comm_add_f32, NULL, taken, e) : -1;
    free(taken);
    return host ? end(d, x, host, bytes, rc, e) : -1;
}

int ranks_sum(struct dev *d, struct comm *c, const char *what, float *x, size_t n, bool share,
              struct err *e)
{
    struct division v = {n, share, NULL};
    return sum(d, c, what, x, &v, e);
}

int ranks_sum_at(struct dev *d, struct comm *c, const char *what, float *x, const size_t *cut,
                 struct err *e)
{
    struct division v = {cut[ranks_size(c)], true, cut};
    return sum(d, c, what, x, &v, e);
}
