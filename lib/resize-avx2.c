// SPDX-License-Identifier: Apache-2.0
// The passes for AVX2. A weight of 24 bits is used as high * 4096 + low, both within 16 bits, so
// that vpmaddwd multiplies two taps at once without loss; sums wrap modulo 2^32 as the result fits.
#include "resize-pass.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2")))
#define AVX2_INLINE AVX2 __attribute__((always_inline)) static inline

// high * 4096 + low + rounding, before the shift to a byte.
AVX2_INLINE __m256i join(__m256i high, __m256i low)
{
    return _mm256_add_epi32(_mm256_slli_epi32(high, RESIZE_LOW_BITS), low);
}

AVX2_INLINE void accumulate(__m256i *high, __m256i *low, __m256i pairs, __m256i w_high,
                            __m256i w_low)
{
    *high = _mm256_add_epi32(*high, _mm256_madd_epi16(pairs, w_high));
    *low = _mm256_add_epi32(*low, _mm256_madd_epi16(pairs, w_low));
}

// The sums of both halves (taps 0, 1 and taps 2, 3 of each four) to one pixel.
AVX2_INLINE void store_pixel(uint8_t *dst, __m256i high, __m256i low)
{
    __m256i both = join(high, low);
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
    sum = _mm_add_epi32(sum, _mm_set1_epi32(1 << (RESIZE_BITS - 1)));
    sum = _mm_srai_epi32(sum, RESIZE_BITS);
    sum = _mm_packus_epi16(_mm_packs_epi32(sum, sum), sum);
    int32_t pixel = _mm_cvtsi128_si32(sum);
    memcpy(dst, &pixel, 4); // the fourth byte is overwritten by the next pixel
}

AVX2 static void pass_x(uint8_t *dst, size_t dst_pitch, const uint8_t *const *src,
                        const struct resize_axis *a)
{
    // Pixels 0 to 3 as 16-bit pairs: (r0 r1)(g0 g1)(b0 b1) in the low half, 2 and 3 in the high.
    const __m256i spread =
        _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, //
                         6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
    const __m256i repeat = _mm256_setr_epi32(0x03020100, 0x03020100, 0x03020100, 0x03020100,
                                             0x07060504, 0x07060504, 0x07060504, 0x07060504);
    for (size_t i = 0; i < (size_t)a->n_out; i++, dst += 3) {
        size_t at = (size_t)a->from[i] * 3;
        const int16_t *w = a->split + i * a->step * 2;
        __m256i high[RESIZE_ROWS], low[RESIZE_ROWS];
        for (int r = 0; r < RESIZE_ROWS; r++)
            high[r] = low[r] = _mm256_setzero_si256();
        for (int t = 0; t < a->taps[i]; t += 4, at += 12, w += 8) {
            __m256i all =
                _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)w));
            __m256i w_high = _mm256_shuffle_epi8(all, repeat);
            __m256i w_low = _mm256_shuffle_epi8(_mm256_srli_si256(all, 8), repeat);
            for (int r = 0; r < RESIZE_ROWS; r++) {
                __m128i four = _mm_loadu_si128((const __m128i *)(const void *)(src[r] + at));
                __m256i pairs = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(four), spread);
                accumulate(&high[r], &low[r], pairs, w_high, w_low);
            }
        }
        for (size_t r = 0; r < RESIZE_ROWS; r++)
            store_pixel(dst + r * dst_pitch, high[r], low[r]);
    }
}

// 32 columns of one result row.
AVX2_INLINE void columns(uint8_t *dst, const uint8_t *src, size_t src_pitch, int taps,
                         const int16_t *w)
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i high[4] = {zero, zero, zero, zero}, low[4] = {zero, zero, zero, zero};
    for (int t = 0; t < taps; t += 2, src += 2 * src_pitch) {
        const uint8_t *next = t + 1 < taps ? src + src_pitch : src; // its weight is 0
        int32_t pair_high, pair_low;
        memcpy(&pair_high, w + t / 4 * 8 + t % 4, 4);
        memcpy(&pair_low, w + t / 4 * 8 + t % 4 + 4, 4);
        __m256i w_high = _mm256_set1_epi32(pair_high), w_low = _mm256_set1_epi32(pair_low);
        __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)src);
        __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)next);
        __m256i first = _mm256_unpacklo_epi8(a, b), second = _mm256_unpackhi_epi8(a, b);
        accumulate(&high[0], &low[0], _mm256_unpacklo_epi8(first, zero), w_high, w_low);
        accumulate(&high[1], &low[1], _mm256_unpackhi_epi8(first, zero), w_high, w_low);
        accumulate(&high[2], &low[2], _mm256_unpacklo_epi8(second, zero), w_high, w_low);
        accumulate(&high[3], &low[3], _mm256_unpackhi_epi8(second, zero), w_high, w_low);
    }
    const __m256i half = _mm256_set1_epi32(1 << (RESIZE_BITS - 1));
    __m256i v[4];
    for (int k = 0; k < 4; k++)
        v[k] = _mm256_srai_epi32(_mm256_add_epi32(join(high[k], low[k]), half), RESIZE_BITS);
    // Packing within each 128-bit half undoes the unpacking, so the columns are in order again.
    __m256i out =
        _mm256_packus_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
    _mm256_storeu_si256((__m256i *)(void *)dst, out);
}

AVX2 static void pass_y(uint8_t *dst, const uint8_t *src, size_t src_pitch, size_t n,
                        const struct resize_axis *a, size_t i)
{
    const int16_t *w = a->split + i * a->step * 2;
    if (n < 32) {
        resize_passes_portable.y(dst, src, src_pitch, n, a, i);
        return;
    }
    size_t x = 0;
    for (; x + 32 <= n; x += 32)
        columns(dst + x, src + x, src_pitch, a->taps[i], w);
    if (x < n) // the last 32, some for the second time
        columns(dst + n - 32, src + n - 32, src_pitch, a->taps[i], w);
}

static const struct resize_passes avx2 = {.x = pass_x, .y = pass_y};

const struct resize_passes *resize_passes_simd(void)
{
    return __builtin_cpu_supports("avx2") ? &avx2 : NULL;
}

#else

const struct resize_passes *resize_passes_simd(void)
{
    return NULL;
}

#endif
