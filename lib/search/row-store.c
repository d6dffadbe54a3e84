// SPDX-License-Identifier: Apache-2.0
#include "search/row-store.h"

#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "search/dot-block.h"

size_t row_store_value(const struct row_source *s)
{
    return s->read_half ? sizeof(uint16_t) : sizeof(float);
}

int row_store_init(struct row_store *r, const struct row_source *s, size_t n, struct err *e)
{
    size_t items;
    *r = (struct row_store){.dim = s->dim, .half = s->read_half != NULL};
    if (!mem_mul(n, s->dim, &items))
        return err_set(e, "%zu rows of %zu values are more than memory can hold", n, s->dim);
    r->data = mem_alloc_unset(items, row_store_value(s), e);
    if (!r->data)
        return -1;
    mem_large_pages(r->data, items * row_store_value(s));
    return 0;
}

void row_store_release(struct row_store *r)
{
    free(r->data);
    *r = (struct row_store){0};
}

int row_store_hold(struct row_store *r, const struct row_source *s, struct err *e)
{
    size_t n = 0;
    const struct row_part *parts = s->parts ? s->parts(s->ctx, &n) : NULL;
    if (!parts)
        return row_store_init(r, s, s->n, e);
    *r = (struct row_store){
        .parts = parts, .n_parts = n, .dim = s->dim, .half = s->read_half != NULL};
    return 0;
}

// The part that has row i.
static const struct row_part *part_of(const struct row_store *r, size_t i)
{
    size_t low = 0, high = r->n_parts;
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (r->parts[mid].first <= i)
            low = mid;
        else
            high = mid;
    }
    return &r->parts[low];
}

static const char *row_at(const struct row_store *r, size_t i)
{
    size_t row = r->dim * (r->half ? sizeof(uint16_t) : sizeof(float));
    if (!r->parts)
        return (const char *)r->data + i * row;
    const struct row_part *p = part_of(r, i);
    return (const char *)p->data + (i - p->first) * row;
}

static const uint16_t *half_at(const struct row_store *r, size_t i)
{
    return (const uint16_t *)(const void *)row_at(r, i);
}

static const float *float_at(const struct row_store *r, size_t i)
{
    return (const float *)(const void *)row_at(r, i);
}

int row_store_read(struct row_store *r, size_t at, const struct row_source *s, uint64_t first,
                   uint64_t count, struct err *e)
{
    if (r->parts)
        return 0;
    return r->half ? s->read_half(s->ctx, first, count, (uint16_t *)r->data + at * r->dim, e)
                   : s->read(s->ctx, first, count, (float *)r->data + at * r->dim, e);
}

int row_store_gather(struct row_store *r, size_t at, const struct row_source *s,
                     const uint64_t *rows, size_t count, struct err *e)
{
    return r->half ? s->gather_half(s->ctx, rows, count, (uint16_t *)r->data + at * r->dim, e)
                   : s->gather(s->ctx, rows, count, (float *)r->data + at * r->dim, e);
}

void row_store_copy(struct row_store *to, size_t at, const struct row_store *from, size_t i)
{
    size_t row = to->dim * (to->half ? sizeof(uint16_t) : sizeof(float));
    memcpy((char *)to->data + at * row, row_at(from, i), row);
}

const float *row_store_at(const struct row_store *r, size_t i, float *room)
{
    if (!r->half)
        return float_at(r, i);
    half_to_f32(half_at(r, i), room, r->dim);
    return room;
}

double row_store_dot(const struct row_store *a, size_t i, const struct row_store *b, size_t j)
{
    return a->half ? dot_exact_half(half_at(a, i), half_at(b, j), a->dim)
                   : dot_exact(float_at(a, i), float_at(b, j), a->dim);
}

void row_store_prefetch(const struct row_store *r, size_t i)
{
    const char *row = row_at(r, i);
    size_t bytes = r->dim * (r->half ? sizeof(uint16_t) : sizeof(float));
    for (size_t at = 0; at < bytes; at += 64)
        __builtin_prefetch(row + at);
}
