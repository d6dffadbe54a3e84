// SPDX-License-Identifier: Apache-2.0
// Attention, one head of one sequence at a time: softmax(q k^T / sqrt(head_dim)) v.
#include <math.h>
#include <string.h>

#include "device/cpu/exp.h"
#include "device/cpu/small-gemm.h"
#include "device/cpu/vec.h"
#include "device/cpu/cpu.h"

// Query rows that go through together: their scores stay in the first-level cache.
enum { QUERIES = 24, SLOT_HEAD = 2 };

struct attended_head {
    struct dev *d;
    const struct dev_attention *a;
    size_t keys, keys16, dim16; // the sequence's length, rounded up; head_dim rounded up
    size_t row0, col0;          // the sequence's first row, the head's first column
    float *kt, *v;              // [head_dim, keys16], [keys, dim16]
    float *q, *s, *o;           // [QUERIES, head_dim], [QUERIES, keys16], [QUERIES, dim16]
    float *row;                 // [head_dim]
};

static size_t up16(size_t n)
{
    return (n + 15) / 16 * 16;
}

static int head_scratch(struct attended_head *h, int worker)
{
    size_t dim = h->a->head_dim, kt = dim * h->keys16, v = h->keys * h->dim16;
    size_t q = QUERIES * up16(dim), s = QUERIES * h->keys16, o = QUERIES * h->dim16;
    float *p = cpu_scratch(h->d, worker, SLOT_HEAD, (kt + v + q + s + o + dim) * sizeof *p);
    if (!p)
        return -1;
    h->kt = p;
    h->v = h->kt + kt;
    h->q = h->v + v;
    h->s = h->q + q;
    h->o = h->s + s;
    h->row = h->o + o;
    return 0;
}

static void load_keys(struct attended_head *h)
{
    size_t dim = h->a->head_dim;
    const float *row[16];
    float wide[16 * 256]; // bfloat16 rows made wide, a part of a row at a time
    for (size_t j0 = 0; j0 < h->keys16; j0 += 16) {
        size_t n = h->keys - j0 < 16 ? h->keys - j0 : 16;
        for (size_t c0 = 0; c0 < dim; c0 += 256) {
            size_t cols = dim - c0 < 256 ? dim - c0 : 256;
            for (size_t j = 0; j < 16; j++) {
                size_t at = (h->row0 + j0 + (j < n ? j : 0)) * h->a->kv_ld + h->col0 + c0;
                row[j] = cpu_load(h->d, cpu_at(h->d, h->a->k, at), cols, wide + j * 256);
            }
            for (size_t c = 0; c < cols; c++)
                for (size_t j = 0; j < 16; j++)
                    h->kt[(c0 + c) * h->keys16 + j0 + j] = row[j][c];
        }
    }
}

static void load_values(struct attended_head *h)
{
    size_t dim = h->a->head_dim;
    for (size_t j = 0; j < h->keys; j++) {
        const void *src = cpu_at(h->d, h->a->v, (h->row0 + j) * h->a->kv_ld + h->col0);
        float *to = h->v + j * h->dim16;
        if (h->d->act == DEV_F32)
            memcpy(to, src, dim * sizeof *to);
        else
            bf16_to_f32(src, to, dim);
        memset(to + dim, 0, (h->dim16 - dim) * sizeof *to);
    }
}

static size_t query_row(const struct attended_head *h, size_t i, size_t r)
{
    return h->a->last_only ? i : h->row0 + r;
}

static void load_queries(struct attended_head *h, size_t i, size_t r0, size_t n)
{
    size_t dim = h->a->head_dim;
    float scale = 1.0f / sqrtf((float)dim);
    for (size_t r = 0; r < n; r++) {
        size_t at = query_row(h, i, r0 + r) * h->a->q_ld + h->col0;
        const float *q = cpu_load(h->d, cpu_at(h->d, h->a->q, at), dim, h->row);
        for (size_t c = 0; c < dim; c++)
            h->q[r * dim + c] = q[c] * scale;
    }
}

static void store_row(struct attended_head *h, size_t row, size_t head, float *o, float sum,
                      float max)
{
    const struct dev_attention *a = h->a;
    vec_scale(o, 1.0f / sum, h->dim16);
    void *to = cpu_at(h->d, a->out, row * a->out_ld + h->col0);
    if (h->d->act == DEV_F32)
        memcpy(to, o, a->head_dim * sizeof *o);
    else
        bf16_from_f32(o, to, a->head_dim);
    if (a->lse)
        a->lse[row * a->heads + head] = max + logf(sum);
}

// Queries r0 .. r0 + n of the sequence, the first of them at position p0.
static void block(struct attended_head *h, size_t i, size_t head, size_t r0, size_t p0, size_t n)
{
    size_t dim = h->a->head_dim;
    // Under the mask, keys after the last query of the block are not looked at.
    size_t seen = h->a->causal && p0 + n < h->keys ? p0 + n : h->keys, seen16 = up16(seen);
    float sum[QUERIES], max[QUERIES];
    load_queries(h, i, r0, n);
    small_gemm(n, seen16, dim, h->q, dim, h->kt, h->keys16, h->s, h->keys16);
    for (size_t r = 0; r < n; r++) {
        size_t keys = h->a->causal ? p0 + r + 1 : h->keys;
        sum[r] = cpu_softmax_row(h->s + r * h->keys16, keys, seen16, &max[r]);
    }
    small_gemm(n, h->dim16, seen, h->s, h->keys16, h->v, h->dim16, h->o, h->dim16);
    for (size_t r = 0; r < n; r++)
        store_row(h, query_row(h, i, r0 + r), head, h->o + r * h->dim16, sum[r], max[r]);
}

struct job {
    struct dev *d;
    const struct dev_attention *a;
};

static void one_head(void *ctx, size_t item, int worker)
{
    const struct job *j = ctx;
    const struct dev_attention *a = j->a;
    size_t i = item / a->heads, head = item % a->heads;
    size_t start = (size_t)a->kv.start[i], end = (size_t)a->kv.start[i + 1];
    struct attended_head h = {.d = j->d,
                              .a = a,
                              .keys = end - start,
                              .keys16 = up16(end - start),
                              .dim16 = up16(a->head_dim),
                              .row0 = start,
                              .col0 = head * a->head_dim};
    if (!h.keys || head_scratch(&h, worker))
        return;
    load_keys(&h);
    load_values(&h);
    if (a->last_only) {
        block(&h, i, head, 0, (size_t)a->q_row[i], 1);
        return;
    }
    for (size_t r = 0; r < h.keys; r += QUERIES)
        block(&h, i, head, r, r, h.keys - r < QUERIES ? h.keys - r : QUERIES);
}

void cpu_attention(struct dev *d, const struct dev_attention *a)
{
    struct job j = {d, a};
    pool_for(cpu_of(d)->pool, a->kv.n * a->heads, one_head, &j);
}
