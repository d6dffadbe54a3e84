// SPDX-License-Identifier: Apache-2.0
#include "read/order.h"

#include <errno.h>
#include <stdlib.h>

#include <string.h>

#include "system/digest.h"

enum { BLOCKS_PER_SAMPLE_BITS = 16 };

void read_order_init(struct read_order *o, uint64_t seed, uint64_t epoch, uint64_t view)
{
    struct rng r;
    rng_init(&r, seed, epoch);
    o->order_key = rng_u64(&r);
    rng_init(&r, seed, view);
    rng_u64(&r); // that of the order
    o->sample_key = rng_u64(&r);
}

uint64_t read_order_shard(const struct read_order *o, uint64_t n, uint64_t i)
{
    return rng_permute(o->order_key, 0, n, i);
}

uint64_t read_order_window(const struct read_order *o, uint64_t w, uint64_t n, uint64_t i)
{
    return rng_permute(o->order_key, w + 1, n, i);
}

// Windows are counted far below it.
#define RUN_STREAM (UINT64_C(1) << 62)

uint64_t read_order_run(const struct read_order *o, uint64_t w, uint64_t n, uint64_t i)
{
    return rng_permute(o->order_key, RUN_STREAM + w, n, i);
}

void read_order_sample(const struct read_order *o, const char *shard_name, uint64_t ordinal,
                       struct rng *r)
{
    rng_init(r, o->sample_key, digest_u64(shard_name, strlen(shard_name)));
    r->index = ordinal << BLOCKS_PER_SAMPLE_BITS;
}

uint64_t read_order_part(uint64_t total, uint64_t i, uint64_t n)
{
    uint64_t each = total / n, over = total % n; // the first `over` parts have one more
    return i * each + (i < over ? i : over);
}

static bool number(const char **p, uint64_t *v)
{
    char *end;
    if (**p < '0' || **p > '9')
        return false;
    errno = 0;
    *v = strtoull(*p, &end, 10);
    *p = end;
    return !errno;
}

bool read_order_parse(const char *text, uint64_t *part, uint64_t *n_parts)
{
    uint64_t a;
    if (!number(&text, &a) || *text++ != '/' || !number(&text, n_parts) || *text || a < 1 ||
        a > *n_parts)
        return false;
    *part = a - 1;
    return true;
}
