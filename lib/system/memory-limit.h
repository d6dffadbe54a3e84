// SPDX-License-Identifier: Apache-2.0
// How much more memory this process may take: the least of what the system has available
// (MemAvailable), what its control group and each group above it still allow (versions 1 and 2),
// and RLIMIT_AS. Page cache that the kernel gives back on demand counts as free, so a stage that
// has read a large file before leaves the answer as it was.
#ifndef SYSTEM_MEMORY_LIMIT_H
#define SYSTEM_MEMORY_LIMIT_H

#include <stdint.h>

enum { MEMORY_BY = 96 };

struct memory_limit {
    uint64_t left;      // bytes that may still be taken; UINT64_MAX: not known
    uint64_t total;     // the limit that `left` is of; UINT64_MAX: not known
    char by[MEMORY_BY]; // what sets it: "the system", "control group /a/b", "ulimit -v"
};

// `root` stands before /proc and /sys: "" for this system, a folder in tests.
void memory_limit_read(const char *root, struct memory_limit *m);

#endif
