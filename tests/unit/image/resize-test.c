// SPDX-License-Identifier: Apache-2.0
// SIMD against plain C, windows against the whole, and what a resize must leave alone.
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "image/resize-pass.h"
#include "base/rng.h"
#include "unit/tap.h"

// A copy of exactly the right size, so that the sanitizer sees a read past the end.
static uint8_t *noise(struct rng *g, size_t n, bool stark)
{
    uint8_t *p = malloc(n);
    for (size_t i = 0; i < n; i++)
        p[i] = stark ? (uint8_t)(rng_below(g, 2) * 255) : (uint8_t)rng_u32(g);
    return p;
}

static int side(struct rng *g)
{
    static const int odd[] = {1, 2, 3, 4, 5, 8, 10, 11, 16};
    uint64_t k = rng_below(g, 12);
    return k < 9 ? odd[k] : 1 + (int)rng_below(g, k == 11 ? 900 : 70);
}

static bool same(struct rng *g, struct resizer *simd, struct resizer *plain)
{
    struct err e;
    struct resize_view v = {.width = side(g), .height = side(g)};
    v.pitch = (size_t)v.width * 3 + rng_below(g, 3);
    struct resize_window w = {.full_width = side(g), .full_height = side(g)};
    struct resize_window all = w;
    all.width = w.full_width;
    all.height = w.full_height;
    w.left = (int)rng_below(g, (uint64_t)w.full_width);
    w.top = (int)rng_below(g, (uint64_t)w.full_height);
    w.width = 1 + (int)rng_below(g, (uint64_t)(w.full_width - w.left));
    w.height = 1 + (int)rng_below(g, (uint64_t)(w.full_height - w.top));
    enum resize_filter f = rng_below(g, 2) ? RESIZE_BICUBIC : RESIZE_BILINEAR;
    uint8_t *src =
        noise(g, v.pitch * (size_t)(v.height - 1) + (size_t)v.width * 3, rng_below(g, 2));
    v.rgb = src;
    size_t pitch = (size_t)all.width * 3, row = (size_t)w.width * 3;
    uint8_t *whole = malloc(pitch * (size_t)all.height), *a = malloc(row * (size_t)w.height);
    uint8_t *b = malloc(row * (size_t)w.height);
    bool good = resize_rgb(plain, &v, &all, f, whole, pitch, &e) == 0 &&
                resize_rgb(simd, &v, &w, f, a, row, &e) == 0 &&
                resize_rgb(plain, &v, &w, f, b, row, &e) == 0 &&
                memcmp(a, b, row * (size_t)w.height) == 0;
    for (size_t y = 0; good && y < (size_t)w.height; y++)
        good =
            memcmp(a + y * row, whole + ((size_t)w.top + y) * pitch + (size_t)w.left * 3, row) == 0;
    if (!good)
        printf("# %d x %d to %d x %d, window %d,%d %d x %d\n", v.width, v.height, w.full_width,
               w.full_height, w.left, w.top, w.width, w.height);
    free(src);
    free(whole);
    free(a);
    free(b);
    return good;
}

static void test_same(const char *name, const struct resize_passes *passes)
{
    if (!passes) {
        ok(1, "%s # SKIP not on this processor", name);
        return;
    }
    struct resizer simd = {.passes = passes}, plain = {.passes = &resize_passes_portable};
    struct rng g;
    rng_init(&g, 1, 2);
    bool good = true;
    for (int i = 0; i < 600 && good; i++)
        good = same(&g, &simd, &plain);
    ok(good, "%s and plain C agree, windows are part of the whole", name);
    resize_release(&simd);
    resize_release(&plain);
}

static void test_flat(void)
{
    struct resizer r = {0};
    struct err e;
    uint8_t src[17 * 23 * 3], dst[50 * 7 * 3];
    memset(src, 200, sizeof src);
    struct resize_view v = {.rgb = src, .pitch = 17 * 3, .width = 17, .height = 23};
    struct resize_window w = {.full_width = 50, .full_height = 7, .width = 50, .height = 7};
    bool flat = resize_rgb(&r, &v, &w, RESIZE_BICUBIC, dst, 50 * 3, &e) == 0;
    for (size_t i = 0; i < sizeof dst; i++)
        flat = flat && dst[i] == 200;
    ok(flat, "one colour stays that colour");
    resize_release(&r);
}

static void test_refusals(void)
{
    struct resizer r = {0};
    struct err e;
    uint8_t src[3] = {0}, dst[3];
    struct resize_view v = {.rgb = src, .pitch = 3, .width = 1, .height = 1};
    static const struct resize_window bad[] = {
        {.full_width = 0, .full_height = 1, .width = 1, .height = 1},
        {.full_width = 2, .full_height = 1, .left = 2, .width = 1, .height = 1},
        {.full_width = 2, .full_height = 1, .left = -1, .width = 1, .height = 1},
        {.full_width = 2, .full_height = 2, .top = 1, .width = 1, .height = 2},
        {.full_width = 2, .full_height = 2, .width = 0, .height = 2},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ok(resize_rgb(&r, &v, &bad[i], RESIZE_BICUBIC, dst, 3, &e) == -1, "refused: %s", e.text);
    v.width = 0;
    struct resize_window w = {.full_width = 1, .full_height = 1, .width = 1, .height = 1};
    ok(resize_rgb(&r, &v, &w, RESIZE_BICUBIC, dst, 3, &e) == -1, "refused: %s", e.text);
    resize_release(&r);
}

int main(void)
{
    test_same("AVX2", resize_passes_avx2());
    test_same("AVX-512 VNNI", resize_passes_vnni());
    test_same("the fastest", resize_passes_best());
    test_flat();
    test_refusals();
    return tap_done();
}
