// SPDX-License-Identifier: Apache-2.0
// Resizes RGB8 pictures to the very bytes that Pillow's Image.resize gives: an antialiasing filter
// (its support grows with the reduction), weights normalised in double and rounded to 22-bit fixed
// point, columns first, rounded to 8 bits, then rows. Only what a window of the result needs is
// computed.
#ifndef IMAGE_RESIZE_H
#define IMAGE_RESIZE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum resize_filter { RESIZE_BILINEAR, RESIZE_BICUBIC }; // triangle; Keys' cubic, a = -0.5

// The weights of one axis, for outputs first_out .. first_out + n_out - 1.
struct resize_axis {
    int in, out, first_out, n_out; // the tables below are for these
    enum resize_filter filter;
    const struct resize_passes *passes; // and for these loops
    int taps;        // input samples that each output takes, weights of 0 included
    size_t step;     // taps, up to a multiple of 4: weights kept per output, those after taps 0
    int32_t *from;   // [n_out] first input sample; from + taps <= in
    int32_t *weight; // [n_out][step] 22-bit fixed point
    uint8_t *split;  // [n_out][step / 4][16] four weights as the SIMD loops want them
    size_t from_cap, weight_cap, split_cap; // items allocated
};

// Tables and scratch, one per thread, kept from one picture to the next. All zero = empty.
struct resizer {
    const struct resize_passes
        *passes; // loops to use (lib/image/resize-pass.h), NULL = the fastest
    struct resize_axis x, y;
    uint8_t *rows; // picture rows resized in x, waiting for the pass over y
    size_t rows_cap;
    uint8_t *edge; // copies of the last rows of the source, so that SIMD may read past their ends
    size_t edge_cap;
};

// A source: `height` rows of `width` RGB pixels, `pitch` bytes apart. Not owned.
struct resize_view {
    const uint8_t *rgb;
    size_t pitch;
    int width, height;
};

// The result: a window of a picture of full_width x full_height; only the window is computed.
struct resize_window {
    int full_width, full_height;
    int left, top, width, height; // within the full picture
};

// Writes the window to dst, rows dst_pitch bytes apart (>= 3 * window width). 0 or -1.
int resize_rgb(struct resizer *r, const struct resize_view *src, const struct resize_window *win,
               enum resize_filter filter, uint8_t *dst, size_t dst_pitch, struct err *e);
void resize_release(struct resizer *r);

#endif
