// SPDX-License-Identifier: Apache-2.0
// The memory that a tool with --mem may plan with.
#ifndef SYSTEM_MEMORY_BUDGET_H
#define SYSTEM_MEMORY_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// *mem: the value of --mem in bytes. The default (`given` false) is lowered to nine tenths of what
// this machine and its limits leave (memory-limit.h); a given value is kept. said: one line for the
// user, or "". `root`: see memory_limit_read. False: a given value is more than is free, and `said`
// is a warning.
bool memory_budget(const char *root, uint64_t *mem, bool given, char *said, size_t room);

#endif
