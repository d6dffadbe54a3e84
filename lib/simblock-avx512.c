// SPDX-License-Identifier: Apache-2.0
#include "simblock-kernel.h"

#include "simblock.h"

#if defined(__x86_64__)
#include <immintrin.h>

bool sim_has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool sim_has_bf16(void)
{
    return sim_has_avx512() && __builtin_cpu_supports("avx512bf16");
}

// 14 x 2 accumulators, two registers of b and one of a: all but one of the 32 registers.
__attribute__((target("avx512f,avx512bw,avx512bf16"))) void
sim_tile_bf16(const uint32_t *a, const uint32_t *b, size_t pairs, float *out, size_t ld)
{
    __m512 acc[SIM_LEFT][2];
#pragma GCC unroll 14
    for (int i = 0; i < SIM_LEFT; i++)
        acc[i][0] = acc[i][1] = _mm512_setzero_ps();
    for (size_t k = 0; k < pairs; k++) {
        __m512bh b0 = (__m512bh)_mm512_loadu_si512(b + k * SIM_RIGHT);
        __m512bh b1 = (__m512bh)_mm512_loadu_si512(b + k * SIM_RIGHT + 16);
#pragma GCC unroll 14
        for (int i = 0; i < SIM_LEFT; i++) {
            __m512bh x = (__m512bh)_mm512_set1_epi32((int)a[k * SIM_LEFT + i]);
            acc[i][0] = _mm512_dpbf16_ps(acc[i][0], x, b0);
            acc[i][1] = _mm512_dpbf16_ps(acc[i][1], x, b1);
        }
    }
#pragma GCC unroll 14
    for (int i = 0; i < SIM_LEFT; i++) {
        _mm512_storeu_ps(out + i * ld, acc[i][0]);
        _mm512_storeu_ps(out + i * ld + 16, acc[i][1]);
    }
}

#define PACK __attribute__((target("avx512f,avx512bw,avx512bf16")))

// The transpose of 16 x 16 words.
PACK static void transpose(__m512i r[16])
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

// 32 values of a row (those there are) as 16 pairs; the squares go to norm2 and lost2.
PACK static __m512i convert(const float *x, size_t n, __m512 *norm2, __m512 *lost2)
{
    __mmask16 lo = n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1);
    __mmask16 hi = n >= 32 ? 0xffff : n > 16 ? (__mmask16)((1u << (n - 16)) - 1) : 0;
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
PACK static void pack_16(uint32_t *panel, size_t lanes, size_t first, const float *rows, size_t n,
                         size_t dim, float *norm2, float *lost2)
{
    __m512 sum[16], lost[16];
    __m512i r[16];
    __mmask16 there = lanes - first >= 16 ? 0xffff : (__mmask16)((1u << (lanes - first)) - 1);
    for (int i = 0; i < 16; i++)
        sum[i] = lost[i] = _mm512_setzero_ps();
    for (size_t at = 0; at < dim; at += 32) {
        size_t left = dim - at < 32 ? dim - at : 32;
        for (size_t i = 0; i < 16; i++)
            r[i] = i < n ? convert(rows + i * dim + at, left, &sum[i], &lost[i])
                         : _mm512_setzero_si512();
        transpose(r);
        for (size_t k = 0; k < (left + 1) / 2; k++)
            _mm512_mask_storeu_epi32(panel + (at / 2 + k) * lanes + first, there, r[k]);
    }
    for (size_t i = 0; i < n; i++) {
        norm2[i] = _mm512_reduce_add_ps(sum[i]);
        lost2[i] = _mm512_reduce_add_ps(lost[i]);
    }
}

void sim_pack_bf16(uint32_t *panel, size_t lanes, const float *rows, size_t n, size_t dim,
                   float *norm2, float *lost2)
{
    for (size_t i = 0; i < lanes; i += 16)
        pack_16(panel, lanes, i, rows + i * dim, i < n ? (n - i < 16 ? n - i : 16) : 0, dim,
                norm2 + i, lost2 + i);
}

// Lane l of the canonical product is element l modulo 16: two registers of 8 float64. The product
// of two float32 is exact in float64, so a fused multiply-add rounds as a multiply and an add do.
__attribute__((target("avx512f,avx512dq"))) double sim_dot_avx512(const float *a, const float *b,
                                                                  size_t dim)
{
    __m512d lo = _mm512_setzero_pd(), hi = lo;
    size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
        __m512 x = _mm512_loadu_ps(a + i), y = _mm512_loadu_ps(b + i);
        lo = _mm512_fmadd_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(x)),
                             _mm512_cvtps_pd(_mm512_castps512_ps256(y)), lo);
        hi = _mm512_fmadd_pd(_mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)),
                             _mm512_cvtps_pd(_mm512_extractf32x8_ps(y, 1)), hi);
    }
    double s[16];
    _mm512_storeu_pd(s, lo);
    _mm512_storeu_pd(s + 8, hi);
    for (size_t l = 0; i < dim; i++, l++)
        s[l] += (double)a[i] * (double)b[i];
    for (size_t w = 8; w; w /= 2)
        for (size_t l = 0; l < w; l++)
            s[l] += s[l + w];
    return s[0];
}

__attribute__((target("avx512f"))) void sim_scale_avx512(const float *in, double by, float *out,
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

__attribute__((target("avx512f"))) float sim_max_avx512(const float *v, size_t n)
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

__attribute__((target("avx512f"))) size_t sim_above_avx512(const float *v, size_t n, float least,
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

#else

bool sim_has_avx512(void)
{
    return false;
}

bool sim_has_bf16(void)
{
    return false;
}

void sim_tile_bf16(const uint32_t *a, const uint32_t *b, size_t pairs, float *out, size_t ld)
{
    (void)a, (void)b, (void)pairs, (void)out, (void)ld;
}

void sim_pack_bf16(uint32_t *panel, size_t lanes, const float *rows, size_t n, size_t dim,
                   float *norm2, float *lost2)
{
    (void)panel, (void)lanes, (void)rows, (void)n, (void)dim, (void)norm2, (void)lost2;
}

double sim_dot_avx512(const float *a, const float *b, size_t dim)
{
    return sim_dot(a, b, dim);
}

void sim_scale_avx512(const float *in, double by, float *out, size_t n)
{
    sim_scale(in, by, out, n);
}

float sim_max_avx512(const float *v, size_t n)
{
    return sim_max(v, n);
}

size_t sim_above_avx512(const float *v, size_t n, float least, uint32_t *at)
{
    return sim_above(v, n, least, at);
}

#endif
