// SPDX-License-Identifier: Apache-2.0
// Private to png*.c.
#ifndef IMAGE_PNG_H
#define IMAGE_PNG_H

#include <zlib.h>

#include "image/codec.h"

enum { PNG_GREY = 0, PNG_RGB = 2, PNG_PALETTE = 3, PNG_GREY_ALPHA = 4, PNG_RGB_ALPHA = 6 };

struct png_reader {
    const uint8_t *at, *end; // input not read yet
    struct image *im;
    const struct image_limits *lim;
    struct err *e;
    uint32_t width, height;
    int depth, type;
    bool interlaced, has_clear;
    unsigned bits; // of a pixel
    uint8_t palette[256][3], alpha[256];
    uint16_t clear[3]; // the grey or colour that stands for transparent, where has_clear
    uint32_t idat;     // bytes of the current IDAT still to come
    z_stream z;
    uint8_t *row, *before; // this row and the one above, a filter's number in front of each
    size_t pitch, got;     // bytes of a row with that number; those of `row` that are there
    int pass;
    uint32_t y;
};

// Undoes the filter of a row: row[0] is its number, `before` the row above as it is since; both
// have n bytes behind the first. k: bytes of a pixel, 1 where it has less. 0, or -1 with e set.
int png_unfilter(uint8_t *row, const uint8_t *before, size_t n, size_t k, struct err *e);
// n pixels of the file's form to RGB, `step` bytes apart.
void image_png_row(const struct png_reader *r, const uint8_t *src, uint32_t n, uint8_t *dst,
                   size_t step);

#endif
