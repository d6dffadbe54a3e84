// SPDX-License-Identifier: Apache-2.0
// Packing rows into panels.
#include "search/dot-block-kernel.h"

#include "search/dot-block.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define PACK __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))
#define PACK_I8 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))

// The transpose of 16 x 16 words.
__attribute__((target("avx512f"))) static inline void transpose(__m512i r[16])
{
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            r[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + j + 2]);
            r[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + j + 2]);
        }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 2; j++) {
            t[i + 8 * j] = _mm512_shuffle_i32x4(r[i + 8 * j], r[i + 8 * j + 4], 0x88);
            t[i + 8 * j + 4] = _mm512_shuffle_i32x4(r[i + 8 * j], r[i + 8 * j + 4], 0xdd);
        }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

// The first n of 16 lanes.
static inline uint16_t lanes_of(size_t n)
{
    return n >= 16 ? 0xffff : (uint16_t)((1u << n) - 1);
}

// Up to 16 sums of squares, one a row.
struct squares {
    __m512 norm2[16], lost2[16];
};

__attribute__((target("avx512f"))) static void sums_to(const struct squares *s, size_t n,
                                                       float *norm2, float *lost2)
{
    for (size_t i = 0; i < n; i++) {
        norm2[i] = _mm512_reduce_add_ps(s->norm2[i]);
        lost2[i] = _mm512_reduce_add_ps(s->lost2[i]);
    }
}

// 32 values of a row (those there are) as 16 pairs; the squares go to norm2 and lost2.
PACK static __m512i pairs_of(const float *x, size_t n, __m512 *norm2, __m512 *lost2)
{
    __mmask16 lo = lanes_of(n), hi = n > 16 ? lanes_of(n - 16) : 0;
    __m512 a = _mm512_maskz_loadu_ps(lo, x), b = _mm512_maskz_loadu_ps(hi, x + (hi ? 16 : 0));
    __m512i h = (__m512i)_mm512_cvtne2ps_pbh(b, a);
    __m512i ha = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(h));
    __m512i hb = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(h, 1));
    __m512 da = _mm512_sub_ps(a, _mm512_castsi512_ps(_mm512_slli_epi32(ha, 16)));
    __m512 db = _mm512_sub_ps(b, _mm512_castsi512_ps(_mm512_slli_epi32(hb, 16)));
    *norm2 = _mm512_fmadd_ps(a, a, _mm512_fmadd_ps(b, b, *norm2));
    *lost2 = _mm512_fmadd_ps(da, da, _mm512_fmadd_ps(db, db, *lost2));
    return h;
}

// Up to 16 rows into the lanes from `first` on.
PACK static void pack_16_bf16(uint32_t *panel, size_t lanes, size_t first, const float *rows,
                              size_t n, size_t dim, float *norm2, float *lost2)
{
    struct squares s;
    __m512i r[16];
    for (int i = 0; i < 16; i++)
        s.norm2[i] = s.lost2[i] = _mm512_setzero_ps();
    for (size_t at = 0; at < dim; at += 32) {
        size_t left = dim - at < 32 ? dim - at : 32;
        for (size_t i = 0; i < 16; i++)
            r[i] = i < n ? pairs_of(rows + i * dim + at, left, &s.norm2[i], &s.lost2[i])
                         : _mm512_setzero_si512();
        transpose(r);
        for (size_t k = 0; k < (left + 1) / 2; k++)
            _mm512_mask_storeu_epi32(panel + (at / 2 + k) * lanes + first, lanes_of(lanes - first),
                                     r[k]);
    }
    sums_to(&s, n, norm2, lost2);
}

void dot_pack_bf16(uint32_t *panel, size_t lanes, const float *rows, size_t n, size_t dim,
                   const struct dot_packed *to)
{
    for (size_t i = 0; i < lanes; i += 16)
        pack_16_bf16(panel, lanes, i, rows + i * dim, i < n ? (n - i < 16 ? n - i : 16) : 0, dim,
                     to->norm2 + i, to->lost2 + i);
}

// A row as int8: q = x / scale rounded, so |q| <= 127.
struct quantizer_avx512 {
    __m512 inverse, scale;
    __m512i sum;
};

// Rows of values so small that 1 / scale overflows become zeros, which `lost` then says.
PACK_I8 static float start_row(struct quantizer_avx512 *q, const float *x, size_t dim)
{
    __m512 most = _mm512_setzero_ps();
    for (size_t at = 0; at < dim; at += 16)
        most =
            _mm512_max_ps(most, _mm512_abs_ps(_mm512_maskz_loadu_ps(lanes_of(dim - at), x + at)));
    float greatest = _mm512_reduce_max_ps(most), scale = greatest > 1e-30f ? greatest / 127 : 0;
    q->scale = _mm512_set1_ps(scale);
    q->inverse = _mm512_set1_ps(scale > 0 ? 1 / scale : 0);
    q->sum = _mm512_setzero_si512();
    return scale;
}

PACK_I8 static inline __m128i bytes_of(struct quantizer_avx512 *q, const float *x, size_t n,
                                       __m512 *norm2, __m512 *lost2)
{
    __m512 v = _mm512_maskz_loadu_ps(lanes_of(n), x);
    __m512i i = _mm512_cvtps_epi32(_mm512_mul_ps(v, q->inverse));
    __m512 lost = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(i), q->scale, v);
    *norm2 = _mm512_fmadd_ps(v, v, *norm2);
    *lost2 = _mm512_fmadd_ps(lost, lost, *lost2);
    q->sum = _mm512_add_epi32(q->sum, i);
    return _mm512_cvtsepi32_epi8(i);
}

// 64 values of a row (those there are) as 16 words.
PACK_I8 static __m512i words_of(struct quantizer_avx512 *q, const float *x, size_t n, __m512 *norm2,
                                __m512 *lost2)
{
    __m128i b[4];
    for (size_t c = 0; c < 4; c++)
        b[c] = n > 16 * c ? bytes_of(q, x + 16 * c, n - 16 * c, norm2, lost2) : _mm_setzero_si128();
    __m512i r = _mm512_castsi128_si512(b[0]);
    r = _mm512_inserti32x4(r, b[1], 1);
    r = _mm512_inserti32x4(r, b[2], 2);
    return _mm512_inserti32x4(r, b[3], 3);
}

PACK_I8 static void pack_16_i8(uint32_t *panel, size_t lanes, size_t first, const float *rows,
                               size_t n, size_t dim, uint32_t flip, const struct dot_packed *to)
{
    struct squares s;
    struct quantizer_avx512 q[16];
    __m512i r[16], flips = _mm512_set1_epi32((int)flip);
    for (size_t i = 0; i < 16; i++)
        s.norm2[i] = s.lost2[i] = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i++)
        to->scale[first + i] = start_row(&q[i], rows + i * dim, dim);
    for (size_t at = 0; at < dim; at += 64) {
        size_t left = dim - at < 64 ? dim - at : 64;
        for (size_t i = 0; i < 16; i++)
            r[i] = i < n ? words_of(&q[i], rows + i * dim + at, left, &s.norm2[i], &s.lost2[i])
                         : _mm512_setzero_si512();
        transpose(r);
        for (size_t k = 0; k < (left + 3) / 4; k++)
            _mm512_mask_storeu_epi32(panel + (at / 4 + k) * lanes + first, lanes_of(lanes - first),
                                     _mm512_xor_si512(r[k], flips));
    }
    sums_to(&s, n, to->norm2 + first, to->lost2 + first);
    for (size_t i = 0; i < n; i++)
        to->minus[first + i] = 128 * _mm512_reduce_add_epi32(q[i].sum);
}

void dot_pack_i8(uint32_t *panel, size_t lanes, const float *rows, size_t n, size_t dim,
                 uint32_t flip, const struct dot_packed *to)
{
    for (size_t i = 0; i < lanes; i += 16)
        pack_16_i8(panel, lanes, i, rows + i * dim, i < n ? (n - i < 16 ? n - i : 16) : 0, dim,
                   flip, to);
}

#else

void dot_pack_bf16(uint32_t *panel, size_t lanes, const float *rows, size_t n, size_t dim,
                   const struct dot_packed *to)
{
    (void)panel, (void)lanes, (void)rows, (void)n, (void)dim, (void)to;
}

void dot_pack_i8(uint32_t *panel, size_t lanes, const float *rows, size_t n, size_t dim,
                 uint32_t flip, const struct dot_packed *to)
{
    (void)panel, (void)lanes, (void)rows, (void)n, (void)dim, (void)flip, (void)to;
}

#endif
