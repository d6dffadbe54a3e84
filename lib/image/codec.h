// SPDX-License-Identifier: Apache-2.0
// Private to lib/image: what the decoders share.
#ifndef IMAGE_CODEC_H
#define IMAGE_CODEC_H

#include "image/image.h"

// Refuses a picture over the limit or of no size. 0 or -1.
int image_check_size(uint64_t width, uint64_t height, const struct image_limits *lim,
                     struct err *e);
// Checks the size, sets it (the full size too), and grows im->rgb to hold it. 0 or -1.
int image_reserve(struct image *im, uint64_t width, uint64_t height, const struct image_limits *lim,
                  struct err *e);
// At least rows * pitch bytes of scratch at im->work. 0 or -1.
int image_reserve_work(struct image *im, size_t rows, size_t pitch, struct err *e);
// RGBA pixels to RGB: alpha dropped, or composited on white, rounding to nearest.
void image_from_rgba(uint8_t *dst, const uint8_t *src, size_t pixels,
                     const struct image_limits *lim);

// One picture of a known format; im->format and im->warned are set by the caller.
int image_jpeg(struct image *im, const uint8_t *bytes, size_t n, const struct image_limits *lim,
               struct err *e);
int image_png(struct image *im, const uint8_t *bytes, size_t n, const struct image_limits *lim,
              struct err *e);
int image_webp(struct image *im, const uint8_t *bytes, size_t n, const struct image_limits *lim,
               struct err *e);

#endif
