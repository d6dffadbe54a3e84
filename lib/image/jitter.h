// SPDX-License-Identifier: Apache-2.0
// Changes of colour, byte for byte those of torchvision's ColorJitter and RandomGrayscale on
// Pillow's pictures. `rgb` is n pixels of 3 bytes, changed in place.
#ifndef IMAGE_JITTER_H
#define IMAGE_JITTER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/rng.h"

enum jitter_kind { JITTER_BRIGHTNESS, JITTER_CONTRAST, JITTER_SATURATION, JITTER_HUE };
enum { JITTER_KINDS = 4 };

// What is drawn for each picture. All zero: no picture is changed, and nothing is drawn.
struct jitter_params {
    // A factor is uniform in [max(0, 1 - range), 1 + range], a hue in [-range, range] of the
    // circle; 0: that kind is left out.
    double range[JITTER_KINDS];
    double prob; // of the four together
    double gray; // probability of a picture without colour, drawn after the others
};

// Checks what a user may have typed. 0, or -1 with e naming the value.
int jitter_check(const struct jitter_params *p, struct err *e);
// Draws, in an order of the four that is drawn too, and changes the picture.
void jitter_apply(const struct jitter_params *p, uint8_t *rgb, size_t n, struct rng *rng);

// One change. Of brightness, contrast and saturation a factor >= 0, 1 for none; a hue in
// [-0.5, 0.5].
void jitter_one(enum jitter_kind kind, double factor, uint8_t *rgb, size_t n);
void jitter_gray(uint8_t *rgb, size_t n);

#endif
