// SPDX-License-Identifier: Apache-2.0
#include "device/cpu/panel.h"

#include <stdint.h>
#include <string.h>

#include "base/half.h"
#include "base/isa.h"
#include "device/cpu/small-gemm.h"

bool panel_wanted(void)
{
#ifdef __x86_64__
    return isa_level() == ISA_AVX2;
#else
    return true;
#endif
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

// Up to PANEL_COLS columns. Rows by eights: what is read along a column stays in cache.
static void fill_panel(float *to, size_t k, size_t n, const char *src, bool src_bf16,
                       size_t row_step, size_t col_step)
{
    enum { ROWS = 8 };
    for (size_t i0 = 0; i0 < k; i0 += ROWS)
        for (size_t j = 0; j < n; j++)
            for (size_t i = i0; i < least(k, i0 + ROWS); i++) {
                size_t at = i * row_step + j * col_step;
                to[i * PANEL_COLS + j] =
                    src_bf16 ? bf16_to_f32_one(((const uint16_t *)(const void *)src)[at])
                             : ((const float *)(const void *)src)[at];
            }
    for (size_t i = 0; i < k && n < PANEL_COLS; i++)
        memset(to + i * PANEL_COLS + n, 0, (PANEL_COLS - n) * sizeof *to);
}

void panel_fill(float *panels, size_t k, size_t n, const void *src, bool src_bf16, size_t row_step,
                size_t col_step)
{
    size_t item = src_bf16 ? sizeof(uint16_t) : sizeof(float);
    for (size_t at = 0; at < k; at += PANEL_ROWS)
        for (size_t j = 0; j < n; j += PANEL_COLS) {
            size_t rows = least(k - at, PANEL_ROWS);
            fill_panel(panels + at * panel_cols(n) + j * rows, rows, least(n - j, PANEL_COLS),
                       (const char *)src + (at * row_step + j * col_step) * item, src_bf16,
                       row_step, col_step);
        }
}

void panel_gemm(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *panels,
                float *c, size_t ldc)
{
    for (size_t at = 0; at < k; at += PANEL_ROWS)
        for (size_t j = 0; j < n; j += PANEL_COLS) {
            size_t rows = least(k - at, PANEL_ROWS);
            small_gemm_panel(m, rows, a + at, lda, panels + at * panel_cols(n) + j * rows, c + j,
                             ldc, at > 0);
        }
}
