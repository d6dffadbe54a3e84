// SPDX-License-Identifier: Apache-2.0
// Small matrix products for attention: everything in cache, no packing.
#ifndef DEVICE_CPU_SMALL_GEMM_H
#define DEVICE_CPU_SMALL_GEMM_H

#include <stdbool.h>
#include <stddef.h>

enum { SMALL_COLS = 16 }; // columns come in multiples of this

// C[m, n] = A[m, k] B[k, n], n a multiple of SMALL_COLS. Each value is summed in the order of k,
// whatever m and n; with fused multiply-adds where the level has them (isa.h).
void small_gemm(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                size_t ldb, float *c, size_t ldc);
// One panel: SMALL_COLS columns of B, rows without gaps. With `add` C += A B, where each sum starts
// from C, so that a product done in parts of k has the same bits as in one.
void small_gemm_panel(size_t m, size_t k, const float *a, size_t lda, const float *b, float *c,
                      size_t ldc, bool add);
// The first with element (i, p) of A at a[i * a_row + p * a_col].
void small_gemm_at(size_t m, size_t n, size_t k, const float *a, size_t a_row, size_t a_col,
                   const float *b, size_t ldb, float *c, size_t ldc);

#endif
