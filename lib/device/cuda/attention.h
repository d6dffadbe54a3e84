// SPDX-License-Identifier: Apache-2.0
// Inside the CUDA device: tiles of attention, shared by its forward and backward kernels.
//
// A warp owns 16 rows of a tile (or M times 16) and keeps its products in registers as the tensor
// cores lay them out (fragments.h). Operands come from shared memory, whose rows are padded by 16
// bytes, so that the eight rows a warp reads at once lie in different banks. bfloat16 goes through
// the tensor cores, float32 through plain multiply-adds in the same layout.
#ifndef DEVICE_CUDA_ATTENTION_H
#define DEVICE_CUDA_ATTENTION_H

#include "device/cuda/fragments.h"

static constexpr float LOG2_E = 1.44269504088896341f;
static constexpr int ATT_WARPS = 4, ATT_BLOCK = ATT_WARPS * CUDA_WARP, ATT_ROWS = 16 * ATT_WARPS;

struct att_args {
    const void *q, *k, *v, *out, *dout;
    void *o, *dq, *dk, *dv;
    float *lse;
    const float *delta; // [query rows, heads], dout . out
    const int32_t *start, *q_row;
    size_t n, heads, head_dim, q_ld, kv_ld, out_ld, max_len, tiles; // tiles of one head
    float scale;
    bool causal, last, wide; // wide: rows can be read 16 bytes at a time
};

template <class T> __host__ __device__ constexpr int att_pad()
{
    return 16 / (int)sizeof(T);
}
template <class T, int DP> __host__ __device__ constexpr int att_ld()
{
    return DP + att_pad<T>();
}

// One (sequence, head, tile) of the grid.
struct att_place {
    size_t seq, head, row0; // the sequence's first row
    int nk, nq, first;      // its length, its queries, the tile's first row
};
__device__ __forceinline__ att_place att_where(const att_args &g, int tile_rows)
{
    att_place p;
    size_t tile = blockIdx.x % g.tiles;
    p.head = blockIdx.x / g.tiles % g.heads;
    p.seq = blockIdx.x / g.tiles / g.heads;
    p.row0 = (size_t)g.start[p.seq];
    p.nk = g.start[p.seq + 1] - g.start[p.seq];
    p.nq = g.last ? (p.nk ? 1 : 0) : p.nk;
    p.first = (int)tile * tile_rows;
    return p;
}
// Row of query r among all query rows; its position among the sequence's keys.
__device__ __forceinline__ size_t att_row(const att_args &g, const att_place &p, int r)
{
    return g.last ? p.seq : p.row0 + (size_t)r;
}
__device__ __forceinline__ int att_position(const att_args &g, const att_place &p, int r)
{
    return g.last ? g.q_row[p.seq] : r;
}

// Sequences whose backward has a block of its own, attention-short.cu.
static constexpr int ATT_SHORT = 64;
template <class T> __device__ __forceinline__ bool att_short(const att_place &p)
{
    return sizeof(T) == 2 && p.nk <= ATT_SHORT;
}
void cuda_attention_bwd_short(struct dev *d, att_args g);

// rows x DP of shared memory from `live` rows of head_dim values; the rest zero. There after
// copies_wait() and a barrier.
template <class T, int DP>
__device__ __forceinline__ void att_load(T *to, const void *from, size_t ld, int rows, int live,
                                         const att_args &g)
{
    const int L = att_ld<T, DP>(), V = att_pad<T>();
    const T *src = (const T *)from;
    int dim = (int)g.head_dim;
    if (g.wide) {
        for (int i = threadIdx.x; i < rows * (DP / V); i += ATT_BLOCK) {
            int r = i / (DP / V), c = i % (DP / V) * V;
            bool there = r < live && c < dim;
            copy_16(to + r * L + c, there ? src + (size_t)r * ld + c : src, there);
        }
        return;
    }
    for (int i = threadIdx.x; i < rows * DP; i += ATT_BLOCK) {
        int r = i / DP, c = i % DP;
        to[r * L + c] = r < live && c < dim ? src[(size_t)r * ld + (size_t)c] : from_f32<T>(0.0f);
    }
}

__device__ __forceinline__ int up16(int n)
{
    return (n + 15) & ~15;
}

// C[16 M, 8 NT] += A[16 M, k] B. A: rows of lda. B element (k, n) at b[n * ldb + k], or with K_ROWS
// at b[k * ldb + n]. k a multiple of 16; pieces from column `live`, a multiple of 16, on are left
// out. FULL: there are none to leave out; without a branch between them the loads of a piece
// overlap the products of the one before.
template <int M, int NT, bool K_ROWS, bool FULL = false>
__device__ __forceinline__ void tile_product(float (&c)[M][NT][4], const bf16 *a, int lda,
                                             const bf16 *b, int ldb, int k, int live)
{
#pragma unroll
    for (int k0 = 0; k0 < k; k0 += 16) {
        unsigned fa[M][4], fb[4];
#pragma unroll
        for (int m = 0; m < M; m++)
            load_a(fa[m], a + 16 * m * lda + k0, lda);
#pragma unroll
        for (int n = 0; n < NT; n += 2) {
            if (!FULL && n * 8 >= live)
                continue;
            load_b2<K_ROWS>(fb, K_ROWS ? b + k0 * ldb + n * 8 : b + n * 8 * ldb + k0, ldb);
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma(c[m][n], fa[m], fb);
                mma(c[m][n + 1], fa[m], fb + 2);
            }
        }
    }
}

// C[16 M, 8 NT] += P B for the warp's own sums P[16 M, k], rounded to bfloat16; B with K_ROWS.
// FULL: k is 8 KT.
template <bool FULL, int M, int KT, int NT>
__device__ __forceinline__ void sums_product(float (&c)[M][NT][4], const float (&p)[M][KT][4],
                                             bf16 *, int, const bf16 *b, int ldb, int k)
{
#pragma unroll
    for (int j = 0; j < KT / 2; j++) {
        unsigned fa[M][4], fb[4];
        if (!FULL && 16 * j >= k)
            continue;
#pragma unroll
        for (int m = 0; m < M; m++)
            a_of_sums(fa[m], p[m], j);
#pragma unroll
        for (int n = 0; n < NT; n += 2) {
            load_b2<true>(fb, b + 16 * j * ldb + n * 8, ldb);
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma(c[m][n], fa[m], fb);
                mma(c[m][n + 1], fa[m], fb + 2);
            }
        }
    }
}

template <int M, int NT, bool K_ROWS, bool FULL = false>
__device__ __forceinline__ void tile_product(float (&all)[M][NT][4], const float *a, int lda,
                                             const float *b, int ldb, int k, int live)
{
    static_assert(M == 1, "float32 takes 16 rows a warp");
    float(&c)[NT][4] = all[0];
    int lane = threadIdx.x % CUDA_WARP, g = lane / 4, t = lane % 4 * 2;
    for (int i = 0; i < k; i++) {
        float a0 = a[g * lda + i], a1 = a[(g + 8) * lda + i];
#pragma unroll
        for (int n = 0; n < NT; n++) {
            if (!FULL && n * 8 >= live)
                continue;
            int j = n * 8 + t;
            float b0 = K_ROWS ? b[i * ldb + j] : b[j * ldb + i];
            float b1 = K_ROWS ? b[i * ldb + j + 1] : b[(j + 1) * ldb + i];
            c[n][0] += a0 * b0;
            c[n][1] += a0 * b1;
            c[n][2] += a1 * b0;
            c[n][3] += a1 * b1;
        }
    }
}

template <int M, int NT> __device__ __forceinline__ void tile_clear(float (&c)[M][NT][4])
{
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                c[m][n][i] = 0;
}

// The warp's 16 x 8 NT values into shared memory.
template <class T, int NT>
__device__ __forceinline__ void tile_put(T *to, int ld, const float (&c)[NT][4])
{
    int lane = threadIdx.x % CUDA_WARP, g = lane / 4, t = lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < NT; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            to[(g + i / 2 * 8) * ld + n * 8 + t + i % 2] = from_f32<T>(c[n][i]);
}

// The same product in float32: P goes through `room` [16, ld] of shared memory, the warp's own.
template <bool FULL, int M, int KT, int NT>
__device__ __forceinline__ void sums_product(float (&c)[M][NT][4], const float (&p)[M][KT][4],
                                             float *room, int ld, const float *b, int ldb, int k)
{
    tile_put(room, ld, p[0]);
    __syncwarp();
    tile_product<M, NT, true, true>(c, room, ld, b, ldb, k, 8 * NT);
    __syncwarp();
}

__device__ __forceinline__ void pair_put(float *to, float a, float b)
{
    to[0] = a;
    to[1] = b;
}
__device__ __forceinline__ void pair_put(bf16 *to, float a, float b)
{
    store_word(to, pair_of(a, b));
}

// The warp's 16 rows, those below `live`, rows g and g + 8 of a lane times `by`, to device memory.
template <class T, int NT>
__device__ __forceinline__ void tile_store(T *to, size_t ld, int live, const att_args &args,
                                           const float (&c)[NT][4], const float (&by)[2])
{
    int lane = threadIdx.x % CUDA_WARP, g = lane / 4, t = lane % 4 * 2, dim = (int)args.head_dim;
#pragma unroll
    for (int n = 0; n < NT; n++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int r = g + h * 8, col = n * 8 + t;
            if (r >= live || col >= dim)
                continue;
            T *p = to + (size_t)r * ld + (size_t)col;
            float a = c[n][2 * h] * by[h], b = c[n][2 * h + 1] * by[h];
            if (args.wide) {
                pair_put(p, a, b);
                continue;
            }
            p[0] = from_f32<T>(a);
            if (col + 1 < dim)
                p[1] = from_f32<T>(b);
        }
}

// Calls F::run<T, DP>(d, g) with the smallest DP that the head fits in; false when none does.
static inline bool att_fits(struct dev *d, const att_args &g)
{
    if (g.head_dim > 128)
        cuda_fail(d, "attention: heads of %zu values; 128 at most", g.head_dim);
    return g.head_dim <= 128;
}
template <class F> static bool att_dispatch_bf16(struct dev *d, const att_args &g)
{
    size_t n = g.head_dim;
    if (!att_fits(d, g))
        return false;
    if (n <= 32)
        F::template run<bf16, 32>(d, g);
    else if (n <= 64)
        F::template run<bf16, 64>(d, g);
    else if (n <= 80)
        F::template run<bf16, 80>(d, g);
    else if (n <= 96)
        F::template run<bf16, 96>(d, g);
    else if (n <= 112)
        F::template run<bf16, 112>(d, g);
    else
        F::template run<bf16, 128>(d, g);
    return true;
}
template <class F> static bool att_dispatch(struct dev *d, const att_args &g)
{
    size_t n = g.head_dim;
    if (d->act == DEV_BF16)
        return att_dispatch_bf16<F>(d, g);
    if (!att_fits(d, g))
        return false;
    if (n <= 32)
        F::template run<float, 32>(d, g);
    else if (n <= 64)
        F::template run<float, 64>(d, g);
    else
        F::template run<float, 128>(d, g);
    return true;
}

static inline size_t att_grid(const att_args &g)
{
    return g.n * g.heads * g.tiles;
}

static inline bool att_wide(const void *p, size_t ld, size_t size)
{
    return (size_t)p % 16 == 0 && ld * size % 16 == 0;
}

static inline att_args att_of(const struct dev *d, const struct dev_attention *a)
{
    att_args g = {};
    g.q = a->q;
    g.k = a->k;
    g.v = a->v;
    g.o = a->out;
    g.out = a->out;
    g.lse = a->lse;
    g.start = a->kv.start;
    g.q_row = a->q_row;
    g.n = a->kv.n;
    g.max_len = a->kv.max_len;
    g.heads = a->heads;
    g.head_dim = a->head_dim;
    g.q_ld = a->q_ld;
    g.kv_ld = a->kv_ld;
    g.out_ld = a->out_ld;
    g.scale = 1 / sqrtf((float)a->head_dim);
    g.causal = a->causal;
    g.last = a->last_only;
    g.wide = a->head_dim * d->act_size % 16 == 0 && att_wide(a->q, a->q_ld, d->act_size) &&
             att_wide(a->k, a->kv_ld, d->act_size) && att_wide(a->v, a->kv_ld, d->act_size) &&
             att_wide(a->out, a->out_ld, d->act_size);
    return g;
}

#endif
