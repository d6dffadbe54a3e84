// SPDX-License-Identifier: Apache-2.0
#include "shards/shard-keys.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/hash.h"
#include "base/mem.h"

// A slot: 96 bits of the key's hash and the shard it was seen in.
struct key_slot {
    uint64_t low;
    uint32_t high;
    uint32_t shard; // 0 = free
};

struct shard_keys {
    pthread_mutex_t lock;
    struct key_slot *slots;
    size_t n, size; // size is a power of two
    uint32_t shards;
};

struct shard_keys *shard_keys_new(struct err *e)
{
    struct shard_keys *k = mem_alloc(1, sizeof *k, e);
    if (!k)
        return NULL;
    k->size = 1024;
    k->slots = mem_alloc(k->size, sizeof *k->slots, e);
    if (!k->slots) {
        free(k);
        return NULL;
    }
    pthread_mutex_init(&k->lock, NULL);
    return k;
}

void shard_keys_free(struct shard_keys *k)
{
    if (!k)
        return;
    pthread_mutex_destroy(&k->lock);
    free(k->slots);
    free(k);
}

uint32_t shard_keys_begin(struct shard_keys *k)
{
    pthread_mutex_lock(&k->lock);
    if (k->n >= SHARD_KEYS_MAX / 2 || k->shards == UINT32_MAX) {
        memset(k->slots, 0, k->size * sizeof *k->slots);
        k->n = k->shards = 0;
    }
    uint32_t shard = ++k->shards;
    pthread_mutex_unlock(&k->lock);
    return shard;
}

static bool is_key(const void *slot, const void *key)
{
    const struct key_slot *s = slot, *k = key;
    return !s->shard || (s->low == k->low && s->high == k->high);
}

static struct key_slot *find(struct key_slot *slots, size_t size, uint64_t low, uint32_t high)
{
    struct key_slot k = {.low = low, .high = high};
    return hash_find(slots, sizeof *slots, size - 1, low, is_key, &k);
}

static int grow(struct shard_keys *k, struct err *e)
{
    size_t size = k->size * 2; // SHARD_KEYS_MAX bounds it
    struct key_slot *slots = mem_alloc(size, sizeof *slots, e);
    if (!slots)
        return -1;
    for (size_t i = 0; i < k->size; i++)
        if (k->slots[i].shard)
            *find(slots, size, k->slots[i].low, k->slots[i].high) = k->slots[i];
    free(k->slots);
    k->slots = slots;
    k->size = size;
    return 0;
}

static int add(struct shard_keys *k, uint32_t shard, XXH128_hash_t h, struct err *e)
{
    if (k->n >= k->size / 4 * 3 && k->n < SHARD_KEYS_MAX && grow(k, e))
        return -1;
    struct key_slot *s = find(k->slots, k->size, h.low64, (uint32_t)h.high64);
    if (s->shard)
        return s->shard == shard ? 1 : 2;
    if (k->n >= SHARD_KEYS_MAX)
        return 0;
    *s = (struct key_slot){.low = h.low64, .high = (uint32_t)h.high64, .shard = shard};
    k->n++;
    return 0;
}

int shard_keys_add(struct shard_keys *k, uint32_t shard, const char *key, size_t len, struct err *e)
{
    XXH128_hash_t h = XXH3_128bits(key, len);
    pthread_mutex_lock(&k->lock);
    int rc = add(k, shard, h, e);
    pthread_mutex_unlock(&k->lock);
    return rc;
}
