// SPDX-License-Identifier: Apache-2.0
#include "comm/comm.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "system/process.h"

static int failed(struct comm *c, const char *doing, const char *what, struct err *e)
{
    return err_set(e, "cannot %s %s: %s", doing, what, c->backend->why);
}

int comm_gather_each(struct comm *c, const char *what, const void *mine, const size_t *bytes,
                     void *all, struct err *e)
{
    size_t n = bytes[c->rank];
    if (!c->backend) {
        if (n && mine != all)
            memcpy(all, mine, n);
        return 0;
    }
    if (c->backend->gather(c->backend, what, mine, bytes, all))
        return failed(c, "gather", what, e);
    c->sent += (uint64_t)n * (uint64_t)(c->size - 1);
    return 0;
}

int comm_gather(struct comm *c, const char *what, const void *mine, size_t bytes, void *all,
                struct err *e)
{
    if (c->size == 1)
        return comm_gather_each(c, what, mine, &bytes, all, e);
    size_t *each = mem_alloc((size_t)c->size, sizeof *each, e);
    for (int r = 0; each && r < c->size; r++)
        each[r] = bytes;
    int r = each ? comm_gather_each(c, what, mine, each, all, e) : -1;
    free(each);
    return r;
}

int comm_exchange(struct comm *c, const char *what, int peer, const void *give, size_t n_give,
                  void *take, size_t n_take, struct err *e)
{
    if (!c->backend || peer < 0 || peer >= c->size || peer == c->rank)
        return err_set(e, "cannot exchange %s: rank %d of %d has no peer %d", what, c->rank,
                       c->size, peer);
    if (c->backend->exchange(c->backend, what, peer, give, n_give, take, n_take))
        return failed(c, "exchange", what, e);
    c->sent += n_give;
    return 0;
}

int comm_spread(struct comm *c, const char *what, const void *give, const size_t *n_give,
                void *take, const size_t *n_take, struct err *e)
{
    if (!c->backend) {
        if (n_give[0] != n_take[0])
            return err_set(e, "cannot spread %s: %zu bytes given, %zu taken", what, n_give[0],
                           n_take[0]);
        if (n_give[0])
            memcpy(take, give, n_give[0]);
        return 0;
    }
    if (c->backend->spread(c->backend, what, give, n_give, take, n_take))
        return failed(c, "spread", what, e);
    for (int r = 0; r < c->size; r++)
        c->sent += r == c->rank ? 0 : n_give[r];
    return 0;
}

int comm_counts(struct comm *c, const char *what, const size_t *give, size_t *take, struct err *e)
{
    size_t *each = mem_alloc((size_t)c->size, sizeof *each, e);
    if (!each)
        return -1;
    for (int r = 0; r < c->size; r++)
        each[r] = sizeof *give;
    int r = comm_spread(c, what, give, each, take, each, e);
    free(each);
    return r;
}

// A binomial tree: who has the bytes gives them to one that has not, twice as many each time.
int comm_broadcast(struct comm *c, const char *what, int from, void *p, size_t bytes, struct err *e)
{
    int me = (c->rank - from + c->size) % c->size, have = 1, r = 0;
    for (; have < c->size && !r; have *= 2) {
        int other = me < have ? me + have : me < 2 * have ? me - have : c->size;
        if (other >= c->size)
            continue;
        r = comm_exchange(c, what, (other + from) % c->size, p, me < have ? bytes : 0, p,
                          me < have ? 0 : bytes, e);
    }
    return r;
}

int comm_barrier(struct comm *c, const char *what, struct err *e)
{
    return c->backend && c->backend->barrier(c->backend, what) ? failed(c, "wait for", what, e) : 0;
}

int comm_any(struct comm *c, const char *what, bool mine, bool *any, struct err *e)
{
    uint8_t flag = mine;
    uint8_t *all = c->size == 1 ? &flag : mem_alloc((size_t)c->size, 1, e);
    int r = all ? comm_gather(c, what, &flag, 1, all, e) : -1;
    *any = mine;
    for (int i = 0; i < c->size && !r; i++)
        *any |= all[i] != 0;
    if (all != &flag)
        free(all);
    return r;
}

int comm_near(struct comm *c, struct err *e)
{
    struct process self;
    process_self(&self);
    c->near = 1;
    if (c->size == 1)
        return 0;
    char(*all)[PROCESS_HOST] = mem_alloc((size_t)c->size, sizeof *all, e);
    int rc = all ? comm_gather(c, "names of hosts", self.host, sizeof *all, all, e) : -1;
    for (int r = 0; r < c->size && !rc; r++)
        c->near += r != c->rank && !strcmp(all[r], self.host);
    free(all);
    return rc;
}

// What a rank tells the others of its failure.
struct outcome {
    char text[ERR_TEXT_MAX];
    char host[PROCESS_HOST];
    uint8_t failed, machine;
};

// The lowest rank that failed speaks for all.
static int tell(const struct comm *c, const struct outcome *all, struct err *e)
{
    int first = -1;
    bool alike = true;
    for (int r = c->size - 1; r >= 0; r--)
        first = all[r].failed ? r : first;
    if (first < 0)
        return 0;
    for (int r = 0; r < c->size; r++)
        alike &= all[r].failed && !strcmp(all[r].text, all[first].text);
    err_set(e, "%s", all[first].text);
    if (!alike)
        err_wrap(e, "rank %d (%s)", first, all[first].host);
    e->machine = all[first].machine;
    return -1;
}

int comm_agree(struct comm *c, int status, struct err *e)
{
    if (c->size == 1)
        return status;
    struct process self;
    struct err why;
    struct outcome mine = {.failed = status != 0, .machine = status && e->machine};
    struct outcome *all = mem_alloc((size_t)c->size, sizeof *all, &why);
    if (!all) {
        *e = status ? *e : why;
        return -1; // without the others: the caller gives up
    }
    process_self(&self);
    memcpy(mine.host, self.host, sizeof mine.host);
    if (status)
        memcpy(mine.text, e->text, sizeof mine.text);
    int r = comm_gather(c, "the outcome", &mine, sizeof mine, all, &why);
    if (r && !status)
        *e = why;
    if (!r) {
        r = tell(c, all, e);
        c->alike = r != 0;
    }
    free(all);
    return r;
}

size_t comm_share(const struct comm *c, size_t n, int rank)
{
    size_t size = (size_t)c->size, r = (size_t)rank, rest = n % size;
    return n / size * r + (r < rest ? r : rest);
}

void comm_abort(struct comm *c, int status)
{
    if (c->backend)
        c->backend->abort(c->backend, status);
}

void comm_close(struct comm *c)
{
    if (c->backend)
        c->backend->close(c->backend);
    if (c->owned)
        free(c->backend);
    *c = (struct comm)COMM_ALONE;
}
