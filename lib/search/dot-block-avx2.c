// SPDX-License-Identifier: Apache-2.0
// Products of 16 bits and the vector operations on rows where the processor has AVX2.
#include "search/dot-block-kernel.h"

#include <math.h>
#include <string.h>

#include "search/dot-block.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,fma,f16c")))
#define INLINE static inline __attribute__((always_inline, target("avx2,fma,f16c")))

// -- a tile
// The type that is added up; an array of __m256i would not stay in registers.
typedef int32_t sums __attribute__((vector_size(32)));

// Two products a lane, added to it; one instruction of AVX-VNNI, two of AVX2.
INLINE sums add_pairs(sums acc, __m256i x, __m256i y)
{
    return acc + (sums)_mm256_madd_epi16(x, y);
}

INLINE __m256 scaled(sums acc, __m256 scale, float by)
{
    return _mm256_mul_ps(_mm256_mul_ps(_mm256_cvtepi32_ps((__m256i)acc), scale),
                         _mm256_set1_ps(by));
}

// `rows` x 16 sums in registers; rows is a constant where it is called.
INLINE void part_i16(size_t rows, const uint32_t *a, const float *a_scale, const uint32_t *b,
                     const float *b_scale, size_t words, float *out, size_t ld)
{
    sums acc[5][2];
#pragma GCC unroll 5
    for (size_t i = 0; i < rows; i++)
        acc[i][0] = acc[i][1] = (sums){0};
    for (size_t k = 0; k < words; k++, a += DOT_LEFT, b += DOT_RIGHT) {
        __m256i b0 = _mm256_loadu_si256((const __m256i *)(const void *)b);
        __m256i b1 = _mm256_loadu_si256((const __m256i *)(const void *)(b + 8));
#pragma GCC unroll 5
        for (size_t i = 0; i < rows; i++) {
            __m256i x = _mm256_set1_epi32((int)a[i]);
            acc[i][0] = add_pairs(acc[i][0], x, b0);
            acc[i][1] = add_pairs(acc[i][1], x, b1);
        }
    }
    __m256 s0 = _mm256_loadu_ps(b_scale), s1 = _mm256_loadu_ps(b_scale + 8);
#pragma GCC unroll 5
    for (size_t i = 0; i < rows; i++) {
        _mm256_storeu_ps(out + i * ld, scaled(acc[i][0], s0, a_scale[i]));
        _mm256_storeu_ps(out + i * ld + 8, scaled(acc[i][1], s1, a_scale[i]));
    }
}

AVX2 void dot_tile_i16(const struct dot_bytes *a, const struct dot_bytes *b, size_t words,
                       float *out, size_t ld)
{
    _Static_assert(DOT_LEFT == 14 && DOT_RIGHT == 32, "parts of 5, 5 and 4 rows by 16");
    for (size_t j = 0; j < DOT_RIGHT; j += 16) {
        const uint32_t *y = b->data + j;
        const float *s = b->scale + j;
        part_i16(5, a->data, a->scale, y, s, words, out + j, ld);
        part_i16(5, a->data + 5, a->scale + 5, y, s, words, out + 5 * ld + j, ld);
        part_i16(4, a->data + 10, a->scale + 10, y, s, words, out + 10 * ld + j, ld);
    }
}

// -- packing
// A row as int16: q = x / scale rounded.
struct quantizer {
    float scale, inverse;
};

INLINE float sum_ps(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

// The first n of 8 values, then zeros.
INLINE __m256 load_some(const float *x, size_t n)
{
    if (n >= 8)
        return _mm256_loadu_ps(x);
    float t[8] = {0};
    memcpy(t, x, n * sizeof *t);
    return _mm256_loadu_ps(t);
}

// The scale makes |q| at most 32767 a value, and 46340 a row: then a sum of products, and of the
// first so many of them, is under 2^31 by Cauchy-Schwarz. Rounding adds half to a value, sqrt(dim)
// / 2 to a row; 40 is for the rounding of the norm and the scale. Rows of values so small that 1 /
// scale overflows become zeros, which `lost` then says.
AVX2 static struct quantizer start_row(const float *x, size_t dim, float *norm2)
{
    __m256 most = _mm256_setzero_ps(), sum = _mm256_setzero_ps();
    for (size_t at = 0; at < dim; at += 8) {
        __m256 v = load_some(x + at, dim - at);
        most = _mm256_max_ps(most, _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v));
        sum = _mm256_fmadd_ps(v, v, sum);
    }
    *norm2 = sum_ps(sum);
    float greatest = dot_max((const float *)&most, 8);
    double root = sqrt((double)dim);
    // Squares of small values are lost.
    double norm = greatest > 1e-12f ? sqrt(*norm2 * (1 + 1.2e-7 * (double)(dim + 8)))
                                    : (double)greatest * root;
    float scale = (float)fmax(norm / (46300 - root / 2), (double)greatest / 32767);
    if (greatest <= 1e-30f)
        return (struct quantizer){0, 0};
    return (struct quantizer){scale, 1 / scale};
}

INLINE __m256i quantized(const struct quantizer *q, __m256 v, __m256 *lost2)
{
    __m256i i = _mm256_cvtps_epi32(_mm256_mul_ps(v, _mm256_set1_ps(q->inverse)));
    __m256 lost = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(i), _mm256_set1_ps(q->scale), v);
    *lost2 = _mm256_fmadd_ps(lost, lost, *lost2);
    return i;
}

// 16 values of a row (those there are) as 8 pairs.
INLINE __m256i pairs_of(const struct quantizer *q, const float *x, size_t n, __m256 *lost2)
{
    __m256i lo = quantized(q, load_some(x, n), lost2), hi = _mm256_setzero_si256();
    if (n > 8)
        hi = quantized(q, load_some(x + 8, n - 8), lost2);
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(lo, hi), 0xd8);
}

// The transpose of 8 x 8 words.
INLINE void transpose(__m256i r[8])
{
    __m256i t[8], u[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            u[i + 2 * j] = _mm256_unpacklo_epi64(t[i + j], t[i + j + 2]);
            u[i + 2 * j + 1] = _mm256_unpackhi_epi64(t[i + j], t[i + j + 2]);
        }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x20);
        r[i + 4] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x31);
    }
}

// Up to 8 rows into the lanes from `first` on.
AVX2 static void pack_8(uint32_t *panel, size_t lanes, size_t first, const float *rows, size_t n,
                        size_t dim, const struct dot_packed *to)
{
    struct quantizer q[8];
    __m256 lost2[8];
    __m256i r[8];
    size_t live = lanes - first < 8 ? lanes - first : 8;
    for (size_t i = 0; i < n; i++) {
        q[i] = start_row(rows + i * dim, dim, &to->norm2[first + i]);
        lost2[i] = _mm256_setzero_ps();
    }
    for (size_t at = 0; at < dim; at += 16) {
        size_t left = dim - at < 16 ? dim - at : 16;
        for (size_t i = 0; i < 8; i++)
            r[i] = i < n ? pairs_of(&q[i], rows + i * dim + at, left, &lost2[i])
                         : _mm256_setzero_si256();
        transpose(r);
        for (size_t k = 0; k < (left + 1) / 2; k++)
            memcpy(panel + (at / 2 + k) * lanes + first, &r[k], live * sizeof *panel);
    }
    for (size_t i = 0; i < n; i++) {
        to->lost2[first + i] = sum_ps(lost2[i]);
        to->scale[first + i] = q[i].scale;
    }
}

void dot_pack_i16(uint32_t *panel, size_t lanes, const float *rows, size_t n, size_t dim,
                  const struct dot_packed *to)
{
    for (size_t i = 0; i < lanes; i += 8)
        pack_8(panel, lanes, i, rows + i * dim, i < n ? (n - i < 8 ? n - i : 8) : 0, dim, to);
}

// -- rows
// Lane l of the canonical product is element l modulo 16: four registers of 4 float64. The product
// of two float32 is exact in float64, so a fused multiply-add rounds as a multiply and an add do.
INLINE void add_products(__m256d s[4], __m256 lo_x, __m256 lo_y, __m256 hi_x, __m256 hi_y)
{
    s[0] = _mm256_fmadd_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(lo_x)),
                           _mm256_cvtps_pd(_mm256_castps256_ps128(lo_y)), s[0]);
    s[1] = _mm256_fmadd_pd(_mm256_cvtps_pd(_mm256_extractf128_ps(lo_x, 1)),
                           _mm256_cvtps_pd(_mm256_extractf128_ps(lo_y, 1)), s[1]);
    s[2] = _mm256_fmadd_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(hi_x)),
                           _mm256_cvtps_pd(_mm256_castps256_ps128(hi_y)), s[2]);
    s[3] = _mm256_fmadd_pd(_mm256_cvtps_pd(_mm256_extractf128_ps(hi_x, 1)),
                           _mm256_cvtps_pd(_mm256_extractf128_ps(hi_y, 1)), s[3]);
}

// The tree: lane l and lane l + w, for w = 8, 4, 2, 1.
INLINE double sum_of(const __m256d s[4])
{
    __m256d w = _mm256_add_pd(_mm256_add_pd(s[0], s[2]), _mm256_add_pd(s[1], s[3]));
    __m128d x = _mm_add_pd(_mm256_castpd256_pd128(w), _mm256_extractf128_pd(w, 1));
    return _mm_cvtsd_f64(x) + _mm_cvtsd_f64(_mm_unpackhi_pd(x, x));
}

AVX2 double dot_exact_avx2(const float *a, const float *b, size_t dim)
{
    __m256d s[4] = {_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(),
                    _mm256_setzero_pd()};
    size_t i = 0;
    for (; i + 16 <= dim; i += 16)
        add_products(s, _mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), _mm256_loadu_ps(a + i + 8),
                     _mm256_loadu_ps(b + i + 8));
    if (i < dim) {
        float x[16] = {0}, y[16] = {0};
        memcpy(x, a + i, (dim - i) * sizeof *x);
        memcpy(y, b + i, (dim - i) * sizeof *y);
        add_products(s, _mm256_loadu_ps(x), _mm256_loadu_ps(y), _mm256_loadu_ps(x + 8),
                     _mm256_loadu_ps(y + 8));
    }
    return sum_of(s);
}

INLINE __m256 from_half(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}

AVX2 double dot_exact_half_avx2(const uint16_t *a, const uint16_t *b, size_t dim)
{
    __m256d s[4] = {_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(),
                    _mm256_setzero_pd()};
    size_t i = 0;
    for (; i + 16 <= dim; i += 16)
        add_products(s, from_half(a + i), from_half(b + i), from_half(a + i + 8),
                     from_half(b + i + 8));
    if (i < dim) {
        uint16_t x[16] = {0}, y[16] = {0};
        memcpy(x, a + i, (dim - i) * sizeof *x);
        memcpy(y, b + i, (dim - i) * sizeof *y);
        add_products(s, from_half(x), from_half(y), from_half(x + 8), from_half(y + 8));
    }
    return sum_of(s);
}

AVX2 void dot_scale_avx2(const float *in, double by, float *out, size_t n)
{
    __m256d s = _mm256_set1_pd(by);
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        _mm_storeu_ps(out + i,
                      _mm256_cvtpd_ps(_mm256_mul_pd(_mm256_cvtps_pd(_mm_loadu_ps(in + i)), s)));
    for (; i < n; i++)
        out[i] = (float)(in[i] * by);
}

AVX2 float dot_max_avx2(const float *v, size_t n)
{
    __m256 m = _mm256_set1_ps(v[0]);
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        m = _mm256_max_ps(m, _mm256_loadu_ps(v + i));
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    float best = _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
    for (; i < n; i++)
        best = v[i] > best ? v[i] : best;
    return best;
}

AVX2 size_t dot_above_avx2(const float *v, size_t n, float least, uint32_t *at)
{
    __m256 t = _mm256_set1_ps(least);
    size_t found = 0, i = 0;
    for (; i + 8 <= n; i += 8) {
        unsigned hits =
            (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(v + i), t, _CMP_GE_OQ));
        for (; hits; hits &= hits - 1)
            at[found++] = (uint32_t)(i + (unsigned)__builtin_ctz(hits));
    }
    for (; i < n; i++)
        if (v[i] >= least)
            at[found++] = (uint32_t)i;
    return found;
}

#else

void dot_tile_i16(const struct dot_bytes *a, const struct dot_bytes *b, size_t words, float *out,
                  size_t ld)
{
    (void)a, (void)b, (void)words, (void)out, (void)ld;
}

void dot_pack_i16(uint32_t *panel, size_t lanes, const float *rows, size_t n, size_t dim,
                  const struct dot_packed *to)
{
    (void)panel, (void)lanes, (void)rows, (void)n, (void)dim, (void)to;
}

#endif
