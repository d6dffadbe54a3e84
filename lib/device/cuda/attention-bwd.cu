// SPDX-License-Identifier: Apache-2.0
// Attention, backward. The probabilities are made again from the log-sum-exp that forward kept
// (Dao et al., FlashAttention, NeurIPS 2022):
//     p = exp(scale q.k - lse)       dv += p dout        D = dout . out
//     ds = p (dout.v - D) scale      dq += ds k          dk += ds q
// One kernel goes over the keys for 64 queries and makes dq, another over the queries for 64 keys
// and makes dk and dv: the scores are made twice, nothing is added by two blocks. In bfloat16 a
// sequence of 64 rows or fewer has a block of its own instead (attention-short.cu).
#include "device/cuda/attention.h"

// Keys, or queries, of a step: fewer where float32 heads are wide, as forward does (attention.cu).
template <class T, int DP> __host__ __device__ constexpr int att_step()
{
    return sizeof(T) == 4 && DP > 64 ? 16 : 32;
}

template <class T, int DP> constexpr size_t att_bwd_shared()
{
    constexpr int STEP = att_step<T, DP>();
    size_t own = sizeof(T) == 4 ? ATT_ROWS * att_ld<T, STEP>() : 0; // for sums_product
    return ((2 * ATT_ROWS + 2 * STEP) * att_ld<T, DP>() + own) * sizeof(T) +
           2 * STEP * sizeof(float);
}

// delta[row, head] = dout . out, a warp each.
template <class T>
__global__ void __launch_bounds__(ATT_BLOCK) delta_kernel(att_args g, float *delta)
{
    size_t i = (size_t)blockIdx.x * ATT_WARPS + threadIdx.x / CUDA_WARP;
    size_t row = quotient(i, g.heads), head = i - row * g.heads;
    size_t rows = g.last ? g.n : (size_t)g.start[g.n];
    if (row >= rows)
        return;
    const T *x = (const T *)g.out + row * g.out_ld + head * g.head_dim;
    const T *y = (const T *)g.dout + row * g.out_ld + head * g.head_dim;
    float s = 0;
    for (size_t c = threadIdx.x % CUDA_WARP; c < g.head_dim; c += CUDA_WARP)
        s += to_f32(x[c]) * to_f32(y[c]);
    s = warp_sum(s);
    if (threadIdx.x % CUDA_WARP == 0)
        delta[i] = s;
}

// s = a b' and t = c d' for the `rows` first of a step's rows b and d.
template <class T, int DP, int N>
__device__ __forceinline__ void two_products(float (&s)[1][N][4], float (&t)[1][N][4], const T *a,
                                             const T *b, const T *c, const T *d, int rows)
{
    const int L = att_ld<T, DP>();
    tile_clear(s);
    tile_clear(t);
    if (rows == 8 * N) {
        tile_product<1, N, false, true>(s, a, L, b, L, DP, rows);
        tile_product<1, N, false, true>(t, c, L, d, L, DP, rows);
    } else {
        tile_product<1, N, false>(s, a, L, b, L, DP, rows);
        tile_product<1, N, false>(t, c, L, d, L, DP, rows);
    }
}

template <class T, int N, int ND>
__device__ __forceinline__ void add_sums(float (&c)[1][ND][4], const float (&p)[1][N][4], T *room,
                                         int ld, const T *b, int ldb, int rows)
{
    if (rows == 8 * N)
        sums_product<true>(c, p, room, ld, b, ldb, rows);
    else
        sums_product<false>(c, p, room, ld, b, ldb, rows);
}

template <class T, int DP>
__global__ void __launch_bounds__(ATT_BLOCK) attention_dq_kernel(att_args g)
{
    constexpr int STEP = att_step<T, DP>(), STEP_PIECES = STEP / 8;
    const int L = att_ld<T, DP>(), PL = att_ld<T, STEP>(), ND = DP / 8;
    T *sq = shared_memory<T>(), *sg = sq + ATT_ROWS * L, *sk = sg + ATT_ROWS * L;
    T *sv = sk + STEP * L, *ss = sv + STEP * L;
    att_place p = att_where(g, ATT_ROWS);
    int queries = p.nq - p.first < ATT_ROWS ? p.nq - p.first : ATT_ROWS;
    if (queries <= 0 || att_short<T>(p))
        return;
    int warp = threadIdx.x / CUDA_WARP, lane = threadIdx.x % CUDA_WARP, mine = 16 * warp;
    size_t col = p.head * g.head_dim, q_first = att_row(g, p, p.first);
    const T *k = (const T *)g.k + p.row0 * g.kv_ld + col;
    const T *v = (const T *)g.v + p.row0 * g.kv_ld + col;
    att_load<T, DP>(sq, (const T *)g.q + q_first * g.q_ld + col, g.q_ld, ATT_ROWS, queries, g);
    att_load<T, DP>(sg, (const T *)g.dout + q_first * g.out_ld + col, g.out_ld, ATT_ROWS, queries,
                    g);
    int end = p.nk, limit[2];
    if (g.causal)
        end = min(end, att_position(g, p, p.first + queries - 1) + 1);
    float lse[2] = {0, 0}, delta[2] = {0, 0}, by = g.scale * LOG2_E;
    for (int h = 0; h < 2; h++) {
        int r = mine + lane / 4 + 8 * h;
        limit[h] = 0;
        if (r >= queries)
            continue;
        limit[h] = g.causal ? min(end, att_position(g, p, p.first + r) + 1) : end;
        lse[h] = g.lse[(q_first + r) * g.heads + p.head] * LOG2_E;
        delta[h] = g.delta[(q_first + r) * g.heads + p.head];
    }
    float dq[1][ND][4];
    tile_clear(dq);
    ss += mine * PL;
    for (int key0 = 0; key0 < end; key0 += STEP) {
        int keys = min((int)STEP, end - key0), rows = up16(keys);
        __syncthreads();
        att_load<T, DP>(sk, k + (size_t)key0 * g.kv_ld, g.kv_ld, rows, keys, g);
        att_load<T, DP>(sv, v + (size_t)key0 * g.kv_ld, g.kv_ld, rows, keys, g);
        copies_wait();
        __syncthreads();
        if (mine >= queries)
            continue;
        float s[1][STEP_PIECES][4], dp[1][STEP_PIECES][4];
        two_products<T, DP>(s, dp, sq + mine * L, sk, sg + mine * L, sv, rows);
#pragma unroll
        for (int n = 0; n < STEP_PIECES; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                bool seen = key0 + n * 8 + lane % 4 * 2 + i % 2 < limit[i / 2];
                float e = seen ? exp2_fast(fmaf(s[0][n][i], by, -lse[i / 2])) : 0.0f;
                s[0][n][i] = e * (dp[0][n][i] - delta[i / 2]) * g.scale;
                if (cuda_planted<PLANT_attention_bwd>)
                    s[0][n][i] *= 1.25f;
            }
        add_sums(dq, s, ss, PL, sk, L, rows);
    }
    if (mine >= queries)
        return;
    const float one[2] = {1, 1};
    tile_store<T, ND>((T *)g.dq + (q_first + mine) * g.q_ld + col, g.q_ld, queries - mine, g, dq[0],
                      one);
}

template <class T, int DP>
__global__ void __launch_bounds__(ATT_BLOCK) attention_dkv_kernel(att_args g)
{
    constexpr int STEP = att_step<T, DP>(), STEP_PIECES = STEP / 8;
    const int L = att_ld<T, DP>(), PL = att_ld<T, STEP>(), ND = DP / 8;
    float *lse = shared_memory<float>(), *delta = lse + STEP; // of the queries of a step
    T *sk = (T *)(delta + STEP), *sv = sk + ATT_ROWS * L, *sq = sv + ATT_ROWS * L;
    T *sg = sq + STEP * L, *sp = sg + STEP * L;
    att_place p = att_where(g, ATT_ROWS);
    int keys = p.nk - p.first < ATT_ROWS ? p.nk - p.first : ATT_ROWS;
    if (keys <= 0 || att_short<T>(p))
        return;
    int warp = threadIdx.x / CUDA_WARP, lane = threadIdx.x % CUDA_WARP, mine = 16 * warp;
    size_t col = p.head * g.head_dim, key_first = p.row0 + (size_t)p.first;
    att_load<T, DP>(sk, (const T *)g.k + key_first * g.kv_ld + col, g.kv_ld, ATT_ROWS, keys, g);
    att_load<T, DP>(sv, (const T *)g.v + key_first * g.kv_ld + col, g.kv_ld, ATT_ROWS, keys, g);
    float dk[1][ND][4], dv[1][ND][4], by = g.scale * LOG2_E;
    tile_clear(dk);
    tile_clear(dv);
    sp += mine * PL;
    // Under the mask, queries before the tile's first key see none of it.
    for (int q0 = g.causal && !g.last ? p.first : 0; q0 < p.nq; q0 += STEP) {
        int queries = min((int)STEP, p.nq - q0), rows = up16(queries);
        size_t q_row = att_row(g, p, q0);
        __syncthreads();
        att_load<T, DP>(sq, (const T *)g.q + q_row * g.q_ld + col, g.q_ld, rows, queries, g);
        att_load<T, DP>(sg, (const T *)g.dout + q_row * g.out_ld + col, g.out_ld, rows, queries, g);
        if ((int)threadIdx.x < queries) {
            lse[threadIdx.x] = g.lse[(q_row + threadIdx.x) * g.heads + p.head] * LOG2_E;
            delta[threadIdx.x] = g.delta[(q_row + threadIdx.x) * g.heads + p.head];
        }
        copies_wait();
        __syncthreads();
        if (mine >= keys)
            continue;
        float s[1][STEP_PIECES][4], ds[1][STEP_PIECES][4];
        two_products<T, DP>(s, ds, sk + mine * L, sq, sv + mine * L, sg, rows);
#pragma unroll
        for (int n = 0; n < STEP_PIECES; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int q = n * 8 + lane % 4 * 2 + i % 2;
                int key = p.first + mine + lane / 4 + i / 2 * 8;
                bool seen = q < queries && key < p.nk;
                if (seen && g.causal)
                    seen = key <= att_position(g, p, q0 + q);
                float e = seen ? exp2_fast(fmaf(s[0][n][i], by, -lse[q])) : 0.0f;
                ds[0][n][i] = seen ? e * (ds[0][n][i] - delta[q]) * g.scale : 0.0f;
                s[0][n][i] = e;
            }
        add_sums(dv, s, sp, PL, sg, L, rows);
        add_sums(dk, ds, sp, PL, sq, L, rows);
    }
    if (mine >= keys)
        return;
    const float one[2] = {1, 1};
    size_t at = (key_first + mine) * g.kv_ld + col;
    tile_store<T, ND>((T *)g.dk + at, g.kv_ld, keys - mine, g, dk[0], one);
    tile_store<T, ND>((T *)g.dv + at, g.kv_ld, keys - mine, g, dv[0], one);
}

struct delta_run {
    template <class T, int DP> static void run(struct dev *d, const att_args &g)
    {
        size_t most = g.n * (g.last ? 1 : g.tiles * ATT_ROWS) * g.heads;
        cuda_launch(d, "attention backward", delta_kernel<T>, cuda_blocks(most, ATT_WARPS),
                    ATT_BLOCK, 0, g, (float *)(size_t)g.delta);
    }
};

struct dq_run {
    template <class T, int DP> static void run(struct dev *d, const att_args &g)
    {
        cuda_launch(d, "attention backward", attention_dq_kernel<T, DP>, att_grid(g), ATT_BLOCK,
                    att_bwd_shared<T, DP>(), g);
    }
};

struct dkv_run {
    template <class T, int DP> static void run(struct dev *d, const att_args &g)
    {
        cuda_launch(d, "attention backward", attention_dkv_kernel<T, DP>, att_grid(g), ATT_BLOCK,
                    att_bwd_shared<T, DP>(), g);
    }
};

// Sequences over 64 rows, and all in float32.
static void backward_long(struct dev *d, att_args g)
{
    size_t rows;
    g.tiles = cuda_blocks(g.max_len, ATT_ROWS);
    if (!mem_mul(g.n * (g.last ? 1 : g.tiles * ATT_ROWS), g.heads * sizeof(float), &rows)) {
        cuda_fail(d, "attention backward: too large");
        return;
    }
    float *delta = rows ? (float *)cuda_slot(d, SLOT_ATT, rows) : NULL;
    if (!delta)
        return;
    g.delta = delta;
    if (!att_dispatch<delta_run>(d, g))
        return;
    att_dispatch<dkv_run>(d, g);
    g.tiles = g.last ? 1 : g.tiles;
    att_dispatch<dq_run>(d, g);
}

void cuda_attention_bwd(struct dev *d, const struct dev_attention *a, const void *dout, void *dq,
                        void *dk, void *dv)
{
    att_args g = att_of(d, a);
    g.dout = dout;
    g.dq = dq;
    g.dk = dk;
    g.dv = dv;
    g.wide = g.wide && att_wide(dout, a->out_ld, d->act_size) &&
             att_wide(dq, a->q_ld, d->act_size) && att_wide(dk, a->kv_ld, d->act_size) &&
             att_wide(dv, a->kv_ld, d->act_size);
    if (d->act == DEV_BF16)
        cuda_attention_bwd_short(d, g);
    if (d->act == DEV_F32 || g.max_len > ATT_SHORT)
        backward_long(d, g);
}
