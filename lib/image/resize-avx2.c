// SPDX-License-Identifier: Apache-2.0
// The passes for AVX2. A weight of 24 bits is used as high * 4096 + low, each within 16 bits, so
// that vpmaddwd multiplies two taps at once without loss; sums wrap modulo 2^32, and the result
// fits.
#include "base/isa.h"
#include "image/resize-pass.h"

#if defined(__x86_64__)

#include "image/resize-x86.h"

#define AVX2 __attribute__((target("avx2")))

enum { LOW_BITS = 12, HALF = 1 << (RESIZE_BITS - 1) };

// Four high parts, four low parts.
static void split(uint8_t *out, const int32_t *weight)
{
    int16_t part[8];
    for (int t = 0; t < 4; t++) {
        part[t] = (int16_t)(weight[t] >> LOW_BITS);
        part[t + 4] = (int16_t)(weight[t] & ((1 << LOW_BITS) - 1));
    }
    memcpy(out, part, sizeof part);
}

struct avx2_sums {
    __m256i high, low;
};

RESIZE_AVX2_INLINE void clear(struct avx2_sums *s)
{
    s->high = _mm256_setzero_si256();
    s->low = _mm256_set1_epi32(HALF);
}

RESIZE_AVX2_INLINE void add(struct avx2_sums *s, __m256i pairs, __m256i high, __m256i low)
{
    s->high = _mm256_add_epi32(s->high, _mm256_madd_epi16(pairs, high));
    s->low = _mm256_add_epi32(s->low, _mm256_madd_epi16(pairs, low));
}

RESIZE_AVX2_INLINE __m256i join(const struct avx2_sums *s)
{
    return _mm256_add_epi32(_mm256_slli_epi32(s->high, LOW_BITS), s->low);
}

// Outputs i and j = i + 1 of four rows, one in each half of a register.
RESIZE_AVX2_INLINE void two_pixels(uint8_t *dst, size_t dst_pitch, const uint8_t *const *src,
                                   const struct resize_axis *a, size_t i, size_t j, int taps,
                                   size_t step)
{
    // Of four pixels, the first two, or the last two, as 16-bit pairs (r r)(g g)(b b).
    const __m256i first =
        _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, //
                         0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1);
    const __m256i second =
        _mm256_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1, //
                         6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
    size_t at_i = (size_t)a->from[i] * 3, at_j = (size_t)a->from[j] * 3;
    const uint8_t *w_i = a->split + i * step * 4, *w_j = a->split + j * step * 4;
    struct avx2_sums s[RESIZE_ROWS];
#pragma GCC unroll 4
    for (int r = 0; r < RESIZE_ROWS; r++)
        clear(&s[r]);
    for (size_t t = 0; t < (taps == 5 ? 4 : step); t += 4) {
        __m256i w = resize_load_two(w_i + t * 4, w_j + t * 4);
        __m256i high_first = _mm256_shuffle_epi32(w, 0x00),
                high_second = _mm256_shuffle_epi32(w, 0x55);
        __m256i low_first = _mm256_shuffle_epi32(w, 0xaa),
                low_second = _mm256_shuffle_epi32(w, 0xff);
#pragma GCC unroll 4
        for (int r = 0; r < RESIZE_ROWS; r++) {
            __m256i four = resize_load_two(src[r] + at_i + t * 3, src[r] + at_j + t * 3);
            add(&s[r], _mm256_shuffle_epi8(four, first), high_first, low_first);
            add(&s[r], _mm256_shuffle_epi8(four, second), high_second, low_second);
        }
    }
    // A fifth tap alone: its pixel came with the first four.
    __m256i fifth = taps == 5 ? resize_weights_two(a, i, j, 4) : _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int r = 0; taps == 5 && r < RESIZE_ROWS; r++) {
        __m256i five = resize_load_two(src[r] + at_i, src[r] + at_j);
        s[r].low = resize_add_fifth(s[r].low, five, fifth);
    }
    __m256i sum[RESIZE_ROWS];
#pragma GCC unroll 4
    for (int r = 0; r < RESIZE_ROWS; r++)
        sum[r] = join(&s[r]);
    resize_store_pixels(dst + i * 3, dst_pitch, sum);
}

RESIZE_AVX2_INLINE void all_pixels(uint8_t *dst, size_t dst_pitch, const uint8_t *const *src,
                                   const struct resize_axis *a, int taps, size_t step)
{
    size_t n = (size_t)a->n_out;
    const uint8_t *rows[RESIZE_ROWS] = {src[0], src[1], src[2], src[3]};
    for (size_t i = 0; i < n; i += 2)
        two_pixels(dst, dst_pitch, rows, a, i, i + 1 < n ? i + 1 : i, taps, step);
}

AVX2 static void pass_x(uint8_t *dst, size_t dst_pitch, const uint8_t *const *src,
                        const struct resize_axis *a)
{
    if (a->taps <= 4) // every enlargement
        all_pixels(dst, dst_pitch, src, a, 4, 4);
    else if (a->taps == 5) // a little smaller
        all_pixels(dst, dst_pitch, src, a, 5, 8);
    else
        all_pixels(dst, dst_pitch, src, a, a->taps, a->step);
}

// 32 columns of one result row.
RESIZE_AVX2_INLINE void columns(uint8_t *dst, const uint8_t *src, size_t src_pitch, int taps,
                                const uint8_t *w)
{
    const __m256i zero = _mm256_setzero_si256();
    struct avx2_sums s[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
        clear(&s[k]);
#pragma GCC unroll 3
    for (int t = 0; t < taps; t += 2, src += 2 * src_pitch) {
        const uint8_t *pair = w + t / 4 * 16 + t % 4 * 2;
        __m256i high = resize_weights(pair), low = resize_weights(pair + 8);
        __m256i a = resize_load(src);
        __m256i b = t + 1 < taps ? resize_load(src + src_pitch) : zero;
        __m256i lower = _mm256_unpacklo_epi8(a, b), upper = _mm256_unpackhi_epi8(a, b);
        add(&s[0], _mm256_unpacklo_epi8(lower, zero), high, low);
        add(&s[1], _mm256_unpackhi_epi8(lower, zero), high, low);
        add(&s[2], _mm256_unpacklo_epi8(upper, zero), high, low);
        add(&s[3], _mm256_unpackhi_epi8(upper, zero), high, low);
    }
    resize_store_columns(dst, (__m256i[4]){join(&s[0]), join(&s[1]), join(&s[2]), join(&s[3])});
}

AVX2 static void pass_y(uint8_t *dst, const uint8_t *src, size_t src_pitch, size_t n,
                        const struct resize_axis *a, size_t i)
{
    const uint8_t *w = a->split + i * a->step * 4;
    if (n < 32) {
        resize_passes_portable.y(dst, src, src_pitch, n, a, i);
        return;
    }
    for (size_t x = 0; x < n; x += 32) {
        size_t at = x + 32 <= n ? x : n - 32; // the last 32, some for the second time
        if (a->taps == 4)
            columns(dst + at, src + at, src_pitch, 4, w);
        else if (a->taps == 5)
            columns(dst + at, src + at, src_pitch, 5, w);
        else
            columns(dst + at, src + at, src_pitch, a->taps, w);
    }
}

static const struct resize_passes passes = {.x = pass_x, .y = pass_y, .split = split};

const struct resize_passes *resize_passes_avx2(void)
{
    return isa_has(ISA_AVX2) ? &passes : NULL;
}

#else

const struct resize_passes *resize_passes_avx2(void)
{
    return NULL;
}

#endif
