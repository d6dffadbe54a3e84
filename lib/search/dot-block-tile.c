// SPDX-License-Identifier: Apache-2.0
// One tile of products in registers.
#include "search/dot-block-kernel.h"

#include "search/dot-block.h"

#if defined(__x86_64__)
#include <immintrin.h>

// 14 x 2 accumulators, two registers of b and one of a: all but one of the 32 registers.
__attribute__((target("avx512f,avx512bw,avx512bf16"))) void
dot_tile_bf16(const uint32_t *a, const uint32_t *b, size_t words, float *out, size_t ld)
{
    __m512 acc[DOT_LEFT][2];
#pragma GCC unroll 14
    for (int i = 0; i < DOT_LEFT; i++)
        acc[i][0] = acc[i][1] = _mm512_setzero_ps();
    for (size_t k = 0; k < words; k++) {
        __m512bh b0 = (__m512bh)_mm512_loadu_si512(b + k * DOT_RIGHT);
        __m512bh b1 = (__m512bh)_mm512_loadu_si512(b + k * DOT_RIGHT + 16);
#pragma GCC unroll 14
        for (int i = 0; i < DOT_LEFT; i++) {
            __m512bh x = (__m512bh)_mm512_set1_epi32((int)a[k * DOT_LEFT + i]);
            acc[i][0] = _mm512_dpbf16_ps(acc[i][0], x, b0);
            acc[i][1] = _mm512_dpbf16_ps(acc[i][1], x, b1);
        }
    }
#pragma GCC unroll 14
    for (int i = 0; i < DOT_LEFT; i++) {
        _mm512_storeu_ps(out + i * ld, acc[i][0]);
        _mm512_storeu_ps(out + i * ld + 16, acc[i][1]);
    }
}

#define BYTES __attribute__((target("avx512f,avx512bw,avx512vnni")))

// The type that the instruction adds up; an array of __m512i would not stay in registers.
typedef int32_t sums __attribute__((vector_size(64)));

BYTES static inline sums add_products(sums acc, __m512i x, __m512i y)
{
    return (sums)_mm512_dpbusd_epi32((__m512i)acc, x, y);
}

BYTES static inline __m512 scaled(sums acc, __m512i minus, __m512 scale, float by)
{
    __m512 v = _mm512_cvtepi32_ps(_mm512_sub_epi32((__m512i)acc, minus));
    return _mm512_mul_ps(_mm512_mul_ps(v, scale), _mm512_set1_ps(by));
}

BYTES void dot_tile_i8(const struct dot_bytes *a, const struct dot_bytes *b, size_t words,
                       float *out, size_t ld)
{
    sums acc[DOT_LEFT][2];
#pragma GCC unroll 14
    for (int i = 0; i < DOT_LEFT; i++)
        acc[i][0] = acc[i][1] = (sums){0};
    for (size_t k = 0; k < words; k++) {
        __m512i b0 = _mm512_loadu_si512(b->data + k * DOT_RIGHT);
        __m512i b1 = _mm512_loadu_si512(b->data + k * DOT_RIGHT + 16);
#pragma GCC unroll 14
        for (int i = 0; i < DOT_LEFT; i++) {
            __m512i x = _mm512_set1_epi32((int)a->data[k * DOT_LEFT + i]);
            acc[i][0] = add_products(acc[i][0], x, b0);
            acc[i][1] = add_products(acc[i][1], x, b1);
        }
    }
    __m512i m0 = _mm512_loadu_si512(b->minus), m1 = _mm512_loadu_si512(b->minus + 16);
    __m512 s0 = _mm512_loadu_ps(b->scale), s1 = _mm512_loadu_ps(b->scale + 16);
#pragma GCC unroll 14
    for (int i = 0; i < DOT_LEFT; i++) {
        _mm512_storeu_ps(out + i * ld, scaled(acc[i][0], m0, s0, a->scale[i]));
        _mm512_storeu_ps(out + i * ld + 16, scaled(acc[i][1], m1, s1, a->scale[i]));
    }
}

#else

void dot_tile_bf16(const uint32_t *a, const uint32_t *b, size_t words, float *out, size_t ld)
{
    (void)a, (void)b, (void)words, (void)out, (void)ld;
}

void dot_tile_i8(const struct dot_bytes *a, const struct dot_bytes *b, size_t words, float *out,
                 size_t ld)
{
    (void)a, (void)b, (void)words, (void)out, (void)ld;
}

#endif
