// SPDX-License-Identifier: Apache-2.0
#include "search/row-source.h"

#include <stdatomic.h>
#include <string.h>

static int read_memory(void *ctx, uint64_t first, uint64_t count, float *out, struct err *e)
{
    const struct sim_memory *m = ctx;
    (void)e;
    memcpy(out, m->rows + first * m->dim, count * m->dim * sizeof *out);
    return 0;
}

static int gather_memory(void *ctx, const uint64_t *rows, size_t count, float *out, struct err *e)
{
    const struct sim_memory *m = ctx;
    (void)e;
    for (size_t i = 0; i < count; i++)
        memcpy(out + i * m->dim, m->rows + rows[i] * m->dim, m->dim * sizeof *out);
    return 0;
}

static const struct sim_part *memory_part(void *ctx, size_t *n)
{
    *n = 1;
    return &((struct sim_memory *)ctx)->part;
}

struct sim_source sim_source_memory(struct sim_memory *m, const float *rows, uint64_t n, size_t dim)
{
    *m = (struct sim_memory){rows, dim, {rows, 0}};
    return (struct sim_source){n,    dim,  m,           read_memory, gather_memory,
                               NULL, NULL, memory_part, NULL};
}

void sim_fail_set(struct sim_fail *f, const struct err *e)
{
    int none = 0;
    if (atomic_compare_exchange_strong(&f->failed, &none, 1))
        f->e = *e;
}

int sim_fail_check(const struct sim_fail *f, struct err *e)
{
    if (!f->failed)
        return 0;
    *e = f->e;
    return -1;
}
