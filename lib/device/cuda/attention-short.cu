// SPDX-License-Identifier: Apache-2.0
// Attention, backward, for sequences of up to 64 rows in bfloat16: a block holds all of a head, so
// the scores are made once (attention-bwd.cu has the formulas). A warp owns 16 queries for p, ds
// and dq, then 16 keys for dk and dv; p and ds pass between warps through shared memory.
#include "device/cuda/attention.h"

static constexpr int SHORT_LD = ATT_SHORT + 8; // of a row of p or ds

template <int DP> constexpr size_t short_shared()
{
    return (4 * ATT_SHORT * att_ld<bf16, DP>() + 2 * ATT_SHORT * SHORT_LD) * sizeof(bf16) +
           ATT_SHORT * sizeof(float);
}

// out . dout of the block's queries, two threads a row.
__device__ __forceinline__ void short_delta(const att_args &g, const att_place &p, float *delta)
{
    int r = threadIdx.x / 2, half = threadIdx.x % 2, dim = (int)g.head_dim;
    float s = 0;
    if (r < p.nq) {
        size_t at = att_row(g, p, r) * g.out_ld + p.head * g.head_dim;
        const bf16 *x = (const bf16 *)g.out + at, *y = (const bf16 *)g.dout + at;
        if (g.wide) {
            for (int c = 8 * half; c < dim; c += 16) {
                float a[8], b[8];
                load_8(x + c, a);
                load_8(y + c, b);
#pragma unroll
                for (int i = 0; i < 8; i++)
                    s += a[i] * b[i];
            }
        } else {
            for (int c = half; c < dim; c += 2)
                s += to_f32(x[c]) * to_f32(y[c]);
        }
    }
    s += __shfl_xor_sync(0xffffffffu, s, 1);
    if (!half)
        delta[r] = s;
}

// The warp's 16 queries: p and ds of all keys, into shared memory, and dq. FULL: there are more
// than 48 keys.
template <bool FULL, int DP>
__device__ __forceinline__ void short_queries(const att_args &g, const att_place &p, int mine,
                                              const bf16 *q, const bf16 *dout, const bf16 *k,
                                              const bf16 *v, const float *delta, bf16 *sp, bf16 *sd)
{
    constexpr int L = att_ld<bf16, DP>(), KEY_PIECES = ATT_SHORT / 8;
    int lane = threadIdx.x % CUDA_WARP, rows = up16(p.nk);
    float s[1][KEY_PIECES][4], ds[1][KEY_PIECES][4], dq[1][DP / 8][4], by = g.scale * LOG2_E;
    tile_clear(s);
    tile_clear(ds);
    tile_clear(dq);
    tile_product<1, KEY_PIECES, false, FULL>(s, q + mine * L, L, k, L, DP, rows);
    tile_product<1, KEY_PIECES, false, FULL>(ds, dout + mine * L, L, v, L, DP, rows);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int r = mine + lane / 4 + 8 * h, limit = 0;
        float lse = 0;
        if (r < p.nq) {
            limit = g.causal ? min(p.nk, att_position(g, p, r) + 1) : p.nk;
            lse = g.lse[att_row(g, p, r) * g.heads + p.head] * LOG2_E;
        }
#pragma unroll
        for (int n = 0; n < KEY_PIECES; n++)
#pragma unroll
            for (int i = 2 * h; i < 2 * h + 2; i++) {
                bool seen = n * 8 + lane % 4 * 2 + i % 2 < limit;
                float e = seen ? exp2_fast(fmaf(s[0][n][i], by, -lse)) : 0.0f;
                ds[0][n][i] = e * (ds[0][n][i] - delta[r]) * g.scale;
                if (cuda_planted<PLANT_attention_bwd>)
                    ds[0][n][i] *= 1.25f;
                s[0][n][i] = e;
            }
    }
    tile_put<bf16, KEY_PIECES>(sp + mine * SHORT_LD, SHORT_LD, s[0]);
    tile_put<bf16, KEY_PIECES>(sd + mine * SHORT_LD, SHORT_LD, ds[0]);
    sums_product<FULL>(dq, ds, (bf16 *)nullptr, 0, k, L, rows);
    const float one[2] = {1, 1};
    size_t at = att_row(g, p, mine) * g.q_ld + p.head * g.head_dim;
    tile_store<bf16, DP / 8>((bf16 *)g.dq + at, g.q_ld, p.nq - mine, g, dq[0], one);
}

// The warp's 16 keys: sums over the queries of p dout, or of ds q.
template <int DP>
__device__ __forceinline__ void short_keys(const att_args &g, const att_place &p, int mine,
                                           const bf16 *s, const bf16 *rows, bf16 *to)
{
    constexpr int L = att_ld<bf16, DP>(), ND = DP / 8;
    float c[1][ND][4];
    tile_clear(c);
    for (int q0 = 0; q0 < p.nq; q0 += 16) {
        unsigned fa[4], fb[4];
        load_a_turned(fa, s + q0 * SHORT_LD + mine, SHORT_LD);
#pragma unroll
        for (int n = 0; n < ND; n += 2) {
            load_b2<true>(fb, rows + q0 * L + n * 8, L);
            mma(c[0][n], fa, fb);
            mma(c[0][n + 1], fa, fb + 2);
        }
    }
    const float one[2] = {1, 1};
    size_t at = (p.row0 + (size_t)mine) * g.kv_ld + p.head * g.head_dim;
    tile_store<bf16, ND>(to + at, g.kv_ld, p.nk - mine, g, c[0], one);
}

template <int DP> __global__ void __launch_bounds__(ATT_BLOCK) attention_short_kernel(att_args g)
{
    constexpr int L = att_ld<bf16, DP>(), TILE = ATT_SHORT * L;
    bf16 *q = shared_memory<bf16>(), *dout = q + TILE, *k = dout + TILE, *v = k + TILE;
    bf16 *sp = v + TILE, *sd = sp + ATT_SHORT * SHORT_LD;
    float *delta = (float *)(sd + ATT_SHORT * SHORT_LD);
    att_place p = att_where(g, ATT_SHORT);
    if (!p.nk || !att_short<bf16>(p))
        return;
    int mine = 16 * (threadIdx.x / CUDA_WARP);
    size_t col = p.head * g.head_dim, row = att_row(g, p, 0);
    int rows = up16(p.nk), queries = up16(p.nq);
    att_load<bf16, DP>(q, (const bf16 *)g.q + row * g.q_ld + col, g.q_ld, queries, p.nq, g);
    att_load<bf16, DP>(dout, (const bf16 *)g.dout + row * g.out_ld + col, g.out_ld, queries, p.nq,
                       g);
    att_load<bf16, DP>(k, (const bf16 *)g.k + p.row0 * g.kv_ld + col, g.kv_ld, rows, p.nk, g);
    att_load<bf16, DP>(v, (const bf16 *)g.v + p.row0 * g.kv_ld + col, g.kv_ld, rows, p.nk, g);
    short_delta(g, p, delta);
    copies_wait();
    __syncthreads();
    if (mine < p.nq && rows == ATT_SHORT)
        short_queries<true, DP>(g, p, mine, q, dout, k, v, delta, sp, sd);
    else if (mine < p.nq)
        short_queries<false, DP>(g, p, mine, q, dout, k, v, delta, sp, sd);
    __syncthreads();
    if (mine >= p.nk)
        return;
    short_keys<DP>(g, p, mine, sp, dout, (bf16 *)g.dv);
    short_keys<DP>(g, p, mine, sd, q, (bf16 *)g.dk);
}

struct short_run {
    template <class T, int DP> static void run(struct dev *d, const att_args &g)
    {
        cuda_launch(d, "attention backward", attention_short_kernel<DP>, att_grid(g), ATT_BLOCK,
                    short_shared<DP>(), g);
    }
};

void cuda_attention_bwd_short(struct dev *d, att_args g)
{
    g.tiles = 1;
    att_dispatch_bf16<short_run>(d, g);
}
