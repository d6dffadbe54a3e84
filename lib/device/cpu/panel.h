// SPDX-License-Identifier: Apache-2.0
// Float32 products with a right side that is packed once. They serve the level where oneDNN packs
// it anew for each tile, AVX2, and processors other than x86-64, where a row of oneDNN's products
// depends on its place. Layout: PANEL_ROWS rows of B after PANEL_ROWS rows; of these, PANEL_COLS
// columns after PANEL_COLS columns (a panel, which stays in the first-level cache), zeros past the
// last; of these, row after row.
#ifndef DEVICE_CPU_PANEL_H
#define DEVICE_CPU_PANEL_H

#include <stdbool.h>
#include <stddef.h>

#include "device/cpu/small-gemm.h"

enum { PANEL_ROWS = 192, PANEL_COLS = SMALL_COLS };

// Whether this level's products go by panels.
bool panel_wanted(void);
// Columns of n in whole panels.
static inline size_t panel_cols(size_t n)
{
    return (n + PANEL_COLS - 1) / PANEL_COLS * PANEL_COLS;
}
// Packs B [k, n], element (i, j) at src[i * row_step + j * col_step], float32 or bfloat16, into
// k * panel_cols(n) floats.
void panel_fill(float *panels, size_t k, size_t n, const void *src, bool src_bf16, size_t row_step,
                size_t col_step);
// C[m, panel_cols(n)] = A[m, k] B, rows of A lda and of C ldc apart. Each value is summed in the
// order of k, so a row is the same whatever the others are.
void panel_gemm(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *panels,
                float *c, size_t ldc);

#endif
