// SPDX-License-Identifier: Apache-2.0
#include "base/half.h"

#include <stdbool.h>
#include <string.h>

#include "base/isa.h"

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

float half_to_f32_one(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = (h >> 10) & 31, frac = h & 0x3ff;
    if (exp == 31) // infinity; a NaN is made quiet, as the processor does
        return float_of(sign | 0x7f800000 | frac << 13 | (frac ? 0x400000 : 0));
    if (exp)
        return float_of(sign | (exp + 112) << 23 | frac << 13);
    // zero or subnormal: frac * 2^-24 is exact
    float f = (float)frac * 0x1p-24f;
    return float_of(sign | bits_of(f));
}

uint16_t half_from_f32_one(float f)
{
    uint32_t u = bits_of(f), a = u & 0x7fffffff;
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    if (a > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
    if (a >= 0x477ff000) // 65520: halfway from the largest finite value to the next power of two
        return (uint16_t)(sign | 0x7c00);
    if (a >= 0x38800000) { // normal: move the exponent, round the 13 bits that go
        uint32_t r = a - 0x38000000;
        return (uint16_t)(sign | (r + 0xfff + (r >> 13 & 1)) >> 13);
    }
    if (a <= 0x33000000) // up to half the smallest subnormal, ties to even
        return sign;
    uint32_t exp = a >> 23, shift = 126 - exp; // 14 .. 24
    uint32_t frac = (a & 0x7fffff) | 0x800000;
    uint32_t half = 1u << (shift - 1), rest = frac & ((half << 1) - 1), q = frac >> shift;
    q += rest > half || (rest == half && (q & 1));
    return (uint16_t)(sign | q);
}

float bf16_to_f32_one(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

uint16_t bf16_from_f32_one(float f)
{
    uint32_t u = bits_of(f);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

// The vector paths convert the first n rounded down to their width and return that count.
#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("avx,f16c"))) static size_t half_to_f32_wide(const uint16_t *src, float *dst,
                                                                   size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(
            dst + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(src + i))));
    return i;
}

__attribute__((target("avx,f16c"))) static size_t half_from_f32_wide(const float *src,
                                                                     uint16_t *dst, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(void *)(dst + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT));
    return i;
}

__attribute__((target("avx2"))) static __m256i bf16_round(__m256i u)
{
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i r = _mm256_add_epi32(u, _mm256_add_epi32(_mm256_set1_epi32(0x7fff), odd));
    __m256i magnitude = _mm256_and_si256(u, _mm256_set1_epi32(0x7fffffff));
    __m256i nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7f800000));
    r = _mm256_blendv_epi8(r, _mm256_or_si256(u, _mm256_set1_epi32(0x400000)), nan);
    return _mm256_srli_epi32(r, 16);
}

__attribute__((target("avx2"))) static size_t bf16_from_f32_wide(const float *src, uint16_t *dst,
                                                                 size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256i a = bf16_round(_mm256_castps_si256(_mm256_loadu_ps(src + i)));
        __m256i b = bf16_round(_mm256_castps_si256(_mm256_loadu_ps(src + i + 8)));
        __m256i p = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8);
        _mm256_storeu_si256((__m256i *)(void *)(dst + i), p);
    }
    return i;
}

__attribute__((target("avx2"))) static size_t bf16_to_f32_wide(const uint16_t *src, float *dst,
                                                               size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128i h = _mm_loadu_si128((const __m128i *)(const void *)(src + i));
        __m256i u = _mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16);
        _mm256_storeu_ps(dst + i, _mm256_castsi256_ps(u));
    }
    return i;
}
#else
#define half_to_f32_wide(s, d, n) ((size_t)0)
#define half_from_f32_wide(s, d, n) ((size_t)0)
#define bf16_to_f32_wide(s, d, n) ((size_t)0)
#define bf16_from_f32_wide(s, d, n) ((size_t)0)
#endif

void half_to_f32(const uint16_t *src, float *dst, size_t n)
{
    for (size_t i = isa_has(ISA_AVX2) ? half_to_f32_wide(src, dst, n) : 0; i < n; i++)
        dst[i] = half_to_f32_one(src[i]);
}

void half_from_f32(const float *src, uint16_t *dst, size_t n)
{
    for (size_t i = isa_has(ISA_AVX2) ? half_from_f32_wide(src, dst, n) : 0; i < n; i++)
        dst[i] = half_from_f32_one(src[i]);
}

void bf16_to_f32(const uint16_t *src, float *dst, size_t n)
{
    for (size_t i = isa_has(ISA_AVX2) ? bf16_to_f32_wide(src, dst, n) : 0; i < n; i++)
        dst[i] = bf16_to_f32_one(src[i]);
}

void bf16_from_f32(const float *src, uint16_t *dst, size_t n)
{
    for (size_t i = isa_has(ISA_AVX2) ? bf16_from_f32_wide(src, dst, n) : 0; i < n; i++)
        dst[i] = bf16_from_f32_one(src[i]);
}
