// SPDX-License-Identifier: Apache-2.0
// Checked sizes and allocation: a product that overflows is an error, never a small buffer.
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

// *out = a * b (a + b); false when it does not fit in size_t.
bool mem_mul(size_t a, size_t b, size_t *out);
bool mem_add(size_t a, size_t b, size_t *out);

// Zeroed, 64-byte aligned block of n * size bytes (at least one byte); NULL with e set. Freed with
// free().
void *mem_alloc(size_t n, size_t size, struct err *e);
// The same, not zeroed: for large arrays that many threads write whole before anything is read.
void *mem_alloc_unset(size_t n, size_t size, struct err *e);
// Asks for large pages under a large new block that will be read here and there: fewer faults and
// fewer misses of the processor's page table cache. Nothing happens where the system has none.
void mem_large_pages(void *p, size_t bytes);
// Grows the block whose pointer is stored at `p` (the address of a pointer to objects of any type),
// of *cap items, to hold at least `need` items (doubling); contents kept. The pointer is read and
// written as bytes, so no type of it is assumed. 0 or -1.
int mem_grow(void *p, size_t *cap, size_t need, size_t size, struct err *e);
// Heap copy of a NUL-terminated string; NULL with e set.
char *mem_strdup(const char *s, struct err *e);

#endif
