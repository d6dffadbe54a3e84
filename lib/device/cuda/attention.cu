// SPDX-License-Identifier: Apache-2.0
// Attention, forward: softmax(q k' / sqrt(head_dim)) v without storing probabilities (Dao et al.,
// FlashAttention, NeurIPS 2022). A block takes 64 or 128 queries of one head of one sequence and
// goes over the keys 64 at a time, holding the largest score and the sum of exponentials of each
// row. In bfloat16 the next keys are on their way while these are worked on, and exponentials stay
// in registers. A row's bits are the same whichever block it stands in.
#include "device/cuda/attention.h"

// Keys of a tile: fewer where float32 heads are wide, so that a block stays within the 99 KiB of
// shared memory that compute capability 8.6, 8.9 and 12.x have. The same on every card, for the
// same bits.
template <class T, int DP> __host__ __device__ constexpr int att_keys()
{
    return sizeof(T) == 4 && DP > 64 ? 32 : 64;
}
// Tiles of keys and values in shared memory at a time.
template <class T> __host__ __device__ constexpr int att_stages()
{
    return sizeof(T) == 4 ? 1 : 2;
}

template <class T, int DP, int M> constexpr size_t att_shared()
{
    constexpr int keys = att_keys<T, DP>();
    size_t tiles = (ATT_ROWS * M + 2 * att_stages<T>() * keys) * att_ld<T, DP>();
    return (tiles + (sizeof(T) == 4 ? ATT_ROWS * att_ld<T, keys>() : 0)) * sizeof(T);
}

// Scores of one tile to exponentials in place; top and sum carried on, the factor for what was
// gathered before returned. limit: keys of the tile that the lane's two rows see. scale times
// log2(e) is `by`.
template <int KEY_PIECES>
__device__ __forceinline__ void soften(float (&s)[KEY_PIECES][4], const int (&limit)[2], float by,
                                       float (&top)[2], float (&sum)[2], float (&keep)[2])
{
    int t = threadIdx.x % 4 * 2;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float most = top[h], part = 0;
        if (limit[h] < 8 * KEY_PIECES) {
#pragma unroll
            for (int n = 0; n < KEY_PIECES; n++)
#pragma unroll
                for (int i = 0; i < 2; i++)
                    if (n * 8 + t + i >= limit[h])
                        s[n][2 * h + i] = -INFINITY;
        }
#pragma unroll
        for (int n = 0; n < KEY_PIECES; n++)
            most = fmaxf(most, fmaxf(s[n][2 * h], s[n][2 * h + 1]));
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
        float origin = most * by;
#pragma unroll
        for (int n = 0; n < KEY_PIECES; n++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                s[n][2 * h + i] = exp2_fast(fmaf(s[n][2 * h + i], by, -origin));
                part += s[n][2 * h + i];
            }
        part += __shfl_xor_sync(0xffffffffu, part, 1);
        part += __shfl_xor_sync(0xffffffffu, part, 2);
        keep[h] = exp2_fast(fmaf(top[h], by, -origin));
        sum[h] = sum[h] * keep[h] + part;
        top[h] = most;
    }
}

// Where a block's tiles lie in shared memory.
template <class T, int DP, int M> struct att_tiles {
    static constexpr int KEYS = att_keys<T, DP>(), L = att_ld<T, DP>(), PL = att_ld<T, KEYS>();
    T *q, *kv, *p;
    __device__ att_tiles()
    {
        q = shared_memory<T>();
        kv = q + ATT_ROWS * M * L;
        p = kv + 2 * att_stages<T>() * KEYS * L;
    }
    __device__ T *k(int stage) const
    {
        return kv + 2 * stage * KEYS * L;
    }
    __device__ T *v(int stage) const
    {
        return k(stage) + KEYS * L;
    }
};

// The warp's M x 16 rows: what they have gathered so far.
template <int DP, int M> struct att_sums {
    float o[M][DP / 8][4], top[M][2], sum[M][2];
    __device__ att_sums()
    {
        tile_clear(o);
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                top[m][h] = -INFINITY;
                sum[m][h] = 0;
            }
    }
};

// `keys` keys of a tile for the warp's rows from `mine` on; seen[m][h]: how many of them each sees.
// FULL: the tile's rows are all there.
template <bool FULL, class T, int DP, int M>
__device__ __forceinline__ void att_step(const att_tiles<T, DP, M> &at, int stage, int mine,
                                         int keys, const int (&seen)[M][2], float by,
                                         att_sums<DP, M> &a)
{
    constexpr int KEY_PIECES = att_keys<T, DP>() / 8, ND = DP / 8, L = at.L;
    float s[M][KEY_PIECES][4], keep[2];
    tile_clear(s);
    tile_product<M, KEY_PIECES, false, FULL>(s, at.q + mine * L, L, at.k(stage), L, DP, up16(keys));
#pragma unroll
    for (int m = 0; m < M; m++) {
        soften(s[m], seen[m], by, a.top[m], a.sum[m], keep);
#pragma unroll
        for (int n = 0; n < ND; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                a.o[m][n][i] *= keep[i / 2];
    }
    sums_product<FULL>(a.o, s, at.p + mine * at.PL, at.PL, at.v(stage), L, up16(keys));
}

template <class T, int DP, int M>
__device__ __forceinline__ void att_give(const att_args &g, const att_place &p, size_t q_first,
                                         int mine, int queries, const att_sums<DP, M> &a)
{
    size_t col = p.head * g.head_dim;
    int row = threadIdx.x % CUDA_WARP / 4;
#pragma unroll
    for (int m = 0; m < M; m++) {
        int first = mine + 16 * m;
        const float by[2] = {1 / a.sum[m][0], 1 / a.sum[m][1]};
        tile_store<T, DP / 8>((T *)g.o + (q_first + first) * g.out_ld + col, g.out_ld,
                              queries - first, g, a.o[m], by);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int r = first + row + 8 * h;
            if (g.lse && threadIdx.x % 4 == 0 && r < queries)
                g.lse[(q_first + r) * g.heads + p.head] = a.top[m][h] * g.scale + logf(a.sum[m][h]);
        }
    }
}

template <class T, int DP, int M>
__global__ void __launch_bounds__(ATT_BLOCK) attention_kernel(att_args g)
{
    constexpr int KEYS = att_keys<T, DP>(), STAGES = att_stages<T>(), ROWS = ATT_ROWS * M;
    att_tiles<T, DP, M> at;
    att_place p = att_where(g, ROWS);
    int queries = min(p.nq - p.first, ROWS);
    if (queries <= 0)
        return;
    int mine = 16 * M * (threadIdx.x / CUDA_WARP), row = threadIdx.x % CUDA_WARP / 4, end = p.nk;
    size_t col = p.head * g.head_dim, q_first = att_row(g, p, p.first);
    const T *k = (const T *)g.k + p.row0 * g.kv_ld + col;
    const T *v = (const T *)g.v + p.row0 * g.kv_ld + col;
    if (g.causal)
        end = min(end, att_position(g, p, p.first + queries - 1) + 1);
    auto load = [&](int key0, int stage) {
        int keys = min((int)KEYS, end - key0);
        att_load<T, DP>(at.k(stage), k + (size_t)key0 * g.kv_ld, g.kv_ld, up16(keys), keys, g);
        att_load<T, DP>(at.v(stage), v + (size_t)key0 * g.kv_ld, g.kv_ld, up16(keys), keys, g);
    };
    att_load<T, DP>(at.q, (const T *)g.q + q_first * g.q_ld + col, g.q_ld, ROWS, queries, g);
    if (STAGES > 1)
        load(0, 0);
    int limit[M][2];
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int last = att_position(g, p, p.first + mine + 16 * m + row + 8 * h);
            limit[m][h] = g.causal ? min(end, last + 1) : end;
            if (cuda_planted<PLANT_attention> && limit[m][h] > 1)
                limit[m][h]--; // the last key is not seen
        }
    att_sums<DP, M> sums;
    for (int key0 = 0, stage = 0; key0 < end; key0 += KEYS) {
        if (STAGES == 1) {
            __syncthreads();
            load(key0, 0);
        }
        copies_wait();
        __syncthreads();
        if (STAGES > 1 && key0 + KEYS < end)
            load(key0 + KEYS, 1 - stage);
        int seen[M][2];
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int h = 0; h < 2; h++)
                seen[m][h] = limit[m][h] - key0;
        int keys = min((int)KEYS, end - key0);
        if (mine < queries && up16(keys) == KEYS)
            att_step<true, T, DP, M>(at, stage, mine, keys, seen, g.scale * LOG2_E, sums);
        else if (mine < queries)
            att_step<false, T, DP, M>(at, stage, mine, keys, seen, g.scale * LOG2_E, sums);
        stage = STAGES > 1 ? 1 - stage : 0;
    }
    if (mine < queries)
        att_give<T, DP, M>(g, p, q_first, mine, queries, sums);
}

// Two times 16 rows a warp read keys and values half as often; heads over 64 have no registers for
// that, and sequences under 64 no rows.
struct attention_run {
    template <class T, int DP, int M> static void launch(struct dev *d, att_args g)
    {
        g.tiles = g.last ? 1 : cuda_blocks(g.max_len, ATT_ROWS * M);
        cuda_launch(d, "attention", attention_kernel<T, DP, M>, att_grid(g), ATT_BLOCK,
                    att_shared<T, DP, M>(), g);
    }
    template <class T, int DP> static void run(struct dev *d, const att_args &g)
    {
        if constexpr (sizeof(T) == 2 && DP <= 64) {
            if (!g.last && g.max_len > ATT_ROWS) {
                launch<T, DP, 2>(d, g);
                return;
            }
        }
        launch<T, DP, 1>(d, g);
    }
};

void cuda_attention(struct dev *d, const struct dev_attention *a)
{
    att_dispatch<attention_run>(d, att_of(d, a));
}
