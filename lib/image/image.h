// SPDX-License-Identifier: Apache-2.0
// Decodes JPEG, PNG and WebP, told apart by content, to packed RGB8.
#ifndef IMAGE_IMAGE_H
#define IMAGE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum image_format { IMAGE_UNKNOWN, IMAGE_JPEG, IMAGE_PNG, IMAGE_WEBP };

// One per thread: owns its buffers, which grow as needed and are kept from one picture to the
// next. All zero = empty.
struct image {
    int width, height;           // of rgb
    int full_width, full_height; // as stored; differ from the above only after a fast decode
    uint8_t *rgb;                // height rows of width * 3 bytes, no padding between rows
    enum image_format format;
    bool warned;   // the decoder met corrupt data but went on, as Pillow does
    size_t cap;    // bytes allocated at rgb
    uint8_t *work; // the decoders' scratch
    size_t work_cap;
};

// How transparency is removed: dropped, as open_clip's loaders and torchvision do it (Pillow's
// convert("RGB")), so that the colour under it shows, often black; or put on white, as img2dataset
// does it.
enum image_alpha { IMAGE_ALPHA_DROP, IMAGE_ALPHA_WHITE };

struct image_limits {
    uint64_t max_pixels; // checked against the header, before anything is allocated
    int max_scans;       // of a progressive JPEG: each scan costs a pass over the picture
    int fast_side;       // > 0: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size while
                         // both sides stay >= this; not byte-equal to a full decode
    enum image_alpha alpha;
};

// Used when image_decode is given NULL: 89,478,485 pixels (Pillow's figure), 100 scans.
extern const struct image_limits image_limits_default;

// Longest side of any picture: bounds the filter tables of a resize.
enum { IMAGE_SIDE_MAX = 1 << 18 };

enum image_format image_format_of(const uint8_t *bytes, size_t n);

// Decodes n bytes. JPEG as Pillow's convert("RGB") (ISLOW transform, fancy upsampling, CMYK and
// YCCK taken as inverted); PNG likewise, which for 16 bits means the high byte of colour and
// grey-with-alpha samples, but plain grey saturated at 255; wrong checksums, missing ends and data
// behind the picture are taken or refused as Pillow does. Of an animated WebP the first frame.
// Orientation, gamma and colour profiles are ignored. A picture that ends early is an error. 0, or
// -1 with im of no size, fit for the next call.
int image_decode(struct image *im, const uint8_t *bytes, size_t n, const struct image_limits *lim,
                 struct err *e);
void image_release(struct image *im);

#endif
