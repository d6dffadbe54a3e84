// SPDX-License-Identifier: Apache-2.0
// Decoders against Pillow's pixels, and against pictures that must be refused.
#include <string.h>

#include "image/image.h"
#include "unit/image-refs.h"
#include "unit/tap.h"

static void test_references(void)
{
    static struct image im; // one for all, so that nothing of one picture may show in the next
    FILE *f = ref_open();
    struct ref r;
    while (ref_next(f, &r)) {
        bool bad = strcmp(r.what, "bad") == 0, warned = strcmp(r.what, "warned") == 0;
        bool white = strcmp(r.what, "white") == 0;
        if (!bad && !warned && !white && strcmp(r.what, "decode") != 0)
            continue;
        struct map m;
        struct image_limits lim = image_limits_default;
        lim.alpha = white ? IMAGE_ALPHA_WHITE : IMAGE_ALPHA_DROP;
        struct err e = {.text = ""};
        ref_map(&m, r.file);
        int got = image_decode(&im, m.data, m.n, &lim, &e);
        if (bad) {
            ok(got == -1 && e.text[0] && im.width == 0, "%s is refused: %s", r.file, e.text);
        } else {
            ok(got == 0 && im.width == r.width && im.height == r.height && im.warned == warned &&
                   im.full_width == r.width && ref_crc(im.rgb, im.width, im.height) == r.crc,
               "%s decodes as Pillow does %s", r.file, e.text);
        }
        map_close(&m);
    }
    fclose(f);
    image_release(&im);
}

// Every beginning of a file is an error or, once the pixels are there, the whole picture.
static void test_truncation(const char *file)
{
    struct image im = {0};
    struct map m;
    struct err e;
    ref_map(&m, file);
    uint8_t *copy = malloc(m.n + 1);
    bool sound = copy && image_decode(&im, m.data, m.n, NULL, &e) == 0;
    uint32_t whole = sound ? ref_crc(im.rgb, im.width, im.height) : 0;
    size_t accepted = 0;
    for (size_t n = 0; sound && n < m.n; n++) {
        uint8_t *exact = realloc(copy, n ? n : 1); // so that the sanitizer sees a read past the end
        copy = exact ? exact : copy;
        memcpy(copy, m.data, n);
        if (image_decode(&im, copy, n, NULL, &e) == 0) {
            accepted++;
            sound = ref_crc(im.rgb, im.width, im.height) == whole;
        }
        copy = realloc(copy, m.n + 1);
        sound = sound && copy;
    }
    ok(sound && accepted < 32, "%s: no beginning of it passes for another picture (%zu pass)", file,
       accepted);
    free(copy);
    map_close(&m);
    image_release(&im);
}

static void test_limits(void)
{
    struct image im = {0};
    struct err e;
    struct map m;
    ref_map(&m, "bomb.jpg");
    struct image_limits lim = image_limits_default;
    ok(image_decode(&im, m.data, m.n, &lim, &e) == -1 && im.cap == 0 && im.work_cap == 0 && !im.rgb,
       "a size bomb allocates nothing: %s", e.text);
    map_close(&m);
    ref_map(&m, "444.jpg");
    lim.max_pixels = 97 * 65 - 1;
    ok(image_decode(&im, m.data, m.n, &lim, &e) == -1 && !im.rgb, "one pixel over: %s", e.text);
    lim.max_pixels++;
    ok(image_decode(&im, m.data, m.n, &lim, &e) == 0, "as many pixels as allowed");
    lim.fast_side = 32;
    ok(image_decode(&im, m.data, m.n, &lim, &e) == 0 && im.width == 49 && im.height == 33 &&
           im.full_width == 97 && im.full_height == 65,
       "a fast decode halves");
    lim.fast_side = 9;
    ok(image_decode(&im, m.data, m.n, &lim, &e) == 0 && im.width == 13 && im.height == 9,
       "a fast decode takes an eighth");
    lim.fast_side = 50;
    ok(image_decode(&im, m.data, m.n, &lim, &e) == 0 && im.width == 97, "or all");
    map_close(&m);
    ref_map(&m, "progressive.jpg");
    lim = image_limits_default;
    lim.max_scans = 3;
    ok(image_decode(&im, m.data, m.n, &lim, &e) == -1, "too many scans: %s", e.text);
    map_close(&m);
    image_release(&im);
}

int main(void)
{
    test_references();
    static const char *const whole[] = {"420.jpg",    "1x90.jpg",         "progressive.jpg",
                                        "rgb.png",    "palette.png",      "rgba-interlaced.png",
                                        "lossy.webp", "lossy-alpha.webp", "animated.webp"};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        test_truncation(whole[i]);
    test_limits();
    return tap_done();
}
