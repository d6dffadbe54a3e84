// SPDX-License-Identifier: Apache-2.0
// Attention, forward: softmax(q k' / sqrt(head_dim)) v without storing probabilities (Dao et al.,
// FlashAttention, NeurIPS 2022). A block takes 64 queries of one head of one sequence and goes over
// the keys 64 at a time, holding the largest score and the sum of exponentials of each row.
#include "device/cuda/attention.h"

// Keys of a tile: fewer where float32 heads are wide, so that a block stays within the 99 KiB of
// shared memory that compute capability 8.6, 8.9 and 12.x have. The same on every card, for the
// same bits.
template <class T, int DP> __host__ __device__ constexpr int att_keys()
{
    return sizeof(T) == 4 && DP > 64 ? 32 : 64;
}

template <class T, int DP> constexpr size_t att_shared()
{
    constexpr int keys = att_keys<T, DP>();
    return ((ATT_ROWS + 2 * keys) * att_ld<T, DP>() + ATT_ROWS * att_ld<T, keys>()) * sizeof(T);
}

// Scores of one tile to exponentials in place; top and sum carried on, the factor for what was
// gathered before returned. limit: keys that the lane's two rows see.
template <int KEY_PIECES>
__device__ __forceinline__ void soften(float (&s)[KEY_PIECES][4], int key0, const int (&limit)[2],
                                       float scale, float (&top)[2], float (&sum)[2],
                                       float (&keep)[2])
{
    int t = threadIdx.x % 4 * 2;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float most = top[h], part = 0;
#pragma unroll
        for (int n = 0; n < KEY_PIECES; n++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float v = s[n][2 * h + i] * scale;
                s[n][2 * h + i] = key0 + n * 8 + t + i < limit[h] ? v : -INFINITY;
                most = fmaxf(most, s[n][2 * h + i]);
            }
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
#pragma unroll
        for (int n = 0; n < KEY_PIECES; n++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                s[n][2 * h + i] = expf(s[n][2 * h + i] - most);
                part += s[n][2 * h + i];
            }
        part += __shfl_xor_sync(0xffffffffu, part, 1);
        part += __shfl_xor_sync(0xffffffffu, part, 2);
        keep[h] = expf(top[h] - most);
        sum[h] = sum[h] * keep[h] + part;
        top[h] = most;
    }
}

template <class T, int DP> __global__ void __launch_bounds__(ATT_BLOCK) attention_kernel(att_args g)
{
    constexpr int KEYS = att_keys<T, DP>(), KEY_PIECES = KEYS / 8;
    const int L = att_ld<T, DP>(), PL = att_ld<T, KEYS>(), ND = DP / 8;
    T *sq = shared_memory<T>(), *sk = sq + ATT_ROWS * L, *sv = sk + KEYS * L, *sp = sv + KEYS * L;
    att_place p = att_where(g, ATT_ROWS);
    int queries = p.nq - p.first < ATT_ROWS ? p.nq - p.first : ATT_ROWS;
    if (queries <= 0)
        return;
    int warp = threadIdx.x / CUDA_WARP, row = threadIdx.x % CUDA_WARP / 4, mine = 16 * warp;
    size_t col = p.head * g.head_dim;
    const T *k = (const T *)g.k + p.row0 * g.kv_ld + col;
    const T *v = (const T *)g.v + p.row0 * g.kv_ld + col;
    size_t q_first = att_row(g, p, p.first);
    att_load<T, DP>(sq, (const T *)g.q + q_first * g.q_ld + col, g.q_ld, ATT_ROWS, queries, g);
    int end = p.nk, limit[2];
    if (g.causal)
        end = min(end, att_position(g, p, p.first + queries - 1) + 1);
    for (int h = 0; h < 2; h++) {
        int at = att_position(g, p, p.first + mine + row + 8 * h);
        limit[h] = g.causal ? min(end, at + 1) : end;
        if (cuda_planted<PLANT_attention> && limit[h] > 1)
            limit[h]--; // the last key is not seen
    }
    float o[ND][4], top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0}, keep[2];
    tile_clear(o);
    sp += mine * PL;
    for (int key0 = 0; key0 < end; key0 += KEYS) {
        int keys = min((int)KEYS, end - key0), rows = up16(keys);
        __syncthreads();
        att_load<T, DP>(sk, k + (size_t)key0 * g.kv_ld, g.kv_ld, rows, keys, g);
        att_load<T, DP>(sv, v + (size_t)key0 * g.kv_ld, g.kv_ld, rows, keys, g);
        __syncthreads();
        if (mine >= queries)
            continue;
        float s[KEY_PIECES][4];
        tile_clear(s);
        tile_product<KEY_PIECES, false>(s, sq + mine * L, L, sk, L, DP, rows);
        soften(s, key0, limit, g.scale, top, sum, keep);
#pragma unroll
        for (int n = 0; n < ND; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                o[n][i] *= keep[i / 2];
        tile_put<T, KEY_PIECES>(sp, PL, s);
        __syncwarp();
        tile_product<ND, true>(o, sp, PL, sv, L, rows, DP);
        __syncwarp();
    }
    if (mine >= queries)
        return;
    const float by[2] = {1 / sum[0], 1 / sum[1]};
    tile_store<T, ND>((T *)g.o + (q_first + mine) * g.out_ld + col, g.out_ld, queries - mine,
                      (int)g.head_dim, o, by);
    for (int h = 0; h < 2; h++)
        if (g.lse && threadIdx.x % 4 == 0 && mine + row + 8 * h < queries)
            g.lse[(q_first + mine + row + 8 * h) * g.heads + p.head] = top[h] + logf(sum[h]);
}

struct attention_run {
    template <class T, int DP> static void run(struct dev *d, const att_args &g)
    {
        cuda_launch(d, "attention", attention_kernel<T, DP>, att_grid(g), ATT_BLOCK,
                    att_shared<T, DP>(), g);
    }
};

void cuda_attention(struct dev *d, const struct dev_attention *a)
{
    att_args g = att_of(d, a);
    g.tiles = a->last_only ? 1 : cuda_blocks(a->kv.max_len, ATT_ROWS);
    att_dispatch<attention_run>(d, g);
}
