// SPDX-License-Identifier: Apache-2.0
// Inside the CUDA device: tiles of attention, shared by its forward and backward kernels.
//
// A warp owns 16 rows of a tile and keeps its products in registers as the tensor cores lay them
// out (PTX ISA, mma.m16n8k16): lane l has, of each 16 x 8 piece, rows l / 4 and l / 4 + 8, columns
// 2 (l % 4) and the next. Operands come from shared memory, whose rows are padded by 16 bytes, so
// that the eight rows a warp reads at once lie in different banks. bfloat16 goes through the tensor
// cores, float32 through plain multiply-adds in the same layout.
#ifndef DEVICE_CUDA_ATTENTION_H
#define DEVICE_CUDA_ATTENTION_H

#include "device/cuda/kernel.h"

static constexpr int ATT_WARPS = 4, ATT_BLOCK = ATT_WARPS * CUDA_WARP, ATT_ROWS = 16 * ATT_WARPS;

struct att_args {
    const void *q, *k, *v, *out, *dout;
    void *o, *dq, *dk, *dv;
    float *lse;
    const float *delta; // [query rows, heads], dout . out
    const int32_t *start, *q_row;
    size_t n, heads, head_dim, q_ld, kv_ld, out_ld, tiles; // tiles of one head
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

// rows x DP of shared memory from `live` rows of head_dim values; the rest zero.
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
            uint4 v = {0, 0, 0, 0};
            if (r < live && c < dim)
                v = *(const uint4 *)(src + (size_t)r * ld + c);
            *(uint4 *)(to + r * L + c) = v;
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

// -- bfloat16 products of 16 x 8 x 16
__device__ __forceinline__ unsigned pair_bits(const bf16 *p)
{
    return *(const unsigned *)p;
}
__device__ __forceinline__ unsigned pair_bits(const bf16 *lo, const bf16 *hi)
{
    return (unsigned)*(const unsigned short *)lo | (unsigned)*(const unsigned short *)hi << 16;
}

#ifdef CUDA_ON_CPU
// The instruction's meaning, on what the 32 lanes gave: four words of A, two of B, four sums a lane
// come back in their place.
static inline void mma_all(unsigned char *all)
{
    float a[16][16], b[16][8], c[16][8] = {};
    for (int l = 0; l < 32; l++) {
        unsigned w[6];
        memcpy(w, all + 32 * l, sizeof w);
        for (int i = 0; i < 6; i++)
            for (int h = 0; h < 2; h++) {
                unsigned u = (h ? w[i] >> 16 : w[i] & 0xffff) << 16;
                float f;
                memcpy(&f, &u, sizeof f);
                int k = 2 * (l % 4) + h;
                if (i < 4)
                    a[l / 4 + i % 2 * 8][k + i / 2 * 8] = f;
                else
                    b[k + (i - 4) * 8][l / 4] = f;
            }
    }
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 8; j++)
                c[i][j] += a[i][k] * b[k][j];
    for (int l = 0; l < 32; l++) {
        float out[4] = {c[l / 4][l % 4 * 2], c[l / 4][l % 4 * 2 + 1], c[l / 4 + 8][l % 4 * 2],
                        c[l / 4 + 8][l % 4 * 2 + 1]};
        memcpy(all + 32 * l, out, sizeof out);
    }
}
static inline void mma(float c[4], const unsigned a[4], const unsigned b[2])
{
    unsigned w[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    float out[4];
    unsigned char *all = cuda_on_cpu::warp(0xffffffffu, w, sizeof w, mma_all);
    memcpy(out, all + 32 * cuda_on_cpu::here.lane, sizeof out);
    for (int i = 0; i < 4; i++)
        c[i] += out[i];
}
#else
__device__ __forceinline__ void mma(float c[4], const unsigned a[4], const unsigned b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

// C[16, 8 NT] += A[16, k] B. A: rows of lda. B element (k, n) at b[n * ldb + k], or with K_ROWS at
// b[k * ldb + n]. k a multiple of 16; pieces from column `live` on are left out.
template <int NT, bool K_ROWS>
__device__ __forceinline__ void tile_product(float (&c)[NT][4], const bf16 *a, int lda,
                                             const bf16 *b, int ldb, int k, int live)
{
    int lane = threadIdx.x % CUDA_WARP, g = lane / 4, t = lane % 4 * 2;
    for (int k0 = 0; k0 < k; k0 += 16) {
        const bf16 *p = a + g * lda + k0 + t;
        unsigned fa[4] = {pair_bits(p), pair_bits(p + 8 * lda), pair_bits(p + 8),
                          pair_bits(p + 8 * lda + 8)};
#pragma unroll
        for (int n = 0; n < NT; n++) {
            if (n * 8 >= live)
                continue;
            unsigned fb[2];
            if (K_ROWS) {
                const bf16 *q = b + (k0 + t) * ldb + n * 8 + g;
                fb[0] = pair_bits(q, q + ldb);
                fb[1] = pair_bits(q + 8 * ldb, q + 9 * ldb);
            } else {
                const bf16 *q = b + (n * 8 + g) * ldb + k0 + t;
                fb[0] = pair_bits(q);
                fb[1] = pair_bits(q + 8);
            }
            mma(c[n], fa, fb);
        }
    }
}

template <int NT, bool K_ROWS>
__device__ __forceinline__ void tile_product(float (&c)[NT][4], const float *a, int lda,
                                             const float *b, int ldb, int k, int live)
{
    int lane = threadIdx.x % CUDA_WARP, g = lane / 4, t = lane % 4 * 2;
    for (int i = 0; i < k; i++) {
        float a0 = a[g * lda + i], a1 = a[(g + 8) * lda + i];
#pragma unroll
        for (int n = 0; n < NT; n++) {
            if (n * 8 >= live)
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

template <int NT> __device__ __forceinline__ void tile_clear(float (&c)[NT][4])
{
#pragma unroll
    for (int n = 0; n < NT; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            c[n][i] = 0;
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

// Rows g and g + 8 of the warp's, where they are below `live`, times `by`, to device memory.
template <class T, int NT>
__device__ __forceinline__ void tile_store(T *to, size_t ld, int live, int dim,
                                           const float (&c)[NT][4], const float (&by)[2])
{
    int lane = threadIdx.x % CUDA_WARP, g = lane / 4, t = lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < NT; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int r = g + i / 2 * 8, col = n * 8 + t + i % 2;
            if (r < live && col < dim)
                to[(size_t)r * ld + (size_t)col] = from_f32<T>(c[n][i] * by[i / 2]);
        }
}

// Calls F::run<T, DP>(d, g) with the smallest DP that the head fits in; false when none does.
template <class F> static bool att_dispatch(struct dev *d, const att_args &g)
{
    size_t n = g.head_dim;
    if (d->act == DEV_F32) {
        if (n <= 32)
            F::template run<float, 32>(d, g);
        else if (n <= 64)
            F::template run<float, 64>(d, g);
        else if (n <= 128)
            F::template run<float, 128>(d, g);
    } else if (n <= 32) {
        F::template run<bf16, 32>(d, g);
    } else if (n <= 64) {
        F::template run<bf16, 64>(d, g);
    } else if (n <= 80) {
        F::template run<bf16, 80>(d, g);
    } else if (n <= 96) {
        F::template run<bf16, 96>(d, g);
    } else if (n <= 112) {
        F::template run<bf16, 112>(d, g);
    } else if (n <= 128) {
        F::template run<bf16, 128>(d, g);
    }
    if (n > 128)
        cuda_fail(d, "attention: heads of %zu values; 128 at most", n);
    return n <= 128;
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
    g.heads = a->heads;
    g.head_dim = a->head_dim;
    g.q_ld = a->q_ld;
    g.kv_ld = a->kv_ld;
    g.out_ld = a->out_ld;
    g.scale = 1 / sqrtf((float)a->head_dim);
    g.causal = a->causal;
    g.last = a->last_only;
    g.wide = a->head_dim * d->act_size % 16 == 0 && att_wide(a->q, a->q_ld, d->act_size) &&
             att_wide(a->k, a->kv_ld, d->act_size) && att_wide(a->v, a->kv_ld, d->act_size);
    return g;
}

#endif
