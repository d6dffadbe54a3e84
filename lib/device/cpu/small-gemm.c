// SPDX-License-Identifier: Apache-2.0
#include "device/cpu/small-gemm.h"

#include "base/isa.h"

struct block {
    size_t k, a_row, a_col, ldb, ldc;
    bool add;          // to what is in C, as if the sums had begun there
    const float *next; // what will be B after this, fetched meanwhile; may be NULL
};

// One row of SMALL_COLS values. The portable form multiplies, then adds: without hardware for it,
// fmaf() costs about a hundred times as much.
typedef float lanes __attribute__((vector_size(4 * SMALL_COLS), aligned(4), may_alias));

static void small_plain(size_t m, size_t n, const struct block *s, const float *a, const float *b,
                        float *c)
{
    for (size_t j = 0; j < n; j += SMALL_COLS)
        for (size_t i = 0; i < m; i++) {
            lanes sum = {0};
            if (s->add)
                sum = *(const lanes *)(c + i * s->ldc + j);
            for (size_t p = 0; p < s->k; p++)
                sum += a[i * s->a_row + p * s->a_col] * *(const lanes *)(b + p * s->ldb + j);
            *(lanes *)(c + i * s->ldc + j) = sum;
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
            acc[i][v] =
                s->add ? _mm512_loadu_ps(c + (size_t)i * s->ldc + 16 * v) : _mm512_setzero_ps();
    for (size_t p = 0; p < s->k; p++, a += s->a_col, b += s->ldb) {
        __m512 y[4];
#pragma GCC unroll 6
        for (int v = 0; v < vecs; v++)
            y[v] = _mm512_loadu_ps(b + 16 * v);
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            __m512 x = _mm512_set1_ps(a[(size_t)i * s->a_row]);
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
        tile_512(6, vecs, s, a + i * s->a_row, b, c + i * s->ldc);
    for (; i + 2 <= m; i += 2)
        tile_512(2, vecs, s, a + i * s->a_row, b, c + i * s->ldc);
    for (; i < m; i++)
        tile_512(1, vecs, s, a + i * s->a_row, b, c + i * s->ldc);
}

__attribute__((target("avx512f"))) static void small_512(size_t m, size_t n, const struct block *s,
                                                         const float *a, const float *b, float *c)
{
    size_t j = 0;
    for (; j + 64 <= n; j += 64)
        strip_512(4, m, s, a, b + j, c + j);
    for (; j + 32 <= n; j += 32)
        strip_512(2, m, s, a, b + j, c + j);
    for (; j < n; j += 16)
        strip_512(1, m, s, a, b + j, c + j);
}

INLINE_256 void tile_256(int rows, const struct block *s, const float *a, const float *b, float *c)
{
    __m256 acc[6][2];
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
        acc[i][0] = acc[i][1] = _mm256_setzero_ps();
    if (s->add)
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            acc[i][0] = _mm256_loadu_ps(c + (size_t)i * s->ldc);
            acc[i][1] = _mm256_loadu_ps(c + (size_t)i * s->ldc + 8);
        }
    for (size_t p = 0; p < s->k; p++, a += s->a_col, b += s->ldb) {
        __m256 y0 = _mm256_loadu_ps(b), y1 = _mm256_loadu_ps(b + 8);
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            __m256 x = _mm256_set1_ps(a[(size_t)i * s->a_row]);
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

__attribute__((target("avx2,fma"))) static void small_256(size_t m, size_t n, const struct block *s,
                                                          const float *a, const float *b, float *c)
{
    size_t lines = s->next ? s->k / (m / 6 + 1) + 1 : 0; // of `next`, a tile
    for (size_t j = 0; j < n; j += 16) {
        size_t i = 0;
        for (; i + 6 <= m; i += 6) {
            for (size_t x = 0; x < lines; x++)
                __builtin_prefetch(s->next + (i / 6 * lines + x) * 16, 0, 2);
            tile_256(6, s, a + i * s->a_row, b + j, c + i * s->ldc + j);
        }
        for (; i + 4 <= m; i += 4)
            tile_256(4, s, a + i * s->a_row, b + j, c + i * s->ldc + j);
        for (; i + 2 <= m; i += 2)
            tile_256(2, s, a + i * s->a_row, b + j, c + i * s->ldc + j);
        for (; i < m; i++)
            tile_256(1, s, a + i * s->a_row, b + j, c + i * s->ldc + j);
    }
}
#endif

static void small(size_t m, size_t n, const struct block *s, const float *a, const float *b,
                  float *c)
{
#if defined(__x86_64__)
    if (isa_has(ISA_AVX512)) {
        small_512(m, n, s, a, b, c);
        return;
    }
    if (isa_has(ISA_AVX2)) {
        small_256(m, n, s, a, b, c);
        return;
    }
#endif
    small_plain(m, n, s, a, b, c);
}

void small_gemm_at(size_t m, size_t n, size_t k, const float *a, size_t a_row, size_t a_col,
                   const float *b, size_t ldb, float *c, size_t ldc)
{
    const struct block s = {k, a_row, a_col, ldb, ldc, false, NULL};
    small(m, n, &s, a, b, c);
}

void small_gemm_panel(size_t m, size_t k, const float *a, size_t lda, const float *b, float *c,
                      size_t ldc, bool add)
{
    const struct block s = {k, lda, 1, SMALL_COLS, ldc, add, b + k * SMALL_COLS};
    small(m, SMALL_COLS, &s, a, b, c);
}

void small_gemm(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                size_t ldb, float *c, size_t ldc)
{
    small_gemm_at(m, n, k, a, lda, 1, b, ldb, c, ldc);
}
