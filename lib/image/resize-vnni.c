// SPDX-License-Identifier: Apache-2.0
// The passes for AVX-512 VNNI, on 256-bit registers. A weight of 24 bits is used as three signed
// bytes, d2 * 65536 + d1 * 256 + d0, so that vpdpbusd multiplies four taps at once without loss.
#include <stdbool.h>

#include "base/isa.h"
#include "image/resize-pass.h"

#if defined(__x86_64__)

#include "image/resize-x86.h"

#define VNNI_TARGET "avx2,avx512f,avx512bw,avx512vl,avx512vnni"
#define VNNI __attribute__((target(VNNI_TARGET)))
#define VNNI_INLINE __attribute__((target(VNNI_TARGET), always_inline)) static inline

// d0 of the four weights, d1 of the four, d2 of the four, four bytes not used.
static void split(uint8_t *out, const int32_t *weight)
{
    memset(out + 12, 0, 4);
    for (int t = 0; t < 4; t++) {
        int32_t d0 = (int8_t)(uint8_t)weight[t], rest = (weight[t] - d0) >> 8;
        int32_t d1 = (int8_t)(uint8_t)rest, d2 = (rest - d1) >> 8;
        out[t] = (uint8_t)d0;
        out[4 + t] = (uint8_t)d1;
        out[8 + t] = (uint8_t)d2;
    }
}

struct vnni_sums {
    __m256i d0, d1, d2;
};

VNNI_INLINE void clear(struct vnni_sums *s)
{
    s->d0 = _mm256_set1_epi32(1 << (RESIZE_BITS - 1));
    s->d1 = s->d2 = _mm256_setzero_si256();
}

VNNI_INLINE void add(struct vnni_sums *s, __m256i fours, const __m256i w[3])
{
    s->d0 = _mm256_dpbusd_epi32(s->d0, fours, w[0]);
    s->d1 = _mm256_dpbusd_epi32(s->d1, fours, w[1]);
    s->d2 = _mm256_dpbusd_epi32(s->d2, fours, w[2]);
}

VNNI_INLINE __m256i join(const struct vnni_sums *s)
{
    __m256i upper = _mm256_add_epi32(_mm256_slli_epi32(s->d2, 8), s->d1);
    return _mm256_add_epi32(_mm256_slli_epi32(upper, 8), s->d0);
}

// Outputs i and j = i + 1 of four rows, one in each half of a register.
VNNI_INLINE void two_pixels(uint8_t *dst, size_t dst_pitch, const uint8_t *const *src,
                            const struct resize_axis *a, size_t i, size_t j, int taps, size_t step)
{
    // Four pixels as (r r r r)(g g g g)(b b b b).
    const __m256i planes = _mm256_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1, //
                                            0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1);
    size_t at_i = (size_t)a->from[i] * 3, at_j = (size_t)a->from[j] * 3;
    const uint8_t *w_i = a->split + i * step * 4, *w_j = a->split + j * step * 4;
    struct vnni_sums s[RESIZE_ROWS];
#pragma GCC unroll 4
    for (int r = 0; r < RESIZE_ROWS; r++)
        clear(&s[r]);
    for (size_t t = 0; t < (taps == 5 ? 4 : step); t += 4) {
        __m256i all = resize_load_two(w_i + t * 4, w_j + t * 4);
        __m256i w[3] = {_mm256_shuffle_epi32(all, 0x00), _mm256_shuffle_epi32(all, 0x55),
                        _mm256_shuffle_epi32(all, 0xaa)};
#pragma GCC unroll 4
        for (int r = 0; r < RESIZE_ROWS; r++) {
            __m256i four = resize_load_two(src[r] + at_i + t * 3, src[r] + at_j + t * 3);
            add(&s[r], _mm256_shuffle_epi8(four, planes), w);
        }
    }
    // A fifth tap alone: its pixel came with the first four.
    __m256i fifth = taps == 5 ? resize_weights_two(a, i, j, 4) : _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int r = 0; taps == 5 && r < RESIZE_ROWS; r++) {
        __m256i five = resize_load_two(src[r] + at_i, src[r] + at_j);
        s[r].d0 = resize_add_fifth(s[r].d0, five, fifth);
    }
    __m256i sum[RESIZE_ROWS];
#pragma GCC unroll 4
    for (int r = 0; r < RESIZE_ROWS; r++)
        sum[r] = join(&s[r]);
    resize_store_pixels(dst + i * 3, dst_pitch, sum);
}

VNNI_INLINE void all_pixels(uint8_t *dst, size_t dst_pitch, const uint8_t *const *src,
                            const struct resize_axis *a, int taps, size_t step)
{
    size_t n = (size_t)a->n_out;
    const uint8_t *rows[RESIZE_ROWS] = {src[0], src[1], src[2], src[3]};
    for (size_t i = 0; i < n; i += 2)
        two_pixels(dst, dst_pitch, rows, a, i, i + 1 < n ? i + 1 : i, taps, step);
}

VNNI static void pass_x(uint8_t *dst, size_t dst_pitch, const uint8_t *const *src,
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
VNNI_INLINE void columns(uint8_t *dst, const uint8_t *src, size_t src_pitch, int taps,
                         const uint8_t *w)
{
    struct vnni_sums s[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
        clear(&s[k]);
#pragma GCC unroll 3
    for (int t = 0; t < taps; t += 4, src += 4 * src_pitch, w += 16) {
        __m256i row[4];
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
            row[k] =
                t + k < taps ? resize_load(src + (size_t)k * src_pitch) : _mm256_setzero_si256();
        __m256i ab = _mm256_unpacklo_epi8(row[0], row[1]),
                cd = _mm256_unpacklo_epi8(row[2], row[3]);
        __m256i ef = _mm256_unpackhi_epi8(row[0], row[1]),
                gh = _mm256_unpackhi_epi8(row[2], row[3]);
        __m256i weights[3] = {resize_weights(w), resize_weights(w + 4), resize_weights(w + 8)};
        add(&s[0], _mm256_unpacklo_epi16(ab, cd), weights);
        add(&s[1], _mm256_unpackhi_epi16(ab, cd), weights);
        add(&s[2], _mm256_unpacklo_epi16(ef, gh), weights);
        add(&s[3], _mm256_unpackhi_epi16(ef, gh), weights);
    }
    resize_store_columns(dst, (__m256i[4]){join(&s[0]), join(&s[1]), join(&s[2]), join(&s[3])});
}

VNNI static void pass_y(uint8_t *dst, const uint8_t *src, size_t src_pitch, size_t n,
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

const struct resize_passes *resize_passes_vnni(void)
{
    return isa_has(ISA_AVX512_VNNI) ? &passes : NULL;
}

#else

const struct resize_passes *resize_passes_vnni(void)
{
    return NULL;
}

#endif
