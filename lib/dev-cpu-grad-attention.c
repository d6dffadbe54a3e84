// SPDX-License-Identifier: Apache-2.0
// Backward of attention. The probabilities are made again from the log-sum-exp that forward kept
// (Dao et al., FlashAttention, NeurIPS 2022), one query row at a time:
//     p_j = exp(scale q.k_j - lse)         dv_j += p_j dout        D = dout.out
//     ds_j = p_j (dout.v_j - D) scale      dq += ds_j k_j          dk_j += ds_j q
// A sequence is one work item: its rows are nobody else's.
#include <stdlib.h>

#include "dev-cpu-grad-simd.h"
#include "dev-cpu-grad.h"
#include "mem.h"

struct att_job {
    struct dev *d;
    const struct dev_attention *a;
    const void *dout;
    void *dq, *dk, *dv;
    size_t hd, wide, long_; // head_dim, and it and max_len rounded up to whole vectors
    float scale;
};

// One head of one sequence, as float32. Rows have `wide` columns, the transposed matrices `wide`
// rows of `long_`; what is past the ends is zero.
struct head {
    size_t nq, nk;
    float *k, *kt, *vt, *dk, *dv; // [nk, wide], [wide, long_]
    float *q, *dout, *out, *dq;   // one row
    float *p, *ds;                // [long_]
};

static size_t head_floats(size_t wide, size_t long_)
{
    return 5 * wide * long_ + 4 * wide + 2 * long_;
}

static void head_place(struct head *h, float *at, size_t wide, size_t long_)
{
    float **big[] = {&h->k, &h->kt, &h->vt, &h->dk, &h->dv};
    float **row[] = {&h->q, &h->dout, &h->out, &h->dq}, **line[] = {&h->p, &h->ds};
    for (size_t i = 0; i < 5; i++, at += wide * long_)
        *big[i] = at;
    for (size_t i = 0; i < 4; i++, at += wide)
        *row[i] = at;
    for (size_t i = 0; i < 2; i++, at += long_)
        *line[i] = at;
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

static void transpose(const float *m, size_t rows, size_t cols, size_t ld, float *t, size_t t_ld)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            t[c * t_ld + r] = m[r * ld + c];
}

static void load_head(const struct att_job *j, struct head *h, size_t row0, size_t col)
{
    const struct dev_attention *a = j->a;
    for (size_t r = 0; r < h->nk; r++) {
        get_row(j->d, a->k, (row0 + r) * a->kv_ld + col, j->hd, h->k + r * j->wide);
        get_row(j->d, a->v, (row0 + r) * a->kv_ld + col, j->hd, h->dv + r * j->wide);
    }
    transpose(h->k, h->nk, j->hd, j->wide, h->kt, j->long_);
    transpose(h->dv, h->nk, j->hd, j->wide, h->vt, j->long_);
    memset(h->dk, 0, h->nk * j->wide * sizeof *h->dk);
    memset(h->dv, 0, h->nk * j->wide * sizeof *h->dv);
}

// out[0..n) = sum over c of x[c] * t[c][0..n), n rounded up to whole vectors
SIMD_INLINE void row_times(const float *x, size_t hd, const float *t, size_t ld, size_t n,
                           float *out)
{
    size_t i = 0;
    for (; i + VF < n; i += 2 * VF) {
        vf s0 = {0}, s1 = {0};
        for (size_t c = 0; c < hd; c++) {
            vf a = vf_all(x[c]);
            s0 += a * vf_load(t + c * ld + i);
            s1 += a * vf_load(t + c * ld + i + VF);
        }
        vf_store(out + i, s0);
        vf_store(out + i + VF, s1);
    }
    for (; i < n; i += VF) {
        vf s = {0};
        for (size_t c = 0; c < hd; c++)
            s += vf_all(x[c]) * vf_load(t + c * ld + i);
        vf_store(out + i, s);
    }
}

// Query row `h->q` against the first n keys.
SIMD static void query(const struct att_job *j, struct head *h, size_t n, float lse)
{
    vf dd = {0};
    for (size_t c = 0; c < j->wide; c += VF)
        dd += vf_load(h->dout + c) * vf_load(h->out + c);
    row_times(h->q, j->hd, h->kt, j->long_, n, h->p);
    row_times(h->dout, j->hd, h->vt, j->long_, n, h->ds);
    vf D = vf_all(vf_sum(dd)), l = vf_all(lse), scale = vf_all(j->scale);
    for (size_t i = 0; i < n; i += VF) {
        vf p = vf_exp(vf_load(h->p + i) * scale - l);
        vf_store(h->p + i, p);
        vf_store(h->ds + i, p * (vf_load(h->ds + i) - D) * scale);
    }
    for (size_t c = 0; c < j->wide; c += VF) {
        vf dq = {0}, q = vf_load(h->q + c), g = vf_load(h->dout + c);
        for (size_t i = 0; i < n; i++) {
            vf s = vf_all(h->ds[i]);
            float *dk = h->dk + i * j->wide + c, *dv = h->dv + i * j->wide + c;
            dq += s * vf_load(h->k + i * j->wide + c);
            vf_store(dk, vf_load(dk) + s * q);
            vf_store(dv, vf_load(dv) + vf_all(h->p[i]) * g);
        }
        vf_store(h->dq + c, dq);
    }
}

static void sequence_head(const struct att_job *j, struct head *h, size_t seq, size_t head)
{
    const struct dev_attention *a = j->a;
    size_t row0 = (size_t)a->kv.start[seq], col = head * j->hd;
    load_head(j, h, row0, col);
    for (size_t i = 0; i < h->nq; i++) {
        size_t row = a->last_only ? seq : row0 + i;
        size_t pos = a->last_only ? (size_t)a->q_row[seq] : i;
        get_row(j->d, a->q, row * a->q_ld + col, j->hd, h->q);
        get_row(j->d, j->dout, row * a->out_ld + col, j->hd, h->dout);
        get_row(j->d, a->out, row * a->out_ld + col, j->hd, h->out);
        query(j, h, a->causal ? pos + 1 : h->nk, a->lse[row * a->heads + head]);
        put_row(j->d, j->dq, row * a->q_ld + col, j->hd, h->dq);
    }
    for (size_t r = 0; r < h->nk; r++) {
        put_row(j->d, j->dk, (row0 + r) * a->kv_ld + col, j->hd, h->dk + r * j->wide);
        put_row(j->d, j->dv, (row0 + r) * a->kv_ld + col, j->hd, h->dv + r * j->wide);
    }
}

static void sequence(void *ctx, size_t seq)
{
    const struct att_job *j = ctx;
    struct err e;
    float *room = mem_alloc(head_floats(j->wide, j->long_), sizeof *room, &e);
    if (!room) {
        cpu_fail(j->d, &e);
        return;
    }
    struct head h;
    head_place(&h, room, j->wide, j->long_);
    h.nk = (size_t)(j->a->kv.start[seq + 1] - j->a->kv.start[seq]);
    h.nq = j->a->last_only ? 1 : h.nk;
    for (size_t i = 0; i < j->a->heads && h.nk; i++)
        sequence_head(j, &h, seq, i);
    free(room);
}

void dev_cpu_attention_bwd(struct dev *d, const struct dev_attention *a, const void *dout, void *dq,
                           void *dk, void *dv)
{
    struct att_job j = {d, a, dout, dq, dk, dv, a->head_dim, 0, 0, 1 / sqrtf((float)a->head_dim)};
    j.wide = blocks_of(a->head_dim, VF) * VF;
    j.long_ = blocks_of(a->kv.max_len, VF) * VF;
    dev_par(d, a->kv.n, sequence, &j);
}
