// SPDX-License-Identifier: Apache-2.0
// Whole transforms against Pillow's bytes; random crops by their bounds and by what they repeat.
#include <math.h>
#include <string.h>

#include "image/crop.h"
#include "unit/image-refs.h"
#include "unit/tap.h"

// "squash-bilinear" and the like; false for lines that are no transform.
static bool parse_what(const char *what, struct crop_params *p)
{
    static const char *const modes[] = {
        [CROP_SHORTEST] = "shortest-", [CROP_SQUASH] = "squash-", [CROP_PAD] = "pad-"};
    for (int i = 0; i < 3; i++)
        if (strncmp(what, modes[i], strlen(modes[i])) == 0) {
            p->resize = (enum crop_resize)i;
            p->filter = strstr(what, "bicubic") ? RESIZE_BICUBIC : RESIZE_BILINEAR;
            return true;
        }
    return false;
}

static void test_references(void)
{
    struct image im = {0};
    struct resizer r = {0};
    struct ref ref;
    static uint8_t out[256 * 256 * 3];
    FILE *f = ref_open();
    int lines = 0, equal = 0;
    while (ref_next(f, &ref)) {
        struct err e;
        struct map m;
        struct crop_params p = crop_params_default;
        memcpy(p.fill, (uint8_t[]){10, 20, 30}, 3);
        if (!parse_what(ref.what, &p) || ref.width > 256)
            continue;
        p.size = ref.width;
        ref_map(&m, ref.file);
        struct image_limits lim = image_limits_default;
        lim.alpha = IMAGE_ALPHA_WHITE; // as the references were made
        bool good = image_decode(&im, m.data, m.n, &lim, &e) == 0 &&
                    crop_make(&r, &im, &p, NULL, out, &e) == 0 &&
                    ref_crc(out, ref.width, ref.height) == ref.crc;
        map_close(&m);
        lines++;
        equal += good;
        if (!good)
            printf("# %s %s %d differs\n", ref.file, ref.what, ref.width);
    }
    fclose(f);
    ok(lines > 500 && equal == lines, "%d of %d transforms equal Pillow's", equal, lines);
    image_release(&im);
    resize_release(&r);
}

// A picture whose red is the column and green the row, so that a crop tells where it was.
static struct image gradient(int width, int height)
{
    struct image im = {.width = width, .height = height};
    im.rgb = malloc((size_t)width * (size_t)height * 3);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            uint8_t *p = im.rgb + ((size_t)y * (size_t)width + (size_t)x) * 3;
            p[0] = (uint8_t)x;
            p[1] = (uint8_t)y;
            p[2] = 0;
        }
    return im;
}

static void make(struct image *im, struct crop_params *p, uint64_t sample, uint8_t *out)
{
    struct resizer r = {0};
    struct err e;
    struct rng g;
    rng_init(&g, 7, sample);
    if (crop_make(&r, im, p, &g, out, &e))
        printf("# %s\n", e.text);
    resize_release(&r);
}

static void test_random(void)
{
    enum { N = 64, SAMPLES = 400 };
    struct image im = gradient(200, 150);
    struct crop_params p = crop_params_default;
    static uint8_t a[N * N * 3], b[N * N * 3];
    p.size = N;
    p.random = true;
    double area = 0, ratio_low = 9, ratio_high = 0;
    bool inside = true;
    for (uint64_t s = 0; s < SAMPLES; s++) {
        make(&im, &p, s, a);
        const uint8_t *last = a + (N * N - 1) * 3;
        double width = (last[0] - a[0]) * (N / (N - 1.0)),
               height = (last[1] - a[1]) * (N / (N - 1.0));
        double part = width * height / (200 * 150), ratio = width / height;
        inside = inside && part > 0.86 && part < 1.03;
        area += part / SAMPLES;
        ratio_low = fmin(ratio_low, ratio);
        ratio_high = fmax(ratio_high, ratio);
    }
    ok(inside && fabs(area - 0.95) < 0.02, "random crops take 0.9 to 1.0 of the area (%.3f)", area);
    ok(ratio_low > 1.1 && ratio_high < 1.5 && ratio_high - ratio_low > 0.05,
       "at several ratios (%.2f to %.2f)", ratio_low, ratio_high);
    make(&im, &p, 3, a);
    make(&im, &p, 3, b);
    ok(memcmp(a, b, sizeof a) == 0, "the same sample is cut the same way");
    int others = 0;
    for (uint64_t s = 0; s < 20; s++) {
        make(&im, &p, s, a);
        make(&im, &p, s + 1, b);
        others += memcmp(a, b, sizeof a) != 0;
    }
    ok(others > 10, "the next sample mostly another way (%d of 20)", others);
    image_release(&im);
}

static void test_narrow(void)
{
    enum { N = 16 };
    struct crop_params p = crop_params_default;
    static uint8_t a[N * N * 3];
    p.size = N;
    p.random = true;
    struct image im = gradient(200, 10);
    make(&im, &p, 1, a);
    int middle = (a[(N / 2 - 1) * 3] + a[N / 2 * 3]) / 2;
    ok(abs(middle - 100) <= 1 && a[0] >= 92 && a[(N - 1) * 3] <= 107,
       "a picture too wide for any try gives its middle");
    image_release(&im);
    im = gradient(1, 200);
    make(&im, &p, 1, a);
    ok(a[1] == 99 || a[1] == 100, "as does one a pixel wide (%d)", a[1]);
    image_release(&im);
}

static void test_flip(void)
{
    enum { N = 32, SAMPLES = 200 };
    struct image im = gradient(N, N);
    struct crop_params p = crop_params_default;
    static uint8_t a[N * N * 3];
    p.size = N;
    p.flip = true;
    int flipped = 0;
    bool whole = true;
    for (uint64_t s = 0; s < SAMPLES; s++) {
        make(&im, &p, s, a);
        bool mirrored = a[0] != 0;
        flipped += mirrored;
        for (int x = 0; x < N; x++)
            whole = whole && a[(N * 5 + x) * 3] == (mirrored ? N - 1 - x : x);
    }
    ok(whole && flipped > 70 && flipped < 130, "about half are mirrored (%d of %d)", flipped,
       SAMPLES);
    image_release(&im);
}

static void test_check(void)
{
    struct err e;
    struct crop_params p = crop_params_default;
    ok(crop_check(&p, &e) == 0, "the defaults are allowed");
    p.size = 0;
    ok(crop_check(&p, &e) == -1, "refused: %s", e.text);
    p = crop_params_default;
    p.scale_least = 1.1;
    ok(crop_check(&p, &e) == -1, "refused: %s", e.text);
    p = crop_params_default;
    p.ratio_least = NAN;
    ok(crop_check(&p, &e) == -1, "refused: %s", e.text);
    p = crop_params_default;
    ok(crop_fast_side(&p) == 224, "a middle crop needs its own size");
    p.random = true;
    double least = p.scale_least;
    p.scale_least = 1e-30;
    ok(crop_fast_side(&p) == IMAGE_SIDE_MAX, "of nearly no area: no side is enough");
    p.scale_least = least;
    ok(crop_fast_side(&p) >= 224 * 1.155, "a random crop needs more (%d)", crop_fast_side(&p));
}

int main(void)
{
    test_references();
    test_random();
    test_narrow();
    test_flip();
    test_check();
    return tap_done();
}
