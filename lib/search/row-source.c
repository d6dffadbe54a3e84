// SPDX-License-Identifier: Apache-2.0
#include "search/row-source.h"

#include <stdatomic.h>
#include <string.h>

static int read_memory(void *ctx, uint64_t first, uint64_t count, float *out, struct err *e)
{
    const struct row_memory *m = ctx;
    (void)e;
    memcpy(out, m->rows + first * m->dim, count * m->dim * sizeof *out);
    return 0;
}

static int gather_memory(void *ctx, const uint64_t *rows, size_t count, float *out, struct err *e)
{
    const struct row_memory *m = ctx;
    (void)e;
    for (size_t i = 0; i < count; i++)
        memcpy(out + i * m->dim, m->rows + rows[i] * m->dim, m->dim * sizeof *out);
    return 0;
}

static const struct row_part *memory_part(void *ctx, size_t *n)
{
    *n = 1;
    return &((struct row_memory *)ctx)->part;
}

struct row_source row_source_memory(struct row_memory *m, const float *rows, uint64_t n, size_t dim)
{
    *m = (struct row_memory){rows, dim, {rows, 0}};
    return (struct row_source){n,    dim,  m,           read_memory, gather_memory,
                               NULL, NULL, memory_part, NULL};
}

void loop_error_set(struct loop_error *f, const struct err *e)
{
    int none = 0;
    if (atomic_compare_exchange_strong(&f->failed, &none, 1))
        f->e = *e;
}

int loop_error_check(const struct loop_error *f, struct err *e)
{
    if (!f->failed)
        return 0;
    *e = f->e;
    return -1;
}
