// SPDX-License-Identifier: Apache-2.0
// Backward of attention. The probabilities are made again from the log-sum-exp that forward kept
// (Dao et al., FlashAttention, NeurIPS 2022). By head, with Q, K, V, O rows of a sequence:
//     P = exp(scale Q K^T - lse)       dP = dO V^T        dS = scale P (dP - rows of dO.O)
//     dQ = dS K                        dK = dS^T Q        dV = P^T dO
// A sequence is one work item: its rows are nobody else's.
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <stdlib.h>

#include "device/cpu/simd.h"
#include "device/cpu/grad/grad.h"
#include "base/isa.h"
#include "base/mem.h"

enum { TILE_ROWS = 4, TILE_COLS = 2 * VF };

struct att_job {
    struct dev *d;
    const struct dev_attention *a;
    const void *dout;
    void *dq, *dk, *dv;
    size_t hd;           // head_dim
    size_t wide, length; // it and max_len, rounded up to whole tiles
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

// C[m, n] = A B, element (i, x) of A at a[i * a_row + x * a_col], B [k, n]; m and n are made up to
// whole tiles, for which there is room.
struct product {
    size_t m, n, k, a_row, a_col, ldb, ldc;
    const float *a, *b;
    float *c;
};

#if defined(__GNUC__) && !defined(__clang__)
#define UNROLL _Pragma("GCC unroll 4")
#else
#define UNROLL
#endif

#if defined(__x86_64__)
// By intrinsics: compilers make sixteen masked broadcasts of a vector of one value.
__attribute__((target("avx512f"))) static void tile_avx512(const struct product *p, const float *a,
                                                           const float *b, float *c, bool two)
{
    __m512 s[TILE_ROWS][2];
    size_t second = two ? VF : 0;
    UNROLL
    for (int i = 0; i < TILE_ROWS; i++)
        s[i][0] = s[i][1] = _mm512_setzero_ps();
    for (size_t x = 0; x < p->k; x++, a += p->a_col, b += p->ldb) {
        __m512 b0 = _mm512_loadu_ps(b), b1 = _mm512_loadu_ps(b + second);
        UNROLL
        for (int i = 0; i < TILE_ROWS; i++) {
            __m512 r = _mm512_set1_ps(a[(size_t)i * p->a_row]);
            s[i][0] = _mm512_fmadd_ps(r, b0, s[i][0]);
            s[i][1] = _mm512_fmadd_ps(r, b1, s[i][1]);
        }
    }
    UNROLL
    for (size_t i = 0; i < TILE_ROWS; i++) {
        _mm512_storeu_ps(c + i * p->ldc, s[i][0]);
        if (two)
            _mm512_storeu_ps(c + i * p->ldc + VF, s[i][1]);
    }
}
#endif

static void tile_plain(const struct product *p, const float *a, const float *b, float *c, bool two)
{
    size_t n = two ? TILE_COLS : VF;
    for (size_t i = 0; i < TILE_ROWS; i++) {
        float s[TILE_COLS] = {0};
        for (size_t x = 0; x < p->k; x++) {
            float r = a[i * p->a_row + x * p->a_col];
            for (size_t j = 0; j < n; j++)
                s[j] += r * b[x * p->ldb + j];
        }
        memcpy(c + i * p->ldc, s, n * sizeof *s);
    }
}

static void product(size_t m, size_t n, size_t k, const float *a, size_t a_row, size_t a_col,
                    const float *b, size_t ldb, float *c, size_t ldc)
{
    const struct product p = {m, n, k, a_row, a_col, ldb, ldc, a, b, c};
    void (*tile)(const struct product *, const float *, const float *, float *, bool) = tile_plain;
#if defined(__x86_64__)
    if (isa_has(ISA_AVX512))
        tile = tile_avx512;
#endif
    for (size_t i = 0; i < m; i += TILE_ROWS)
        for (size_t j = 0; j < n; j += TILE_COLS)
            tile(&p, a + i * a_row, b + j, c + i * ldc + j, j + VF < n);
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

static void sequence_head(const struct att_job *j, struct head *h, size_t seq, size_t head)
{
    const struct dev_attention *a = j->a;
    size_t col = head * j->hd, w = j->wide, l = j->length, row0 = (size_t)a->kv.start[seq];
    load_head(j, h, seq, col);
    product(h->nq, h->nk, j->hd, h->q, w, 1, h->kt, l, h->p, l);
    product(h->nq, h->nk, j->hd, h->dout, w, 1, h->vt, l, h->ds, l);
    for (size_t i = 0; i < h->nq; i++) {
        size_t pos = a->last_only ? (size_t)a->q_row[seq] : i;
        AT_LEVEL(query)
        (j, h, i, a->causal ? pos + 1 : h->nk, a->lse[query_row(a, seq, i) * a->heads + head]);
    }
    product(h->nq, j->hd, h->nk, h->ds, l, 1, h->k, w, h->dq, w);
    product(h->nk, j->hd, h->nq, h->ds, 1, l, h->q, w, h->dk, w);
    product(h->nk, j->hd, h->nq, h->p, 1, l, h->dout, w, h->dv, w);
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
    j.length = blocks_of(h.nk, TILE_COLS) * TILE_COLS;
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
    j.wide = blocks_of(a->head_dim, TILE_COLS) * TILE_COLS;
    dev_par(d, a->kv.n, sequence, &j);
}
