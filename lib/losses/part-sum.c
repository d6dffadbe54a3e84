// SPDX-License-Identifier: Apache-2.0
#include "losses/part-sum.h"

#include <string.h>

size_t part_sum_levels(size_t parts)
{
    size_t n = 0;
    while (((size_t)1 << n) < parts)
        n++;
    return n;
}

int part_sum_open(struct part_sum *s, struct dev *d, size_t n, size_t parts, struct err *e)
{
    *s = (struct part_sum){.d = d, .n = n};
    size_t levels = part_sum_levels(parts);
    if (levels > PART_LEVELS)
        return err_set(e, "%zu parts are too many", parts);
    for (size_t i = 0; i < levels; i++)
        if (!(s->level[i] = d->op->alloc(d, n * sizeof(float), e))) {
            part_sum_close(s);
            return -1;
        }
    return 0;
}

void part_sum_close(struct part_sum *s)
{
    for (int i = 0; i < PART_LEVELS; i++)
        if (s->level[i])
            s->d->op->free(s->d, s->level[i]);
    memset(s, 0, sizeof *s);
}

void part_sum_take(struct part_sum *s, float *x, bool last)
{
    const struct dev_ops *op = s->d->op;
    int i = 0;
    for (; s->full >> i & 1; i++)
        op->axpy(s->d, s->n, 1, s->level[i], x);
    s->full &= ~0u << i;
    if (!last) {
        op->copy(s->d, s->level[i], x, s->n * sizeof *x);
        s->full |= 1u << i;
        return;
    }
    for (; i < PART_LEVELS; i++) // a number of parts that is no power of two
        if (s->full >> i & 1)
            op->axpy(s->d, s->n, 1, s->level[i], x);
    s->full = 0;
}
