// SPDX-License-Identifier: Apache-2.0
#include "shard-keys.h"

#include <pthread.h>
#include <stdlib.h>
#include <xxhash.h>

#include "mem.h"

struct shard_keys {
    pthread_mutex_t lock;
    XXH128_hash_t *slot; // all zero = free
    size_t n, size;      // size is a power of two
};

struct shard_keys *shard_keys_new(struct err *e)
{
    struct shard_keys *k = mem_alloc(1, sizeof *k, e);
    if (!k)
        return NULL;
    k->size = 1024;
    k->slot = mem_alloc(k->size, sizeof *k->slot, e);
    if (!k->slot) {
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
    free(k->slot);
    free(k);
}

static XXH128_hash_t *find(XXH128_hash_t *slot, size_t size, XXH128_hash_t h)
{
    size_t i = h.low64 & (size - 1);
    while ((slot[i].low64 || slot[i].high64) && !XXH128_isEqual(slot[i], h))
        i = (i + 1) & (size - 1);
    return &slot[i];
}

static int grow(struct shard_keys *k, struct err *e)
{
    size_t size;
    if (!mem_mul(k->size, 2, &size))
        return err_set(e, "too many keys");
    XXH128_hash_t *slot = mem_alloc(size, sizeof *slot, e);
    if (!slot)
        return -1;
    for (size_t i = 0; i < k->size; i++)
        if (k->slot[i].low64 || k->slot[i].high64)
            *find(slot, size, k->slot[i]) = k->slot[i];
    free(k->slot);
    k->slot = slot;
    k->size = size;
    return 0;
}

static int add(struct shard_keys *k, XXH128_hash_t h, struct err *e)
{
    if (k->n >= k->size / 2 && grow(k, e))
        return -1;
    XXH128_hash_t *s = find(k->slot, k->size, h);
    if (s->low64 || s->high64)
        return 1;
    *s = h;
    k->n++;
    return 0;
}

int shard_keys_add(struct shard_keys *k, const char *key, size_t len, struct err *e)
{
    XXH128_hash_t h = XXH3_128bits(key, len);
    if (!h.low64 && !h.high64)
        h.low64 = 1; // zero marks a free slot
    pthread_mutex_lock(&k->lock);
    int rc = add(k, h, e);
    pthread_mutex_unlock(&k->lock);
    return rc;
}
