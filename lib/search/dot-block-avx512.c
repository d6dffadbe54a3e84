// SPDX-License-Identifier: Apache-2.0
// The vector operations on rows.
#include "search/dot-block-kernel.h"

#include <string.h>

#include "search/dot-block.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define ROWS __attribute__((target("avx512f,avx512dq")))

// Lane l of the canonical product is element l modulo 16: two registers of 8 float64. The product
// of two float32 is exact in float64, so a fused multiply-add rounds as a multiply and an add do.
struct lanes {
    __m512d lo, hi;
};

ROWS static inline void add_products(struct lanes *s, __m512 x, __m512 y)
{
    s->lo = _mm512_fmadd_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(x)),
                            _mm512_cvtps_pd(_mm512_castps512_ps256(y)), s->lo);
    s->hi = _mm512_fmadd_pd(_mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)),
                            _mm512_cvtps_pd(_mm512_extractf32x8_ps(y, 1)), s->hi);
}

// The tree: lane l and lane l + w, for w = 8, 4, 2, 1.
ROWS static inline double sum_of(const struct lanes *s)
{
    __m512d v = _mm512_add_pd(s->lo, s->hi);
    __m256d w = _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1));
    __m128d x = _mm_add_pd(_mm256_castpd256_pd128(w), _mm256_extractf128_pd(w, 1));
    return _mm_cvtsd_f64(x) + _mm_cvtsd_f64(_mm_unpackhi_pd(x, x));
}

ROWS double dot_exact_avx512(const float *a, const float *b, size_t dim)
{
    struct lanes s = {_mm512_setzero_pd(), _mm512_setzero_pd()};
    size_t i = 0;
    for (; i + 16 <= dim; i += 16)
        add_products(&s, _mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i));
    if (i < dim) {
        __mmask16 rest = (__mmask16)((1u << (dim - i)) - 1);
        add_products(&s, _mm512_maskz_loadu_ps(rest, a + i), _mm512_maskz_loadu_ps(rest, b + i));
    }
    return sum_of(&s);
}

ROWS double dot_exact_half_avx512(const uint16_t *a, const uint16_t *b, size_t dim)
{
    struct lanes s = {_mm512_setzero_pd(), _mm512_setzero_pd()};
    size_t i = 0;
    for (; i + 16 <= dim; i += 16)
        add_products(&s,
                     _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(a + i))),
                     _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(b + i))));
    if (i < dim) {
        uint16_t x[16] = {0}, y[16] = {0};
        memcpy(x, a + i, (dim - i) * sizeof *x);
        memcpy(y, b + i, (dim - i) * sizeof *y);
        add_products(&s, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)x)),
                     _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)y)));
    }
    return sum_of(&s);
}

__attribute__((target("avx512f"))) void dot_scale_avx512(const float *in, double by, float *out,
                                                         size_t n)
{
    __m512d s = _mm512_set1_pd(by);
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(
            out + i, _mm512_cvtpd_ps(_mm512_mul_pd(_mm512_cvtps_pd(_mm256_loadu_ps(in + i)), s)));
    for (; i < n; i++)
        out[i] = (float)(in[i] * by);
}

__attribute__((target("avx512f"))) float dot_max_avx512(const float *v, size_t n)
{
    __m512 m = _mm512_set1_ps(v[0]);
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        m = _mm512_max_ps(m, _mm512_loadu_ps(v + i));
    float best = _mm512_reduce_max_ps(m);
    for (; i < n; i++)
        best = v[i] > best ? v[i] : best;
    return best;
}

__attribute__((target("avx512f"))) size_t dot_above_avx512(const float *v, size_t n, float least,
                                                           uint32_t *at)
{
    __m512 t = _mm512_set1_ps(least);
    size_t found = 0, i = 0;
    for (; i + 16 <= n; i += 16) {
        unsigned hits = _mm512_cmp_ps_mask(_mm512_loadu_ps(v + i), t, _CMP_GE_OQ);
        for (; hits; hits &= hits - 1)
            at[found++] = (uint32_t)(i + (unsigned)__builtin_ctz(hits));
    }
    for (; i < n; i++)
        if (v[i] >= least)
            at[found++] = (uint32_t)i;
    return found;
}

#endif
