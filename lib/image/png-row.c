// SPDX-License-Identifier: Apache-2.0
// A row of a PNG in each of its forms to RGB, as Pillow's convert("RGB") has it: of 16 bits the
// high ones, except that plain grey is clipped at 255.
#include "image/png.h"

#include <string.h>

static unsigned sample(const struct png_reader *r, const uint8_t *src, size_t i)
{
    unsigned d = (unsigned)r->depth;
    if (d == 8)
        return src[i];
    if (d == 16)
        return (unsigned)(src[2 * i] << 8 | src[2 * i + 1]);
    size_t bit = i * d;
    return src[bit / 8] >> (8 - d - bit % 8) & ((1u << d) - 1);
}

static uint8_t grey_of(const struct png_reader *r, unsigned v)
{
    if (r->depth == 16)
        return v > 255 ? 255 : (uint8_t)v;
    return (uint8_t)(v * 255 / ((1u << r->depth) - 1));
}

static uint8_t high(const struct png_reader *r, unsigned v)
{
    return (uint8_t)(r->depth == 16 ? v >> 8 : v);
}

static void grey_pixel(const struct png_reader *r, const uint8_t *src, size_t i, uint8_t rgba[4])
{
    unsigned v = sample(r, src, i);
    memset(rgba, grey_of(r, v), 3);
    rgba[3] = r->has_clear && v == r->clear[0] ? 0 : 255;
}

static void rgb_pixel(const struct png_reader *r, const uint8_t *src, size_t i, uint8_t rgba[4])
{
    bool clear = r->has_clear;
    for (size_t c = 0; c < 3; c++) {
        unsigned v = sample(r, src, 3 * i + c);
        rgba[c] = high(r, v);
        clear = clear && v == r->clear[c];
    }
    rgba[3] = clear ? 0 : 255;
}

static void pixel(const struct png_reader *r, const uint8_t *src, size_t i, uint8_t rgba[4])
{
    unsigned v;
    switch (r->type) {
    case PNG_GREY:
        grey_pixel(r, src, i, rgba);
        break;
    case PNG_PALETTE:
        v = sample(r, src, i);
        memcpy(rgba, r->palette[v], 3);
        rgba[3] = r->alpha[v];
        break;
    case PNG_GREY_ALPHA:
        memset(rgba, high(r, sample(r, src, 2 * i)), 3);
        rgba[3] = high(r, sample(r, src, 2 * i + 1));
        break;
    case PNG_RGB_ALPHA:
        for (size_t c = 0; c < 4; c++)
            rgba[c] = high(r, sample(r, src, 4 * i + c));
        break;
    default:
        rgb_pixel(r, src, i, rgba);
    }
}

void image_png_row(const struct png_reader *r, const uint8_t *src, uint32_t n, uint8_t *dst,
                   size_t step)
{
    bool white = r->lim->alpha == IMAGE_ALPHA_WHITE;
    if (r->type == PNG_RGB && r->depth == 8 && step == 3 && !(white && r->has_clear)) {
        memcpy(dst, src, (size_t)n * 3);
        return;
    }
    for (size_t i = 0; i < n; i++, dst += step) {
        uint8_t rgba[4];
        pixel(r, src, i, rgba);
        image_from_rgba(dst, rgba, 1, r->lim);
    }
}
