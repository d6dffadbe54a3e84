// SPDX-License-Identifier: Apache-2.0
// Inner products of many rows with many rows, a block at a time, at the speed of matrix products,
// with a proven bound on their error. A caller that needs an exact decision uses dot_exact where
// the bound leaves a doubt, so results never depend on the kernel, the blocking or the threads.
//
// Four kernels: DOT_F32 (OpenBLAS sgemm, any machine), DOT_BF16 (AVX512_BF16: both sides rounded to
// bfloat16, sums in float32, about twice the speed), DOT_I16 (AVX2: 16 bits and a scale a row,
// exact sums, 1.5 to 2 times the speed of AVX2's float32, a bound tighter than bfloat16's) and
// DOT_I8 (AVX512_VNNI: 8 bits and a scale a row, exact sums, twice the speed of bfloat16, but a
// bound some ten times wider: for finding few products among many).
#ifndef SEARCH_DOT_BLOCK_H
#define SEARCH_DOT_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum dot_kernel { DOT_F32, DOT_BF16, DOT_I16, DOT_I8, DOT_KERNELS };
// The left side of a product is packed in panels of DOT_LEFT rows, the right side of DOT_RIGHT.
enum dot_side { DOT_SIDE_LEFT, DOT_SIDE_RIGHT };
enum { DOT_LEFT = 14, DOT_RIGHT = 32 };
// Rows and columns of the blocks the algorithms work in: the block of results stays in the L2
// cache.
enum { DOT_BLOCK_ROWS = 9 * DOT_LEFT, DOT_BLOCK_COLS = 16 * DOT_RIGHT };

// Whether this machine has a kernel, for rows of so many values.
bool dot_has_kernel(enum dot_kernel kernel, size_t dim);
// The fastest kernel with a narrow error bound (BF16 if available, else F32).
enum dot_kernel dot_best_kernel(void);
const char *dot_kernel_name(enum dot_kernel kernel); // "float32"
// If DOT_I8 leaves more than this share of the products undecided, dot_best_kernel() is faster: one
// exact product costs about as much as a hundred int8 products save.
#define DOT_I8_DOUBT (1.0 / 128)

// One side of a product: n rows of dim values, packed.
struct dot_panel {
    enum dot_kernel kernel;
    enum dot_side side;
    size_t cap, n, dim;
    void *data;        // words in panels (search/dot-block-kernel.h), or float rows
    float *norm;       // per row: |x|, rounded up
    float *lost;       // per row: |x - packed x|, rounded up
    float *scale;      // DOT_I16, DOT_I8, per row: what its values are multiples of
    int32_t *minus;    // DOT_I8, per row: 128 times the sum of its values
    float most, worst; // the greatest norm and lost of all rows
};

// Bytes that a panel of cap rows takes; 0 when they do not fit in size_t.
size_t dot_panel_bytes(enum dot_kernel kernel, enum dot_side side, size_t cap, size_t dim);
// The most of all kernels of this machine: for plans made before a kernel is chosen.
size_t dot_panel_most_bytes(enum dot_side side, size_t cap, size_t dim);
int dot_panel_init(struct dot_panel *p, enum dot_kernel kernel, enum dot_side side, size_t cap,
                   size_t dim, struct err *e);
void dot_panel_release(struct dot_panel *p); // safe on a zeroed struct
// Packs n <= cap rows of finite values, norms at most DOT_MAX_NORM. Rows of zeros are fine.
void dot_panel_set(struct dot_panel *p, const float *rows, size_t n);
// The same in parts, for packing on many threads: the rows [first, first + n) of p->n (set by the
// caller); first is a multiple of DOT_LEFT or DOT_RIGHT, and so is n but for the last part. Then
// dot_panel_done.
void dot_panel_part(struct dot_panel *p, const float *rows, size_t first, size_t n);
void dot_panel_done(struct dot_panel *p);
#define DOT_MAX_NORM 1e15
// Repacks n <= cap rows of `right`, from `first` on, into `left`. Values are not rounded again.
void dot_panel_take(struct dot_panel *left, const struct dot_panel *right, size_t first, size_t n);

// out[i * ld + j] ~ a_(a0 + i) . b_(b0 + j) for i < m, j < n. a0 is a multiple of DOT_LEFT, b0 of
// DOT_RIGHT; out has room for m and n rounded up to these (ld >= n rounded up). Both of one kernel
// and dim.
void dot_block(const struct dot_panel *a, size_t a0, size_t m, const struct dot_panel *b, size_t b0,
               size_t n, float *out, size_t ld);
// |out - exact| is at most this for row i of a with every row of b.
float dot_bound(const struct dot_panel *a, size_t i, const struct dot_panel *b);

// A float above v >= 0, by more than any rounding of a few operations in float64: for bounds.
static inline float dot_round_up(double v)
{
    return (float)(v * (1 + 1e-6) + 1e-37);
}

// The canonical inner product: float64 products (exact) summed in 16 lanes, then in a fixed tree.
// The same bits on every machine.
double dot_exact(const float *a, const float *b, size_t dim);
// The same of rows of float16.
double dot_exact_half(const uint16_t *a, const uint16_t *b, size_t dim);
// out[i] = in[i] * by, in float64, rounded once; in place is fine.
void dot_scale(const float *in, double by, float *out, size_t n);
// The greatest of n > 0 values.
float dot_max(const float *v, size_t n);
// The positions with v[i] >= least, ascending, into at[]; returns how many.
size_t dot_above(const float *v, size_t n, float least, uint32_t *at);

// Row state: what became of it in unit_rows.
enum row_state {
    ROW_OK,         // unit within 1 %
    ROW_RESCALED,   // another norm: usable, counted
    ROW_ZERO,       // all zeros: a failed sample
    ROW_NOT_FINITE, // NaN or Inf (or a norm over DOT_MAX_NORM with scale false): failed
    ROW_LEFT_OUT    // by a choice of the caller: as a failed one
};
static inline bool row_failed(uint8_t state)
{
    return state >= ROW_ZERO;
}
// Makes n rows unit rows (with scale; otherwise values stay) and classes them; failed rows become
// rows of zeros. state may be NULL.
void unit_rows(float *rows, size_t n, size_t dim, bool scale, uint8_t *state);
// The same from `raw` to `unit`, with the norms of the rows (unit, norm may be NULL).
void unit_rows_of(const float *raw, float *unit, size_t n, size_t dim, bool scale, uint8_t *state,
                  double *norm);

#endif
