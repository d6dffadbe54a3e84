// SPDX-License-Identifier: Apache-2.0
#include "image/crop.h"

#include <limits.h>
#include <math.h>
#include <string.h>

const char *crop_resize_name(enum crop_resize r)
{
    static const char *const names[] = {"shortest", "squash", "pad"};
    return names[r];
}

const struct crop_params crop_params_default = {.size = 224,
                                                .resize = CROP_SHORTEST,
                                                .filter = RESIZE_BICUBIC,
                                                .scale_least = 0.9,
                                                .scale_most = 1.0,
                                                .ratio_least = 3.0 / 4.0,
                                                .ratio_most = 4.0 / 3.0};

int crop_check(const struct crop_params *p, struct err *e)
{
    enum { SIZE_MOST = 4096 };
    if (p->size < 1 || p->size > SIZE_MOST)
        return err_set(e, "size %d: must be 1 to %d", p->size, SIZE_MOST);
    if (!(p->scale_least > 0 && p->scale_least <= p->scale_most && p->scale_most <= 1))
        return err_set(e, "scale %g,%g: must be two rising parts of 1", p->scale_least,
                       p->scale_most);
    if (!(p->ratio_least > 0 && p->ratio_least <= p->ratio_most && p->ratio_most < INFINITY))
        return err_set(e, "ratio %g,%g: must be two rising numbers over 0", p->ratio_least,
                       p->ratio_most);
    return 0;
}

static int64_t least64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

// Offset of the middle n of `full` >= n: half the rest, rounded half to even as Python does.
static int middle(int full, int n)
{
    return (int)lrint((full - n) / 2.0);
}

// The other side is cut down to a whole number, as torchvision does.
static int make_shortest(struct resizer *r, const struct resize_view *src,
                         const struct crop_params *p, uint8_t *out, struct err *e)
{
    int n = p->size;
    int64_t shorter = least64(src->width, src->height);
    int64_t width = (int64_t)n * src->width / shorter, height = (int64_t)n * src->height / shorter;
    if (width > INT_MAX || height > INT_MAX)
        return err_set(e, "picture of %d x %d is too narrow", src->width, src->height);
    struct resize_window w = {.full_width = (int)width,
                              .full_height = (int)height,
                              .left = middle((int)width, n),
                              .top = middle((int)height, n),
                              .width = n,
                              .height = n};
    return resize_rgb(r, src, &w, p->filter, out, (size_t)n * 3, e);
}

static int make_squashed(struct resizer *r, const struct resize_view *src,
                         const struct crop_params *p, uint8_t *out, struct err *e)
{
    int n = p->size;
    struct resize_window w = {.full_width = n, .full_height = n, .width = n, .height = n};
    return resize_rgb(r, src, &w, p->filter, out, (size_t)n * 3, e);
}

// The longer side to n, the other rounded half to even; where open_clip would make it 0 and fail,
// 1.
static int make_padded(struct resizer *r, const struct resize_view *src,
                       const struct crop_params *p, uint8_t *out, struct err *e)
{
    int n = p->size;
    double tall = (double)src->height / n, wide = (double)src->width / n;
    double ratio = tall > wide ? tall : wide;
    int width = (int)lrint(src->width / ratio), height = (int)lrint(src->height / ratio);
    width = width < 1 ? 1 : width;
    height = height < 1 ? 1 : height;
    size_t pitch = (size_t)n * 3;
    for (size_t i = 0; i < (size_t)n * (size_t)n; i++)
        memcpy(out + i * 3, p->fill, 3);
    uint8_t *at = out + (size_t)((n - height) / 2) * pitch + (size_t)((n - width) / 2) * 3;
    struct resize_window w = {
        .full_width = width, .full_height = height, .width = width, .height = height};
    return resize_rgb(r, src, &w, p->filter, at, pitch, e);
}

struct box {
    int left, top, width, height;
};

// What RandomResizedCrop takes when ten tries gave no box inside the picture: the largest box in
// the middle whose ratio is allowed.
static struct box fallback_box(int width, int height, const struct crop_params *p)
{
    struct box b = {.width = width, .height = height};
    double ratio = (double)width / height;
    if (ratio < p->ratio_least)
        b.height = (int)lrint(fmin(width / p->ratio_least, height));
    else if (ratio > p->ratio_most)
        b.width = (int)lrint(fmin(height * p->ratio_most, width));
    b.width = b.width < 1 ? 1 : b.width;
    b.height = b.height < 1 ? 1 : b.height;
    b.left = (width - b.width) / 2;
    b.top = (height - b.height) / 2;
    return b;
}

// torchvision's RandomResizedCrop.get_params: area uniform, ratio uniform in its logarithm.
static struct box random_box(int width, int height, const struct crop_params *p, struct rng *rng)
{
    double area = (double)width * height;
    double log_least = log(p->ratio_least), log_most = log(p->ratio_most);
    for (int attempt = 0; attempt < 10; attempt++) {
        double part = p->scale_least + (p->scale_most - p->scale_least) * rng_uniform(rng);
        double ratio = exp(log_least + (log_most - log_least) * rng_uniform(rng));
        double w = nearbyint(sqrt(area * part * ratio)), h = nearbyint(sqrt(area * part / ratio));
        if (!(w > 0 && w <= width && h > 0 && h <= height))
            continue;
        struct box b = {.width = (int)w, .height = (int)h};
        b.top = (int)rng_below(rng, (uint64_t)(height - b.height + 1));
        b.left = (int)rng_below(rng, (uint64_t)(width - b.width + 1));
        return b;
    }
    return fallback_box(width, height, p);
}

static void mirror(uint8_t *rgb, size_t n)
{
    for (size_t y = 0; y < n; y++)
        for (size_t i = 0, j = n - 1; i < j; i++, j--) {
            uint8_t *a = rgb + (y * n + i) * 3, *b = rgb + (y * n + j) * 3, t[3];
            memcpy(t, a, 3);
            memcpy(a, b, 3);
            memcpy(b, t, 3);
        }
}

static int make(struct resizer *r, const struct resize_view *src, const struct crop_params *p,
                uint8_t *out, struct err *e)
{
    switch (p->random ? CROP_SQUASH : p->resize) {
    case CROP_SQUASH:
        return make_squashed(r, src, p, out, e);
    case CROP_PAD:
        return make_padded(r, src, p, out, e);
    case CROP_SHORTEST:
        break;
    }
    return make_shortest(r, src, p, out, e);
}

int crop_make(struct resizer *r, const struct image *im, const struct crop_params *p,
              struct rng *rng, uint8_t *out, struct err *e)
{
    if (im->width <= 0 || im->height <= 0)
        return err_set(e, "picture of no size");
    size_t pitch = (size_t)im->width * 3;
    struct resize_view v = {
        .rgb = im->rgb, .pitch = pitch, .width = im->width, .height = im->height};
    if (p->random) {
        struct box b = random_box(im->width, im->height, p, rng);
        v.rgb += (size_t)b.top * pitch + (size_t)b.left * 3;
        v.width = b.width;
        v.height = b.height;
    }
    if (make(r, &v, p, out, e))
        return -1;
    if (p->flip && rng_uniform(rng) < 0.5)
        mirror(out, (size_t)p->size);
    return 0;
}

int crop_fast_side(const struct crop_params *p)
{
    if (!p->random)
        return p->size;
    // A box's shorter side is at least that of its area times the more lopsided ratio, as part of
    // the picture's; never under one size.
    double lopsided = fmin(p->ratio_least, 1 / p->ratio_most);
    double side = ceil(p->size / sqrt(p->scale_least * fmin(lopsided, 1)));
    return side < IMAGE_SIDE_MAX ? (int)side : IMAGE_SIDE_MAX; // then no picture is decoded smaller
}
