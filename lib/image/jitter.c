// SPDX-License-Identifier: Apache-2.0
#include "image/jitter.h"

#include <math.h>

int jitter_check(const struct jitter_params *p, struct err *e)
{
    for (int k = 0; k < JITTER_HUE; k++)
        if (!(p->range[k] >= 0 && p->range[k] < INFINITY))
            return err_set(e, "jitter %g: must be a number from 0 on", p->range[k]);
    if (!(p->range[JITTER_HUE] >= 0 && p->range[JITTER_HUE] <= 0.5))
        return err_set(e, "jitter of hue %g: must be 0 to 0.5", p->range[JITTER_HUE]);
    if (!(p->prob >= 0 && p->prob <= 1 && p->gray >= 0 && p->gray <= 1))
        return err_set(e, "probability %g: must be 0 to 1",
                       p->prob >= 0 && p->prob <= 1 ? p->gray : p->prob);
    return 0;
}

// ITU-R 601-2 luma in 16 bits of fraction, as Pillow's convert("L").
static uint8_t luma(const uint8_t *p)
{
    return (uint8_t)((19595u * p[0] + 38470u * p[1] + 7471u * p[2] + 0x8000u) >> 16);
}

// Pillow's blend in float32, which is cut, not rounded: from `base` towards v, and beyond it where
// the factor is over 1.
static uint8_t blend(uint8_t base, uint8_t v, float factor)
{
    float x = (float)base + factor * (float)(v - base);
    x = x < 0 ? 0 : x;
    return (uint8_t)(x > 255 ? 255 : x);
}

static void blend_all(uint8_t base, float factor, uint8_t *rgb, size_t n)
{
    uint8_t of[256];
    for (int v = 0; v < 256; v++)
        of[v] = blend(base, (uint8_t)v, factor);
    for (size_t i = 0; i < 3 * n; i++)
        rgb[i] = of[rgb[i]];
}

static void contrast(float factor, uint8_t *rgb, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += luma(rgb + 3 * i);
    blend_all((uint8_t)((double)sum / (double)n + 0.5), factor, rgb, n);
}

static void saturation(float factor, uint8_t *rgb, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t base = luma(rgb + 3 * i);
        for (int c = 0; c < 3; c++)
            rgb[3 * i + (size_t)c] = blend(base, rgb[3 * i + (size_t)c], factor);
    }
}

// Pillow's convert("HSV"): hue and saturation as bytes of the circle and of 1, cut. Its hue is in
// float32 but for the sums with a constant and what follows, which are in float64.
static void to_hsv(const uint8_t *rgb, uint8_t *hsv)
{
    uint8_t r = rgb[0], g = rgb[1], b = rgb[2];
    uint8_t most = r > g ? r : g, least = r < g ? r : g;
    most = most > b ? most : b;
    least = least < b ? least : b;
    hsv[0] = hsv[1] = 0;
    hsv[2] = most;
    if (most == least)
        return;
    float span = (float)(most - least);
    float from_r = (float)(most - r) / span, from_g = (float)(most - g) / span,
          from_b = (float)(most - b) / span;
    float sixths = r == most   ? from_b - from_g
                   : g == most ? (float)(2.0 + from_r - from_b)
                               : (float)(4.0 + from_g - from_r);
    double turns = sixths / 6.0 + 1.0; // 0.83 to 1.83
    float hue = (float)(turns < 1 ? turns : turns - 1);
    hsv[0] = (uint8_t)(hue * 255.0);
    hsv[1] = (uint8_t)(span / (float)most * 255.0);
}

// Of a channel that lies `part` of the saturation under the value.
static uint8_t under(uint8_t value, double part)
{
    double x = (float)value * (1.0 - part);
    int whole = (int)x;
    return (uint8_t)(whole + (x - whole >= 0.5)); // round(3) without its call
}

static void to_rgb(const uint8_t *hsv, uint8_t *rgb)
{
    uint8_t v = hsv[2];
    int sixth = hsv[0] * 6 / 255;
    float rest = (float)((float)hsv[0] * 6.0 / 255.0 - (float)sixth);
    float s = (float)((float)hsv[1] / 255.0);
    uint8_t least = under(v, s), falling = under(v, s * rest), rising = under(v, s * (1.0 - rest));
    const uint8_t of[6][3] = {{v, rising, least},  {falling, v, least}, {least, v, rising},
                              {least, falling, v}, {rising, least, v},  {v, least, falling}};
    for (int c = 0; c < 3; c++)
        rgb[c] = hsv[1] ? of[sixth % 6][c] : v;
}

static void hue(double part, uint8_t *rgb, size_t n)
{
    uint8_t turn = (uint8_t)(int)(part * 255), hsv[3];
    for (size_t i = 0; i < n; i++) {
        to_hsv(rgb + 3 * i, hsv);
        hsv[0] = (uint8_t)(hsv[0] + turn);
        to_rgb(hsv, rgb + 3 * i);
    }
}

void jitter_one(enum jitter_kind kind, double factor, uint8_t *rgb, size_t n)
{
    switch (kind) {
    case JITTER_BRIGHTNESS:
        blend_all(0, (float)factor, rgb, n);
        break;
    case JITTER_CONTRAST:
        contrast((float)factor, rgb, n);
        break;
    case JITTER_SATURATION:
        saturation((float)factor, rgb, n);
        break;
    case JITTER_HUE:
        hue(factor, rgb, n);
        break;
    }
}

void jitter_gray(uint8_t *rgb, size_t n)
{
    for (size_t i = 0; i < n; i++)
        rgb[3 * i] = rgb[3 * i + 1] = rgb[3 * i + 2] = luma(rgb + 3 * i);
}

static double factor_of(enum jitter_kind kind, double range, struct rng *rng)
{
    double least = kind == JITTER_HUE ? -range : fmax(0, 1 - range);
    double most = kind == JITTER_HUE ? range : 1 + range;
    return least + (most - least) * rng_uniform(rng);
}

// torchvision's ColorJitter: the order first, then a factor for each kind that has a range.
static void jitter_four(const struct jitter_params *p, uint8_t *rgb, size_t n, struct rng *rng)
{
    int order[JITTER_KINDS] = {0, 1, 2, 3};
    double factor[JITTER_KINDS] = {0};
    for (int i = JITTER_KINDS - 1; i > 0; i--) {
        int j = (int)rng_below(rng, (uint64_t)i + 1), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    for (int k = 0; k < JITTER_KINDS; k++)
        if (p->range[k] > 0)
            factor[k] = factor_of((enum jitter_kind)k, p->range[k], rng);
    for (int i = 0; i < JITTER_KINDS; i++)
        if (p->range[order[i]] > 0)
            jitter_one((enum jitter_kind)order[i], factor[order[i]], rgb, n);
}

void jitter_apply(const struct jitter_params *p, uint8_t *rgb, size_t n, struct rng *rng)
{
    if (p->prob > 0 && rng_uniform(rng) < p->prob)
        jitter_four(p, rgb, n, rng);
    if (p->gray > 0 && rng_uniform(rng) < p->gray)
        jitter_gray(rgb, n);
}
