// SPDX-License-Identifier: Apache-2.0
#include "system/memory-budget.h"

#include <stdio.h>

#include "system/memory-limit.h"

bool memory_budget(const char *root, uint64_t *mem, bool given, char *said, size_t room)
{
    struct memory_limit m;
    memory_limit_read(root, &m);
    double gib = 1.0 / (1u << 30), left = (double)m.left;
    *said = '\0';
    if (m.left == UINT64_MAX || (double)*mem <= (given ? 1 : 0.9) * left)
        return true;
    if (given) {
        snprintf(said, room, "--mem is %.1f GiB, but %s leaves %.1f GiB", (double)*mem * gib, m.by,
                 left * gib);
        return false;
    }
    *mem = (uint64_t)(0.9 * left);
    snprintf(said, room,
             "memory to stay under: %.1f GiB, of %.1f GiB that %s leaves; --mem sets it",
             (double)*mem * gib, left * gib, m.by);
    return true;
}
