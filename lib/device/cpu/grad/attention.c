// SPDX-License-Identifier: Apache-2.0
// Backward of attention. The probabilities are made again from the log-sum-exp that forward kept
// (Dao et al., FlashAttention, NeurIPS 2022). By head, with Q, K, V, O rows of a sequence:
//     P = exp(scale Q K^T - lse)       dP = dO V^T        dS = scale P (dP - rows of dO.O)
//     dQ = dS K                        dK = dS^T Q        dV = P^T dO
// A sequence is one work item, because no other item writes its rows.
#include <stdlib.h>

#include "device/cpu/simd.h"
#include "device/cpu/small-gemm.h"
#include "device/cpu/grad/grad.h"
#include "base/mem.h"

// Queries, or keys, that go through together: their scores stay in the first-level cache, and what
// no query of them sees under a causal mask is left out.
enum { RUN = 24 };

struct att_job {
    struct dev *d;
    const struct dev_attention *a;
    const void *dout;
    void *dq, *dk, *dv;
    size_t hd;           // head_dim
    size_t wide, length; // it and the sequence's length, rounded up to LANES
    float scale;
};

// One head of one sequence as float32, what is past the ends zero: rows [length, wide], transposed
// [wide, length], scores [length, length].
struct head {
    size_t nq, nk;
    float *q, *k, *dout, *out, *dq, *dk, *dv; // rows
    float *kt, *vt;                           // transposed
    float *p, *ds;                            // scores
};

static size_t head_floats(size_t wide, size_t length)
{
    return 9 * wide * length + 2 * length * length;
}

static void head_place(struct head *h, float *at, size_t wide, size_t length)
{
    float **rows[] = {&h->q, &h->k, &h->dout, &h->out, &h->dq, &h->dk, &h->dv, &h->kt, &h->vt};
    for (size_t i = 0; i < 9; i++, at += wide * length)
        *rows[i] = at;
    h->p = at;
    h->ds = at + length * length;
}

static void get_row(const struct dev *d, const void *buf, size_t at, size_t n, float *row)
{
    const float *p = act_read(d, buf, at, n, row);
    if (p != row)
        memcpy(row, p, n * sizeof *row);
}

static void put_row(const struct dev *d, void *buf, size_t at, size_t n, const float *row)
{
    if (d->act == DEV_F32)
        memcpy((float *)buf + at, row, n * sizeof *row);
    else
        act_put(d, buf, at, n, row);
}

// t [hd, length] = m^T, m [rows, wide]
static void transpose(const struct att_job *j, const float *m, size_t rows, float *t)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < j->hd; c++)
            t[c * j->length + r] = m[r * j->wide + c];
}

// Row of query i of the sequence.
static size_t query_row(const struct dev_attention *a, size_t seq, size_t i)
{
    return a->last_only ? seq : (size_t)a->kv.start[seq] + i;
}

static void load_head(const struct att_job *j, struct head *h, size_t seq, size_t col)
{
    const struct dev_attention *a = j->a;
    size_t row0 = (size_t)a->kv.start[seq];
    for (size_t r = 0; r < h->nk; r++) {
        get_row(j->d, a->k, (row0 + r) * a->kv_ld + col, j->hd, h->k + r * j->wide);
        get_row(j->d, a->v, (row0 + r) * a->kv_ld + col, j->hd, h->dv + r * j->wide);
    }
    transpose(j, h->k, h->nk, h->kt);
    transpose(j, h->dv, h->nk, h->vt);
    for (size_t i = 0; i < h->nq; i++) {
        size_t row = query_row(a, seq, i);
        get_row(j->d, a->q, row * a->q_ld + col, j->hd, h->q + i * j->wide);
        get_row(j->d, j->dout, row * a->out_ld + col, j->hd, h->dout + i * j->wide);
        get_row(j->d, a->out, row * a->out_ld + col, j->hd, h->out + i * j->wide);
    }
}

#define LEVELS_OF "device/cpu/grad/attention-levels.h"
#include "device/cpu/levels.h"

// Scores of the queries from r0 on, their gradients, and dQ.
static void query_run(const struct att_job *j, struct head *h, size_t seq, size_t head, size_t r0)
{
    const struct dev_attention *a = j->a;
    size_t w = j->wide, l = j->length, n = size_min(RUN, h->nq - r0);
    size_t last = a->last_only ? (size_t)a->q_row[seq] : r0 + n - 1;
    size_t seen = a->causal ? last + 1 : h->nk, whole = blocks_of(seen, LANES) * LANES;
    small_gemm(n, whole, j->hd, h->q + r0 * w, w, h->kt, l, h->p + r0 * l, l);
    small_gemm(n, whole, j->hd, h->dout + r0 * w, w, h->vt, l, h->ds + r0 * l, l);
    for (size_t i = r0; i < r0 + n; i++) {
        size_t pos = a->last_only ? last : i;
        AT_LEVEL(query)
        (j, h, i, a->causal ? pos + 1 : h->nk, a->lse[query_row(a, seq, i) * a->heads + head]);
    }
    small_gemm(n, w, seen, h->ds + r0 * l, l, h->k, w, h->dq + r0 * w, w);
}

// dK and dV of the keys from c0 on.
static void key_run(const struct att_job *j, struct head *h, size_t c0)
{
    size_t w = j->wide, l = j->length, n = size_min(RUN, h->nk - c0);
    size_t first = j->a->causal && !j->a->last_only ? c0 : 0, at = first * l + c0;
    small_gemm_at(n, w, h->nq - first, h->ds + at, 1, l, h->q + first * w, w, h->dk + c0 * w, w);
    small_gemm_at(n, w, h->nq - first, h->p + at, 1, l, h->dout + first * w, w, h->dv + c0 * w, w);
}

static void sequence_head(const struct att_job *j, struct head *h, size_t seq, size_t head)
{
    const struct dev_attention *a = j->a;
    size_t col = head * j->hd, w = j->wide, row0 = (size_t)a->kv.start[seq];
    load_head(j, h, seq, col);
    for (size_t r = 0; r < h->nq; r += RUN)
        query_run(j, h, seq, head, r);
    for (size_t c = 0; c < h->nk; c += RUN)
        key_run(j, h, c);
    for (size_t i = 0; i < h->nq; i++)
        put_row(j->d, j->dq, query_row(a, seq, i) * a->q_ld + col, j->hd, h->dq + i * w);
    for (size_t r = 0; r < h->nk; r++) {
        put_row(j->d, j->dk, (row0 + r) * a->kv_ld + col, j->hd, h->dk + r * w);
        put_row(j->d, j->dv, (row0 + r) * a->kv_ld + col, j->hd, h->dv + r * w);
    }
}

static void sequence(void *ctx, size_t seq)
{
    struct att_job j = *(const struct att_job *)ctx;
    struct err e;
    struct head h;
    h.nk = (size_t)(j.a->kv.start[seq + 1] - j.a->kv.start[seq]);
    h.nq = j.a->last_only ? 1 : h.nk;
    j.length = blocks_of(h.nk, LANES) * LANES;
    float *room = mem_alloc(head_floats(j.wide, j.length), sizeof *room, &e);
    if (!room) {
        cpu_fail(j.d, &e);
        return;
    }
    head_place(&h, room, j.wide, j.length);
    for (size_t i = 0; i < j.a->heads && h.nk; i++)
        sequence_head(&j, &h, seq, i);
    free(room);
}

void dev_cpu_attention_bwd(struct dev *d, const struct dev_attention *a, const void *dout, void *dq,
                           void *dk, void *dv)
{
    struct att_job j = {d, a, dout, dq, dk, dv, a->head_dim, 0, 0, 1 / sqrtf((float)a->head_dim)};
    j.wide = blocks_of(a->head_dim, LANES) * LANES;
    dev_par(d, a->kv.n, sequence, &j);
}
