// SPDX-License-Identifier: Apache-2.0
// What the AVX2 and the AVX-512 VNNI passes share: loads, and turning sums into bytes.
#ifndef IMAGE_RESIZE_X86_H
#define IMAGE_RESIZE_X86_H

#include <immintrin.h>
#include <string.h>

#include "image/resize-pass.h"

#define RESIZE_AVX2_INLINE __attribute__((target("avx2"), always_inline)) static inline

RESIZE_AVX2_INLINE __m256i resize_load(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

// 16 bytes each into the low and the high half.
RESIZE_AVX2_INLINE __m256i resize_load_two(const uint8_t *low, const uint8_t *high)
{
    __m128i a = _mm_loadu_si128((const __m128i *)(const void *)low);
    __m128i b = _mm_loadu_si128((const __m128i *)(const void *)high);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
}

RESIZE_AVX2_INLINE __m256i resize_weights(const uint8_t *p)
{
    int32_t w;
    memcpy(&w, p, 4);
    return _mm256_set1_epi32(w);
}

// Weight t of output i in each 32 bits of the low half, of output j in the high half.
RESIZE_AVX2_INLINE __m256i resize_weights_two(const struct resize_axis *a, size_t i, size_t j,
                                              size_t t)
{
    __m128i low = _mm_set1_epi32(a->weight[i * a->step + t]);
    __m128i high = _mm_set1_epi32(a->weight[j * a->step + t]);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

// Adds the fifth pixel of each half, times its weight, to that half's (r, g, b, any).
RESIZE_AVX2_INLINE __m256i resize_add_fifth(__m256i sum, __m256i pixels, __m256i weight)
{
    const __m256i pick =
        _mm256_setr_epi8(12, -1, -1, -1, 13, -1, -1, -1, 14, -1, -1, -1, -1, -1, -1, -1, //
                         12, -1, -1, -1, 13, -1, -1, -1, 14, -1, -1, -1, -1, -1, -1, -1);
    __m256i fifth = _mm256_shuffle_epi8(pixels, pick);
    return _mm256_add_epi32(sum, _mm256_mullo_epi32(fifth, weight));
}

// 32 sums, unpacked from 32 columns within each 128-bit half, to their columns in order.
RESIZE_AVX2_INLINE void resize_store_columns(uint8_t *dst, const __m256i sum[4])
{
    __m256i v[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
        v[k] = _mm256_srai_epi32(sum[k], RESIZE_BITS);
    __m256i bytes =
        _mm256_packus_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
    _mm256_storeu_si256((__m256i *)(void *)dst, bytes);
}

RESIZE_AVX2_INLINE void resize_store8(uint8_t *dst, __m128i v)
{
    int64_t low = _mm_cvtsi128_si64(v);
    memcpy(dst, &low, 8);
}

// Sums (r, g, b, any) of two neighbouring pixels, one in each half, for each of four rows: to six
// bytes in each row, and two more that the next pixels overwrite.
RESIZE_AVX2_INLINE void resize_store_pixels(uint8_t *dst, size_t pitch,
                                            const __m256i sum[RESIZE_ROWS])
{
    const __m128i close_up = _mm_setr_epi8(0, 1, 2, 4, 5, 6, -1, -1, 8, 9, 10, 12, 13, 14, -1, -1);
    __m256i v[RESIZE_ROWS];
#pragma GCC unroll 4
    for (int r = 0; r < RESIZE_ROWS; r++)
        v[r] = _mm256_srai_epi32(sum[r], RESIZE_BITS);
    __m256i bytes =
        _mm256_packus_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
    __m128i left = _mm256_castsi256_si128(bytes), right = _mm256_extracti128_si256(bytes, 1);
    __m128i upper = _mm_shuffle_epi8(_mm_unpacklo_epi32(left, right), close_up);
    __m128i lower = _mm_shuffle_epi8(_mm_unpackhi_epi32(left, right), close_up);
    resize_store8(dst, upper);
    resize_store8(dst + pitch, _mm_unpackhi_epi64(upper, upper));
    resize_store8(dst + 2 * pitch, lower);
    resize_store8(dst + 3 * pitch, _mm_unpackhi_epi64(lower, lower));
}

#endif
