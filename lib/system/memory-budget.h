// SPDX-License-Identifier: Apache-2.0
// The memory that a tool with --mem may plan with.
#ifndef SYSTEM_MEMORY_BUDGET_H
#define SYSTEM_MEMORY_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// *mem: the value of --mem. Where it is the default (`given` false) and more than nine tenths of
// what this machine and its limits leave (memory-limit.h), it is lowered to that; a given one is
// kept. said: one line for the user, "" where there is nothing to say. `root` as in
// memory_limit_read. True: *mem is fine; false: a given one is more than there is, which is worth a
// warning.
bool memory_budget(const char *root, uint64_t *mem, bool given, char *said, size_t room);

#endif
