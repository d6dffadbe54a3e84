// SPDX-License-Identifier: Apache-2.0
// WebP through libwebp.
#include <webp/decode.h>
#include <webp/demux.h>

#include "image/codec.h"

static const char *status_text(VP8StatusCode s)
{
    switch (s) {
    case VP8_STATUS_OUT_OF_MEMORY:
        return "no memory";
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        return "unsupported feature";
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA:
        return "truncated";
    default:
        return "corrupt data";
    }
}

static int read_still(struct image *im, const uint8_t *bytes, size_t n, WebPDecoderConfig *c,
                      const struct image_limits *lim, struct err *e)
{
    bool alpha = c->input.has_alpha && lim->alpha == IMAGE_ALPHA_WHITE;
    size_t pixels = (size_t)im->width * (size_t)im->height, channels = alpha ? 4 : 3;
    if (alpha && image_reserve_work(im, pixels, 4, e))
        return -1;
    c->output.colorspace = alpha ? MODE_RGBA : MODE_RGB;
    c->output.is_external_memory = 1;
    c->output.u.RGBA.rgba = alpha ? im->work : im->rgb;
    c->output.u.RGBA.stride = im->width * (int)channels;
    c->output.u.RGBA.size = pixels * channels;
    VP8StatusCode s = WebPDecode(bytes, n, c);
    if (s == VP8_STATUS_OK && alpha)
        image_from_rgba(im->rgb, im->work, pixels, lim);
    WebPFreeDecBuffer(&c->output);
    return s == VP8_STATUS_OK ? 0 : err_set(e, "WebP: %s", status_text(s));
}

// The first frame, on its canvas.
static int read_animated(struct image *im, const uint8_t *bytes, size_t n,
                         const struct image_limits *lim, struct err *e)
{
    WebPAnimDecoderOptions options;
    WebPData data = {.bytes = bytes, .size = n};
    WebPAnimDecoderOptionsInit(&options);
    WebPAnimDecoder *d = WebPAnimDecoderNew(&data, &options);
    if (!d)
        return err_set(e, "WebP: corrupt or truncated animation");
    uint8_t *rgba = NULL;
    int time;
    bool got = WebPAnimDecoderGetNext(d, &rgba, &time);
    size_t pixels = (size_t)im->width * (size_t)im->height;
    if (got)
        image_from_rgba(im->rgb, rgba, pixels, lim);
    WebPAnimDecoderDelete(d);
    return got ? 0 : err_set(e, "WebP: corrupt first frame");
}

int image_webp(struct image *im, const uint8_t *bytes, size_t n, const struct image_limits *lim,
               struct err *e)
{
    WebPDecoderConfig c;
    if (!WebPInitDecoderConfig(&c))
        return err_set(e, "WebP: library of another version");
    VP8StatusCode s = WebPGetFeatures(bytes, n, &c.input);
    if (s != VP8_STATUS_OK)
        return err_set(e, "WebP: %s", status_text(s));
    if (c.input.width <= 0 || c.input.height <= 0)
        return err_set(e, "WebP: no size");
    if (image_reserve(im, (uint64_t)c.input.width, (uint64_t)c.input.height, lim, e))
        return -1;
    if (c.input.has_animation)
        return read_animated(im, bytes, n, lim, e);
    return read_still(im, bytes, n, &c, lim, e);
}
