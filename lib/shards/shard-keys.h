// SPDX-License-Identifier: Apache-2.0
// A set of keys held as 96-bit hashes, each with the shard it was seen in: open addressing, 16
// bytes a slot, at most SHARD_KEYS_MAX keys (64 MB).
#ifndef SHARDS_SHARD_KEYS_H
#define SHARDS_SHARD_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "shards/shard.h"

enum { SHARD_KEYS_MAX = 3 << 20 };

// A number for the next shard. When the set is half full, the shards before are forgotten.
uint32_t shard_keys_begin(struct shard_keys *k);
// 0: the key is new, and now there (unless the set is full); 1: it was seen in this shard; 2: in
// another one; -1: out of memory.
int shard_keys_add(struct shard_keys *k, uint32_t shard, const char *key, size_t len,
                   struct err *e);

#endif
