// SPDX-License-Identifier: Apache-2.0
// Open addressing with linear probing in an array of slots of any type. The array, and what an
// empty slot looks like, are the caller's; the number of slots is a power of two, mask + 1, and
// some are always empty.
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The smallest number of slots of which n entries fill at most half.
static inline size_t hash_slots(size_t n)
{
    size_t slots = 16;
    while (slots / 2 < n && slots <= SIZE_MAX / 4)
        slots *= 2;
    return slots;
}

// The first slot from `hash` on that `ends` accepts; `ends` must accept the slot of the key and an
// empty slot. Inline, so that a constant `ends` costs no call.
static inline void *hash_find(const void *slots, size_t slot_bytes, size_t mask, uint64_t hash,
                              bool (*ends)(const void *slot, const void *key), const void *key)
{
    char *all = (char *)(uintptr_t)slots;
    size_t i = (size_t)hash & mask;
    while (!ends(all + i * slot_bytes, key))
        i = (i + 1) & mask;
    return all + i * slot_bytes;
}

#endif
