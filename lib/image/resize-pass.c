// SPDX-License-Identifier: Apache-2.0
// The passes in plain C, which the SIMD ones must equal.
#include "image/resize-pass.h"

// Weights of one output sum to 1 and their sizes to less than 2, so 255 times them fits.
static uint8_t to_byte(int32_t sum)
{
    int32_t v = sum >> RESIZE_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void pass_x_row(uint8_t *dst, const uint8_t *src, const struct resize_axis *a)
{
    for (size_t i = 0; i < (size_t)a->n_out; i++, dst += 3) {
        const uint8_t *p = src + (size_t)a->from[i] * 3;
        const int32_t *w = a->weight + i * a->step;
        int32_t red = 1 << (RESIZE_BITS - 1), green = red, blue = red;
        for (int t = 0; t < a->taps; t++, p += 3) {
            red += p[0] * w[t];
            green += p[1] * w[t];
            blue += p[2] * w[t];
        }
        dst[0] = to_byte(red);
        dst[1] = to_byte(green);
        dst[2] = to_byte(blue);
    }
}

static void pass_x(uint8_t *dst, size_t dst_pitch, const uint8_t *const *src,
                   const struct resize_axis *a)
{
    for (size_t i = 0; i < RESIZE_ROWS; i++)
        pass_x_row(dst + i * dst_pitch, src[i], a);
}

static void pass_y(uint8_t *dst, const uint8_t *src, size_t src_pitch, size_t n,
                   const struct resize_axis *a, size_t i)
{
    const int32_t *w = a->weight + i * a->step;
    for (size_t x = 0; x < n; x++) {
        int32_t sum = 1 << (RESIZE_BITS - 1);
        for (size_t t = 0; t < (size_t)a->taps; t++)
            sum += src[t * src_pitch + x] * w[t];
        dst[x] = to_byte(sum);
    }
}

const struct resize_passes resize_passes_portable = {.x = pass_x, .y = pass_y};

const struct resize_passes *resize_passes_best(void)
{
    const struct resize_passes *vnni = resize_passes_vnni(), *avx2 = resize_passes_avx2();
    return vnni ? vnni : avx2 ? avx2 : &resize_passes_portable;
}
