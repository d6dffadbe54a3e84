// SPDX-License-Identifier: Apache-2.0
#include "image/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "image/codec.h"
#include "base/mem.h"

const struct image_limits image_limits_default = {.max_pixels = 89478485, .max_scans = 100};

enum image_format image_format_of(const uint8_t *bytes, size_t n)
{
    if (n >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0)
        return IMAGE_JPEG;
    if (n >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0)
        return IMAGE_PNG;
    if (n >= 12 && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0)
        return IMAGE_WEBP;
    return IMAGE_UNKNOWN;
}

int image_check_size(uint64_t width, uint64_t height, const struct image_limits *lim, struct err *e)
{
    if (width == 0 || height == 0)
        return err_set(e, "picture of no size");
    if (width > IMAGE_SIDE_MAX || height > IMAGE_SIDE_MAX)
        return err_set(e, "picture of %llu x %llu is over the limit of %d pixels a side",
                       (unsigned long long)width, (unsigned long long)height, IMAGE_SIDE_MAX);
    if (width * height > lim->max_pixels)
        return err_set(e, "picture of %llu x %llu is over the limit of %llu pixels",
                       (unsigned long long)width, (unsigned long long)height,
                       (unsigned long long)lim->max_pixels);
    return 0;
}

// Contents need not survive, so a buffer too small is replaced, not grown.
static int reserve(uint8_t **buf, size_t *cap, size_t rows, size_t pitch, struct err *e)
{
    size_t need;
    if (!mem_mul(rows, pitch, &need))
        return err_set(e, "picture too large");
    if (need <= *cap)
        return 0;
    free(*buf);
    *cap = 0;
    *buf = mem_alloc(need, 1, e);
    if (!*buf)
        return -1;
    *cap = need;
    return 0;
}

int image_reserve(struct image *im, uint64_t width, uint64_t height, const struct image_limits *lim,
                  struct err *e)
{
    if (image_check_size(width, height, lim, e))
        return -1;
    if (reserve(&im->rgb, &im->cap, (size_t)height, (size_t)width * 3, e))
        return -1;
    im->width = im->full_width = (int)width;
    im->height = im->full_height = (int)height;
    return 0;
}

int image_reserve_work(struct image *im, size_t rows, size_t pitch, struct err *e)
{
    return reserve(&im->work, &im->work_cap, rows, pitch, e);
}

void image_from_rgba(uint8_t *dst, const uint8_t *src, size_t pixels,
                     const struct image_limits *lim)
{
    for (size_t i = 0; i < pixels; i++, src += 4, dst += 3) {
        unsigned a = lim->alpha == IMAGE_ALPHA_WHITE ? src[3] : 255;
        unsigned white = 255 * (255 - a) + 127;
        for (int c = 0; c < 3; c++)
            dst[c] = (uint8_t)((src[c] * a + white) / 255);
    }
}

static int decode(struct image *im, const uint8_t *bytes, size_t n, const struct image_limits *lim,
                  struct err *e)
{
    switch (im->format) {
    case IMAGE_JPEG:
        return image_jpeg(im, bytes, n, lim, e);
    case IMAGE_PNG:
        return image_png(im, bytes, n, lim, e);
    case IMAGE_WEBP:
        return image_webp(im, bytes, n, lim, e);
    case IMAGE_UNKNOWN:
        break;
    }
    return err_set(e, n ? "neither JPEG, PNG nor WebP" : "empty picture");
}

int image_decode(struct image *im, const uint8_t *bytes, size_t n, const struct image_limits *lim,
                 struct err *e)
{
    im->warned = false;
    im->format = image_format_of(bytes, n);
    // The decoders report some failed allocations as damage, or go on without what they wanted to
    // keep. malloc() leaves ENOMEM behind in every case.
    errno = 0;
    int r = decode(im, bytes, n, lim ? lim : &image_limits_default, e);
    if (errno == ENOMEM && !(r && e->machine))
        r = err_machine(e, "cannot decode a picture: out of memory");
    if (r)
        im->width = im->height = im->full_width = im->full_height = 0;
    return r;
}

void image_release(struct image *im)
{
    free(im->rgb);
    free(im->work);
    *im = (struct image){0};
}
