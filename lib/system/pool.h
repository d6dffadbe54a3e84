// SPDX-License-Identifier: Apache-2.0
// Threads for the hundreds of short loops of one forward pass. They differ from those of
// threads_for in three ways: they spin for a moment before they sleep, since the gap between two
// loops is shorter than a wake-up; each has a number, for scratch memory of its own; and pool_new
// starts all of them, so that a loop cannot fail.
#ifndef SYSTEM_POOL_H
#define SYSTEM_POOL_H

#include <stddef.h>

#include "base/err.h"

struct pool;

// `threads` workers, the caller's thread among them. NULL with e set.
struct pool *pool_new(int threads, struct err *e);
// No-op on NULL.
void pool_free(struct pool *p);
// Calls work(ctx, i, worker) for every i in [0, n), worker in [0, threads); returns when all are
// done. The order is free, so results must not depend on it nor on `worker`. One caller at a time;
// work must not call it.
void pool_for(struct pool *p, size_t n, void (*work)(void *ctx, size_t i, int worker), void *ctx);

#endif
