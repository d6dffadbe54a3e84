// SPDX-License-Identifier: Apache-2.0
// Threads that stay: threads_for starts threads at each call, which is too dear for the hundreds of
// short loops of one forward pass.
#ifndef SYSTEM_POOL_H
#define SYSTEM_POOL_H

#include <stddef.h>

#include "base/err.h"

struct pool;

// `threads` workers, the caller's thread is one of them. NULL with e set.
struct pool *pool_new(int threads, struct err *e);
// No-op on NULL.
void pool_free(struct pool *p);
int pool_threads(const struct pool *p);
// Calls work(ctx, i, worker) for every i in [0, n), worker in [0, threads); returns when all are
// done. The order is free, so results must not depend on it nor on `worker`. One caller at a time;
// work must not call it.
void pool_for(struct pool *p, size_t n, void (*work)(void *ctx, size_t i, int worker), void *ctx);

#endif
