// SPDX-License-Identifier: Apache-2.0
// Several processes, or threads, that do one work together: ranks 0 .. size - 1. All make the same
// calls in the same order. Sums are made by the callers or in comm/tree.h, in an order that does
// not depend on the number of ranks, so results are the same bytes for any number.
//
// One rank costs nothing: no library is opened, no call leaves this file. A zeroed struct with
// size 1 is one rank (COMM_ALONE).
//
// `what` names a message in errors: "row sums". Memory is the host's. Calls return 0, or -1 with e
// set. After a failure the other ranks may wait in a call: comm_abort ends them.
#ifndef COMM_COMM_H
#define COMM_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "comm/backend.h"

struct comm {
    int rank, size;
    struct comm_backend *backend; // NULL: one rank
    struct comm_backend *device;  // of memory of the rank's device (comm/open.h); NULL: none
    void *device_room;            // in that memory, for what others send (losses/ranks.h)
    size_t device_room_bytes;
    uint64_t sent; // bytes that this rank gave to others
    bool owned;    // the back end is freed with it
    bool alike;    // comm_agree has said -1: all ranks know the failure
    int near;      // ranks of this host, this one too; 0: not asked (comm_near)
};
#define COMM_ALONE                                                                                 \
    {                                                                                              \
        .size = 1                                                                                  \
    }

// ---- bytes

// all[size * bytes] = the `mine` of all ranks, in their order. `mine` may be its place in `all`.
int comm_gather(struct comm *c, const char *what, const void *mine, size_t bytes, void *all,
                struct err *e);
// The same with bytes[r] of rank r; all ranks give the same bytes[].
int comm_gather_each(struct comm *c, const char *what, const void *mine, const size_t *bytes,
                     void *all, struct err *e);
// With one other rank, both ways at once; either count may be 0. No overlap.
int comm_exchange(struct comm *c, const char *what, int peer, const void *give, size_t n_give,
                  void *take, size_t n_take, struct err *e);
// Of everyone to everyone: n_give[r] bytes to rank r, n_take[r] bytes from it, in the order of the
// ranks. No overlap.
int comm_spread(struct comm *c, const char *what, const void *give, const size_t *n_give,
                void *take, const size_t *n_take, struct err *e);
// take[r] = what rank r has in its give[this rank]: how much it will send here.
int comm_counts(struct comm *c, const char *what, const size_t *give, size_t *take, struct err *e);
// Rank `from`'s bytes to all.
int comm_broadcast(struct comm *c, const char *what, int from, void *p, size_t bytes,
                   struct err *e);
int comm_barrier(struct comm *c, const char *what, struct err *e);

// ---- agreement

// 0 where `status` is 0 on all ranks. Else -1 on all, and e is on all that of the lowest rank that
// failed, with "rank R (host): " before it unless all failed alike. So rank 0 alone can report it.
// A stage calls it where ranks may fail apart from each other: once inputs are open, before outputs
// get their names. Kept: e->machine.
int comm_agree(struct comm *c, int status, struct err *e);
// *any = `mine` of any rank: a wish to stop, a value that is not finite.
int comm_any(struct comm *c, const char *what, bool mine, bool *any, struct err *e);

// c->near, by the names of hosts. 0 or -1.
int comm_near(struct comm *c, struct err *e);

// ---- shares

// Of n items rank r has [comm_share(c, n, r), comm_share(c, n, r + 1)): shares differ by one at
// most.
size_t comm_share(const struct comm *c, size_t n, int rank);

// ---- beginning and end

// Gives up: other ranks' calls fail, or their processes end. May not return (MPI_Abort).
void comm_abort(struct comm *c, int status);
// Closes the back end; safe on a zeroed struct and on one that failed.
void comm_close(struct comm *c);

// Threads as ranks, for tests: runs rank(ctx, c, e) on `size` threads. A rank that fails makes the
// calls of the others fail; so does one that returns while others wait for it, and calls that do
// not fit each other (another `what`, another size). 0, or -1 with the first error that was no
// other rank's fault.
int comm_threads(int size, int (*rank)(void *ctx, struct comm *c, struct err *e), void *ctx,
                 struct err *e);

#endif
