// SPDX-License-Identifier: Apache-2.0
// A decoded picture to the n x n pixels that a model sees, by open_clip's transforms.
#ifndef IMAGE_CROP_H
#define IMAGE_CROP_H

#include "image/image.h"
#include "image/resize.h"
#include "base/rng.h"

enum crop_resize {
    CROP_SHORTEST, // the shorter side to n, then the middle n x n (torchvision Resize, CenterCrop)
    CROP_SQUASH,   // both sides to n
    CROP_PAD,      // the longer side to n, the rest filled (open_clip's "longest")
};

struct crop_params {
    int size; // n
    enum crop_resize resize;
    enum resize_filter filter;
    uint8_t fill[3];                // of CROP_PAD
    bool random;                    // torchvision's RandomResizedCrop instead of the above
    double scale_least, scale_most; // part of the area that a random crop takes
    double ratio_least, ratio_most; // its width / height
    bool flip;                      // mirror every second sample
};

// open_clip's: 224, shortest, bicubic; random crops, if switched on, of 0.9 to 1.0 of the area and
// 3:4 to 4:3; no flip.
extern const struct crop_params crop_params_default;

const char *crop_resize_name(enum crop_resize r); // "shortest", "squash", "pad"

// Checks the values that options set. 0, or -1 with e naming the value.
int crop_check(const struct crop_params *p, struct err *e);

// Writes size rows of size * 3 bytes to `out`. `rng`: at the start of this sample's stream; may be
// NULL without random and flip. 0 or -1.
int crop_make(struct resizer *r, const struct image *im, const struct crop_params *p,
              struct rng *rng, uint8_t *out, struct err *e);

// The smallest side to decode a picture at (struct image_limits) so that no crop is enlarged.
int crop_fast_side(const struct crop_params *p);

#endif
