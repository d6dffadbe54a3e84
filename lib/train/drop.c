// SPDX-License-Identifier: Apache-2.0
#include "train/drop.h"

#include <string.h>

#include "base/rng.h"
#include "system/digest.h"

static const uint64_t DROP_STREAM = 0x706174636865735fu; // "patches_"

size_t train_drop_keep(double dropout, size_t patches)
{
    size_t keep = (size_t)((double)patches * (1 - dropout));
    return dropout <= 0 ? 0 : keep ? keep : 1;
}

uint64_t train_drop_draw(uint64_t seed, uint64_t epoch, const char *key)
{
    uint32_t r[4];
    rng_block(seed, epoch, digest_u64(key, strlen(key)), r);
    return (uint64_t)r[0] << 32 | r[1];
}

// The first `keep` of a shuffle that stops there; then marks, which bring them into order.
void train_drop_pick(uint64_t draw, size_t patches, size_t keep, int32_t *pick, int32_t *room)
{
    struct rng r;
    rng_init(&r, draw, DROP_STREAM);
    for (size_t i = 0; i < patches; i++)
        room[i] = (int32_t)i;
    for (size_t i = 0; i < keep; i++) {
        size_t k = i + (size_t)rng_below(&r, patches - i);
        int32_t at = room[k];
        room[k] = room[i];
        room[i] = pick[i] = at;
    }
    memset(room, 0, patches * sizeof *room);
    for (size_t i = 0; i < keep; i++)
        room[pick[i]] = 1;
    for (size_t i = 0, n = 0; i < patches; i++)
        if (room[i])
            pick[n++] = (int32_t)i;
}
