// SPDX-License-Identifier: Apache-2.0
// Threads. Two shapes serve every tool: a loop over indices, and an ordered pipeline.
#ifndef SYSTEM_THREADS_H
#define SYSTEM_THREADS_H

#include <stddef.h>

#include "base/err.h"

// Processors this process may use (its affinity mask, not the machine's count); at least 1.
int threads_cpus(void);

// Calls work(ctx, i) for every i in [0, n), on `threads` threads (the caller's is one); returns
// when all are done. The order is free, so results must not depend on it. 0, or -1 when a thread
// cannot start.
int threads_for(int threads, size_t n, void (*work)(void *ctx, size_t i), void *ctx, struct err *e);

// The same, but begins no further i once signals_stop_wanted(). Then returns -1 with "stopped", and
// the result is not whole. For long loops whose result can be given up.
int threads_for_stop(int threads, size_t n, void (*work)(void *ctx, size_t i), void *ctx,
                     struct err *e);

// Memory for each thread of such a loop: `threads` structs of `size` bytes from `first` on, each of
// which begins with a cleared atomic_flag. Takes one that is free, of which there is always one,
// and returns its number; atomic_flag_clear gives it back.
int threads_take(void *first, size_t size, int threads);

// An ordered pipeline: read and write run on one thread at a time and in order, work on many at
// once, so the output is the same for any number of threads.
struct pipeline_steps {
    int (*read)(void *ctx, void *item,
                struct err *e); // fills the item: 1 = filled, 0 = end, -1 = error
    int (*work)(void *ctx, void *item, struct err *e);  // 0 or -1
    int (*write)(void *ctx, void *item, struct err *e); // 0, 1 = stop early, or -1
};

// Runs the pipeline with items[0..n_items) as the slots in flight (n_items > threads overlaps
// reading and writing with work). Everything read before an error or the end is written first. 0,
// or -1 with the first error in order.
int pipeline_run(int threads, void **items, size_t n_items, const struct pipeline_steps *steps,
                 void *ctx, struct err *e);

#endif
