// SPDX-License-Identifier: Apache-2.0
// A picture of any size and format as a small JPEG for the report.
#ifndef IMAGE_THUMB_H
#define IMAGE_THUMB_H

#include "image/image.h"
#include "image/resize.h"

// Buffers, kept from one picture to the next. All zero = empty.
struct thumb {
    struct image image;
    struct resizer resizer;
    uint8_t *rgb;
    size_t cap;
    unsigned char *jpeg; // the result, n bytes
    unsigned long n;
};

// Decodes n bytes and makes t->jpeg, its longer side at most `side`; smaller pictures keep their
// size. `quality` is libjpeg's, 1 to 100. 0, or -1 with e set and no result.
int thumb_make(struct thumb *t, const uint8_t *bytes, size_t n, int side, int quality,
               struct err *e);
void thumb_release(struct thumb *t);

#endif
