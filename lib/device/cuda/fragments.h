// SPDX-License-Identifier: Apache-2.0
// Inside the CUDA device: bfloat16 on the tensor cores, and what feeds them. Each instruction has a
// form for the tests on the processor (tests/cuda-on-cpu), which does what the PTX ISA says of it.
//
// mma.m16n8k16 spreads its operands over a warp's lanes: lane l has, of each 16 x 8 piece of C,
// rows l / 4 and l / 4 + 8, columns 2 (l % 4) and the next.
#ifndef DEVICE_CUDA_FRAGMENTS_H
#define DEVICE_CUDA_FRAGMENTS_H

#include "device/cuda/kernel.h"

#ifdef CUDA_ON_CPU
// On what the 32 lanes gave: four words of A, two of B, four sums a lane come back in their place.
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

// Lane 8 i + r names row r of piece i.
template <bool TRANSPOSED> static inline void pieces(unsigned to[4], const bf16 *row)
{
    unsigned char *all = cuda_on_cpu::warp(0xffffffffu, &row, sizeof row);
    const unsigned short *rows[32];
    int lane = (int)cuda_on_cpu::here.lane, r = lane / 4, c = lane % 4 * 2;
    for (int l = 0; l < 32; l++)
        memcpy(&rows[l], all + 32 * l, sizeof rows[l]);
    for (int i = 0; i < 4; i++)
        to[i] = TRANSPOSED ? (unsigned)rows[8 * i + c][r] | (unsigned)rows[8 * i + c + 1][r] << 16
                           : (unsigned)rows[8 * i + r][c] | (unsigned)rows[8 * i + r][c + 1] << 16;
    cuda_on_cpu::warp(0xffffffffu, nullptr, 0);
}
static inline void copy_16(void *to, const void *from, bool live)
{
    if (live)
        memcpy(to, from, 16);
    else
        memset(to, 0, 16);
}
static inline void copies_wait()
{
}
static inline float exp2_fast(float x)
{
    return exp2f(x);
}
#else
__device__ __forceinline__ void mma(float c[4], const unsigned a[4], const unsigned b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// Four 8 x 8 pieces of shared memory: lane 8 i + r names row r of piece i, 16-byte aligned; lane l
// gets, of each piece or its transpose, row l / 4, columns 2 (l % 4) and the next.
template <bool TRANSPOSED> __device__ __forceinline__ void pieces(unsigned to[4], const bf16 *row)
{
    unsigned at = (unsigned)__cvta_generic_to_shared(row);
    if (TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(at)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(at)
                     : "memory");
}
// 16 bytes from device to shared memory, zeros where not `live`; there after copies_wait() and a
// barrier.
__device__ __forceinline__ void copy_16(void *to, const void *from, bool live)
{
    unsigned at = (unsigned)__cvta_generic_to_shared(to), bytes = live ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(at), "l"(from), "r"(bytes)
                 : "memory");
}
__device__ __forceinline__ void copies_wait()
{
    asm volatile("cp.async.wait_all;\n" ::: "memory");
}
// 2^x to a relative error of 2^-22; 0 for -infinity and where the result would be subnormal.
__device__ __forceinline__ float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
    return y;
}
#endif

// The operand A of 16 x 16 at a[row * lda + column].
__device__ __forceinline__ void load_a(unsigned to[4], const bf16 *a, int lda)
{
    int lane = threadIdx.x % CUDA_WARP;
    pieces<false>(to, a + lane % 16 * lda + lane / 16 * 8);
}
// A from its transpose, at a[column * lda + row].
__device__ __forceinline__ void load_a_turned(unsigned to[4], const bf16 *a, int lda)
{
    int lane = threadIdx.x % CUDA_WARP;
    pieces<true>(to, a + (lane / 16 * 8 + lane % 8) * lda + lane / 8 % 2 * 8);
}
// Two operands B of 16 x 8 beside each other: element (k, n) at b[n * ldb + k], or with K_ROWS at
// b[k * ldb + n].
template <bool K_ROWS>
__device__ __forceinline__ void load_b2(unsigned to[4], const bf16 *b, int ldb)
{
    int lane = threadIdx.x % CUDA_WARP;
    if (K_ROWS)
        pieces<true>(to, b + lane % 16 * ldb + lane / 16 * 8);
    else
        pieces<false>(to, b + (lane / 16 * 8 + lane % 8) * ldb + lane / 8 % 2 * 8);
}
// A from sums C: columns 16 j to 16 j + 15 of the warp's 16 rows.
template <int NT>
__device__ __forceinline__ void a_of_sums(unsigned to[4], const float (&c)[NT][4], int j)
{
    to[0] = pair_of(c[2 * j][0], c[2 * j][1]);
    to[1] = pair_of(c[2 * j][2], c[2 * j][3]);
    to[2] = pair_of(c[2 * j + 1][0], c[2 * j + 1][1]);
    to[3] = pair_of(c[2 * j + 1][2], c[2 * j + 1][3]);
}

#endif
