// SPDX-License-Identifier: Apache-2.0
#include "train/names.h"

#include <stdlib.h>
#include <string.h>

#include "system/digest.h"
#include "base/hash.h"
#include "base/mem.h"

enum { FIRST = 64 }; // slots; at most half of them are used

void train_names_release(struct train_names *t)
{
    free(t->slots);
    *t = (struct train_names){0};
}

void train_names_restart(struct train_names *t)
{
    t->n = 0;
    if (t->slots)
        memset(t->slots, 0, (t->mask + 1) * sizeof *t->slots);
}

struct name_key {
    const struct samples_reader *stream;
    const char *name;
};

static bool is_shard(const void *slot, const void *key)
{
    const struct name_key *k = key;
    uint32_t number = *(const uint32_t *)slot;
    return !number || strcmp(samples_shard(k->stream, number - 1)->name, k->name) == 0;
}

// Returns the slot of that name: the first shard with it, or an empty slot.
static uint32_t *find(struct train_names *t, const struct samples_reader *stream, const char *name)
{
    struct name_key k = {stream, name};
    return hash_find(t->slots, sizeof *t->slots, t->mask, digest_u64(name, strlen(name)), is_shard,
                     &k);
}

static void put(struct train_names *t, const struct samples_reader *stream, size_t shard)
{
    uint32_t *slot = find(t, stream, samples_shard(stream, shard)->name);
    if (!*slot)
        *slot = (uint32_t)shard + 1;
}

static int grow(struct train_names *t, const struct samples_reader *stream, struct err *e)
{
    size_t n = t->slots ? (t->mask + 1) * 2 : FIRST;
    uint32_t *slots = mem_alloc(n, sizeof *slots, e);
    if (!slots)
        return -1;
    free(t->slots);
    t->slots = slots;
    t->mask = n - 1;
    for (size_t i = 0; i < t->n; i++)
        put(t, stream, i);
    return 0;
}

int train_names_check(struct train_names *t, const struct samples_reader *stream, struct err *e)
{
    for (; t->n < samples_n_shards(stream); t->n++) {
        const struct samples_shard *now = samples_shard(stream, t->n), *before;
        if ((!t->slots || 2 * (t->n + 1) > t->mask) && grow(t, stream, e))
            return -1;
        uint32_t first = *find(t, stream, now->name);
        if (!first) {
            put(t, stream, t->n);
            continue;
        }
        before = samples_shard(stream, first - 1);
        if (before->stream != now->stream && !before->slice && !now->slice)
            return err_set(e,
                           "two streams have a shard called %s: teacher's rows, labels and crops "
                           "go by that name, so it must be one shard's",
                           now->name);
    }
    return 0;
}
