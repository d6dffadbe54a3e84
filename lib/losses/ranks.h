// SPDX-License-Identifier: Apache-2.0
// What ranks exchange of a device's memory (comm/comm.h). `c` NULL or of one rank: nothing is done.
// Where the device's memory is not the host's it goes from device to device, if the ranks have a
// back end for that (comm_open_device), else by way of the host.
#ifndef LOSSES_RANKS_H
#define LOSSES_RANKS_H

#include <stddef.h>

#include "base/err.h"
#include "comm/comm.h"
#include "device/dev.h"

static inline size_t ranks_size(const struct comm *c)
{
    return c ? (size_t)c->size : 1;
}
static inline size_t ranks_rank(const struct comm *c)
{
    return c ? (size_t)c->rank : 0;
}
// all: device [size * bytes], in which each rank has filled its own `bytes`. Afterwards every rank
// has all of them. 0 or -1.
int ranks_gather(struct dev *d, struct comm *c, const char *what, void *all, size_t bytes,
                 struct err *e);
// Sums the x (device [n]) of all ranks in one binary tree (comm/tree.h); every rank gets the sum,
// with `share` only in its own share of x, and the rest of x is lost. 0 or -1.
int ranks_sum(struct dev *d, struct comm *c, const char *what, float *x, size_t n, bool share,
              struct err *e);
// The same sums and gathers where rank r has items [cut[r], cut[r + 1]) of `bytes` each; cut[0] is
// 0. ranks_sum_at leaves the sum there alone. 0 or -1.
int ranks_sum_at(struct dev *d, struct comm *c, const char *what, float *x, const size_t *cut,
                 struct err *e);
int ranks_gather_at(struct dev *d, struct comm *c, const char *what, void *all, const size_t *cut,
                    size_t bytes, struct err *e);
// The most items of a rank; NULL: 0.
size_t ranks_most(const struct comm *c, const size_t *cut);
// Bytes that ranks_sum keeps on the device for sums of up to n values.
size_t ranks_bytes(const struct comm *c, size_t n);
// The same of ranks_sum_at, of `most` values a rank.
size_t ranks_bytes_at(const struct comm *c, size_t most);
// Frees them; before the device is closed.
void ranks_release(struct dev *d, struct comm *c);

#endif
