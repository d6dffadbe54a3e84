// SPDX-License-Identifier: Apache-2.0
#include "device/cpu/small-gemm.h"

#include "base/isa.h"

struct block {
    size_t k, lda, ldb, ldc;
};

// One row of SMALL_COLS values. The portable form multiplies, then adds: without hardware for it,
// fmaf() costs about a hundred times as much.
typedef float lanes __attribute__((vector_size(4 * SMALL_COLS), aligned(4), may_alias));

static void small_plain(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                        size_t ldb, float *c, size_t ldc)
{
    for (size_t j = 0; j < n; j += SMALL_COLS)
        for (size_t i = 0; i < m; i++) {
            lanes s = {0};
            for (size_t p = 0; p < k; p++)
                s += a[i * lda + p] * *(const lanes *)(b + p * ldb + j);
            *(lanes *)(c + i * ldc + j) = s;
        }
}

#if defined(__x86_64__)
#include <immintrin.h>

#define INLINE_512 static inline __attribute__((always_inline, target("avx512f")))
#define INLINE_256 static inline __attribute__((always_inline, target("avx2,fma")))

// `rows` x `vecs` accumulators in registers; both are constants where it is called.
INLINE_512 void tile_512(int rows, int vecs, const struct block *s, const float *a, const float *b,
                         float *c)
{
    __m512 acc[6][4];
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 6
        for (int v = 0; v < vecs; v++)
            acc[i][v] = _mm512_setzero_ps();
    for (size_t p = 0; p < s->k; p++) {
        __m512 y[4];
#pragma GCC unroll 6
        for (int v = 0; v < vecs; v++)
            y[v] = _mm512_loadu_ps(b + p * s->ldb + 16 * v);
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            __m512 x = _mm512_set1_ps(a[(size_t)i * s->lda + p]);
#pragma GCC unroll 6
            for (int v = 0; v < vecs; v++)
                acc[i][v] = _mm512_fmadd_ps(x, y[v], acc[i][v]);
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 6
        for (int v = 0; v < vecs; v++)
            _mm512_storeu_ps(c + (size_t)i * s->ldc + 16 * v, acc[i][v]);
}

INLINE_512 void strip_512(int vecs, size_t m, const struct block *s, const float *a, const float *b,
                          float *c)
{
    size_t i = 0;
    for (; i + 6 <= m; i += 6)
        tile_512(6, vecs, s, a + i * s->lda, b, c + i * s->ldc);
    for (; i + 2 <= m; i += 2)
        tile_512(2, vecs, s, a + i * s->lda, b, c + i * s->ldc);
    for (; i < m; i++)
        tile_512(1, vecs, s, a + i * s->lda, b, c + i * s->ldc);
}

__attribute__((target("avx512f"))) static void small_512(size_t m, size_t n, size_t k,
                                                         const float *a, size_t lda, const float *b,
                                                         size_t ldb, float *c, size_t ldc)
{
    struct block s = {k, lda, ldb, ldc};
    size_t j = 0;
    for (; j + 64 <= n; j += 64)
        strip_512(4, m, &s, a, b + j, c + j);
    for (; j + 32 <= n; j += 32)
        strip_512(2, m, &s, a, b + j, c + j);
    for (; j < n; j += 16)
        strip_512(1, m, &s, a, b + j, c + j);
}

INLINE_256 void tile_256(int rows, const struct block *s, const float *a, const float *b, float *c)
{
    __m256 acc[6][2];
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
        acc[i][0] = acc[i][1] = _mm256_setzero_ps();
    for (size_t p = 0; p < s->k; p++) {
        __m256 y0 = _mm256_loadu_ps(b + p * s->ldb), y1 = _mm256_loadu_ps(b + p * s->ldb + 8);
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            __m256 x = _mm256_set1_ps(a[(size_t)i * s->lda + p]);
            acc[i][0] = _mm256_fmadd_ps(x, y0, acc[i][0]);
            acc[i][1] = _mm256_fmadd_ps(x, y1, acc[i][1]);
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++) {
        _mm256_storeu_ps(c + (size_t)i * s->ldc, acc[i][0]);
        _mm256_storeu_ps(c + (size_t)i * s->ldc + 8, acc[i][1]);
    }
}

__attribute__((target("avx2,fma"))) static void small_256(size_t m, size_t n, size_t k,
                                                          const float *a, size_t lda,
                                                          const float *b, size_t ldb, float *c,
                                                          size_t ldc)
{
    struct block s = {k, lda, ldb, ldc};
    for (size_t j = 0; j < n; j += 16) {
        size_t i = 0;
        for (; i + 6 <= m; i += 6)
            tile_256(6, &s, a + i * lda, b + j, c + i * ldc + j);
        for (; i < m; i++)
            tile_256(1, &s, a + i * lda, b + j, c + i * ldc + j);
    }
}

void small_gemm(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                size_t ldb, float *c, size_t ldc)
{
    if (isa_has(ISA_AVX512))
        small_512(m, n, k, a, lda, b, ldb, c, ldc);
    else if (isa_has(ISA_AVX2))
        small_256(m, n, k, a, lda, b, ldb, c, ldc);
    else
        small_plain(m, n, k, a, lda, b, ldb, c, ldc);
}
#else
void small_gemm(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                size_t ldb, float *c, size_t ldc)
{
    small_plain(m, n, k, a, lda, b, ldb, c, ldc);
}
#endif
