// SPDX-License-Identifier: Apache-2.0
#include "read/skip.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

int read_skip_key(struct read_skip *s, const char *key, struct err *e)
{
    void *p = s->keys;
    if (s->done || s->from == s->to)
        return 0;
    int rc = mem_grow(&p, &s->cap, s->n_keys + 1, sizeof *s->keys, e);
    s->keys = p;
    if (rc || !(s->keys[s->n_keys] = mem_strdup(key, e)))
        return -1;
    s->n_keys++;
    return 0;
}

static void forget(struct read_skip *s)
{
    for (size_t i = 0; i < s->n_keys; i++)
        free(s->keys[i]);
    s->n_keys = 0;
}

void read_skip_window(struct read_skip *s, const struct read_order *o, uint64_t number, uint64_t at,
                      const uint32_t *turn)
{
    for (uint64_t i = 0; i < s->n_keys; i++) {
        if (at + i < s->from || at + i >= s->to)
            continue;
        size_t which = turn            ? turn[i]
                       : s->n_keys > 1 ? read_order_window(o, number, s->n_keys, i)
                                       : 0;
        digest_chain(s->chain, s->keys[which]);
        s->n++;
    }
    s->done = at + s->n_keys >= s->to;
    forget(s);
}

void read_skip_release(struct read_skip *s)
{
    forget(s);
    free(s->keys);
    memset(s, 0, sizeof *s);
}
