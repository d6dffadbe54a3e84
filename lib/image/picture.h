// SPDX-License-Identifier: Apache-2.0
// From the encoded picture of one sample to its pixels: decode, resize, crop, mirror, change
// colours.
#ifndef IMAGE_PICTURE_H
#define IMAGE_PICTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image/crop.h"
#include "image/jitter.h"
#include "base/err.h"
#include "base/rng.h"

struct read_picture {
    struct crop_params crop;
    struct jitter_params jitter;
    bool fast; // JPEG decoded at a fraction of its size where that is enough
    enum image_alpha alpha;
    uint64_t max_pixels; // a larger picture is refused before anything is allocated
};

// Buffers of one thread; all zero = empty. Large buffers are freed after each picture.
struct read_scratch {
    struct image image;
    struct resizer resizer;
};
void read_scratch_release(struct read_scratch *s);

// Writes crop.size * crop.size RGB pixels to `out`. *width and *height become those of the stored
// picture, once it is decoded. `r` gives the random choices. 0, or -1: e says what is wrong with
// it.
int read_picture_decode(const struct read_picture *p, struct read_scratch *s, const uint8_t *bytes,
                        size_t n, struct rng *r, uint8_t *out, uint32_t *width, uint32_t *height,
                        struct err *e);

#endif
