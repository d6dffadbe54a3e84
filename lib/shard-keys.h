// SPDX-License-Identifier: Apache-2.0
// A set of keys held as 128-bit hashes: open addressing, 16 bytes a slot.
#ifndef SHARD_KEYS_H
#define SHARD_KEYS_H

#include <stddef.h>

#include "err.h"
#include "shard.h"

// 1: the key was there already; 0: it is new and now there; -1: out of memory.
int shard_keys_add(struct shard_keys *k, const char *key, size_t len, struct err *e);

#endif
