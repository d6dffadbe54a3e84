// SPDX-License-Identifier: Apache-2.0
// What dot-block.c runs where the processor has AVX-512 (dot-block-tile.c, dot-block-pack.c,
// dot-block-avx512.c) or AVX2 (dot-block-avx2.c). Internal.
//
// A panel is made of 32-bit words, each with neighbouring values of one row (two of bfloat16 or
// int16, four of int8): word w of row i is panel[w * lanes + i].
#ifndef SEARCH_DOT_BLOCK_KERNEL_H
#define SEARCH_DOT_BLOCK_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// One tile: out[i * ld + j] = the product of row i of a (DOT_LEFT rows) and row j of b (DOT_RIGHT
// rows), both of `words` words.
void dot_tile_bf16(const uint32_t *a, const uint32_t *b, size_t words, float *out, size_t ld);
// The same of int8 values: scale[i] times them are the rows. The instruction multiplies unsigned by
// signed bytes, so the left side has 128 added to each (DOT_FLIP), and `minus`, 128 times the sum
// of a row's values, takes it away again on the right.
#define DOT_FLIP 0x80808080u
struct dot_bytes {
    const uint32_t *data;
    const float *scale;
    const int32_t *minus; // of the right side
};
void dot_tile_i8(const struct dot_bytes *a, const struct dot_bytes *b, size_t words, float *out,
                 size_t ld);
// The same of int16 values, whose `minus` is not used.
void dot_tile_i16(const struct dot_bytes *a, const struct dot_bytes *b, size_t words, float *out,
                  size_t ld);

// Results of packing for each row: the squares of |x| and |x - packed x|, summed in float32; for
// int16 and int8 `scale`, for int8 `minus` too.
struct dot_packed {
    float *norm2, *lost2, *scale;
    int32_t *minus;
};
// Packs n <= lanes rows (lanes at most DOT_RIGHT; the other lanes become zeros). Values at most
// DOT_MAX_NORM. flip: 0, or DOT_FLIP for the left side.
void dot_pack_bf16(uint32_t *panel, size_t lanes, const float *rows, size_t n, size_t dim,
                   const struct dot_packed *to);
void dot_pack_i8(uint32_t *panel, size_t lanes, const float *rows, size_t n, size_t dim,
                 uint32_t flip, const struct dot_packed *to);
void dot_pack_i16(uint32_t *panel, size_t lanes, const float *rows, size_t n, size_t dim,
                  const struct dot_packed *to);

double dot_exact_avx2(const float *a, const float *b, size_t dim);
double dot_exact_half_avx2(const uint16_t *a, const uint16_t *b, size_t dim);
void dot_scale_avx2(const float *in, double by, float *out, size_t n);
float dot_max_avx2(const float *v, size_t n);
size_t dot_above_avx2(const float *v, size_t n, float least, uint32_t *at);
double dot_exact_avx512(const float *a, const float *b, size_t dim);
double dot_exact_half_avx512(const uint16_t *a, const uint16_t *b, size_t dim);
void dot_scale_avx512(const float *in, double by, float *out, size_t n);
float dot_max_avx512(const float *v, size_t n);
size_t dot_above_avx512(const float *v, size_t n, float least, uint32_t *at);

#endif
