// SPDX-License-Identifier: Apache-2.0
#include "search/row-store.h"

#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "search/dot-block.h"

size_t sim_rows_value(const struct sim_source *s)
{
    return s->read_half ? sizeof(uint16_t) : sizeof(float);
}

int sim_rows_init(struct sim_rows *r, const struct sim_source *s, size_t n, struct err *e)
{
    size_t items;
    *r = (struct sim_rows){.dim = s->dim, .half = s->read_half != NULL};
    if (!mem_mul(n, s->dim, &items))
        return err_set(e, "%zu rows of %zu values are more than memory can hold", n, s->dim);
    r->data = mem_alloc_unset(items, sim_rows_value(s), e);
    if (!r->data)
        return -1;
    mem_large_pages(r->data, items * sim_rows_value(s));
    return 0;
}

void sim_rows_release(struct sim_rows *r)
{
    free(r->data);
    *r = (struct sim_rows){0};
}

int sim_rows_hold(struct sim_rows *r, const struct sim_source *s, struct err *e)
{
    size_t n = 0;
    const struct sim_part *parts = s->parts ? s->parts(s->ctx, &n) : NULL;
    if (!parts)
        return sim_rows_init(r, s, s->n, e);
    *r = (struct sim_rows){
        .parts = parts, .n_parts = n, .dim = s->dim, .half = s->read_half != NULL};
    return 0;
}

// The part that has row i.
static const struct sim_part *part_of(const struct sim_rows *r, size_t i)
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

static const char *row_at(const struct sim_rows *r, size_t i)
{
    size_t row = r->dim * (r->half ? sizeof(uint16_t) : sizeof(float));
    if (!r->parts)
        return (const char *)r->data + i * row;
    const struct sim_part *p = part_of(r, i);
    return (const char *)p->data + (i - p->first) * row;
}

static const uint16_t *half_at(const struct sim_rows *r, size_t i)
{
    return (const uint16_t *)(const void *)row_at(r, i);
}

static const float *float_at(const struct sim_rows *r, size_t i)
{
    return (const float *)(const void *)row_at(r, i);
}

int sim_rows_read(struct sim_rows *r, size_t at, const struct sim_source *s, uint64_t first,
                  uint64_t count, struct err *e)
{
    if (r->parts)
        return 0;
    return r->half ? s->read_half(s->ctx, first, count, (uint16_t *)r->data + at * r->dim, e)
                   : s->read(s->ctx, first, count, (float *)r->data + at * r->dim, e);
}

int sim_rows_gather(struct sim_rows *r, size_t at, const struct sim_source *s, const uint64_t *rows,
                    size_t count, struct err *e)
{
    return r->half ? s->gather_half(s->ctx, rows, count, (uint16_t *)r->data + at * r->dim, e)
                   : s->gather(s->ctx, rows, count, (float *)r->data + at * r->dim, e);
}

void sim_rows_copy(struct sim_rows *to, size_t at, const struct sim_rows *from, size_t i)
{
    size_t row = to->dim * (to->half ? sizeof(uint16_t) : sizeof(float));
    memcpy((char *)to->data + at * row, row_at(from, i), row);
}

const float *sim_rows_at(const struct sim_rows *r, size_t i, float *room)
{
    if (!r->half)
        return float_at(r, i);
    half_to_f32(half_at(r, i), room, r->dim);
    return room;
}

double sim_rows_dot(const struct sim_rows *a, size_t i, const struct sim_rows *b, size_t j)
{
    return a->half ? sim_dot_half(half_at(a, i), half_at(b, j), a->dim)
                   : sim_dot(float_at(a, i), float_at(b, j), a->dim);
}

void sim_rows_prefetch(const struct sim_rows *r, size_t i)
{
    const char *row = row_at(r, i);
    size_t bytes = r->dim * (r->half ? sizeof(uint16_t) : sizeof(float));
    for (size_t at = 0; at < bytes; at += 64)
        __builtin_prefetch(row + at);
}
