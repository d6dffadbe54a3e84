// SPDX-License-Identifier: Apache-2.0
// Changes of colour against torchvision's bytes, all 16.7 million colours among what must not go
// wrong; what is drawn by its shares and by what it repeats.
#include <string.h>
#include <zlib.h>

#include "formats/npy.h"
#include "image/jitter.h"
#include "unit/tap.h"

enum { PICTURES = 5, PIXELS = 32 * 32, BYTES = PIXELS * 3 };
static uint8_t pictures[PICTURES][BYTES], changed[PICTURES][BYTES];

static void read_pictures(void)
{
    struct npy a;
    struct err e;
    if (npy_open(&a, "tests/data/images/colours.npy", &e) || a.h.rows != PICTURES) {
        printf("Bail out! no pictures; run in the root of the tree\n");
        return;
    }
    memcpy(pictures, a.data, sizeof pictures);
    npy_close(&a);
}

static void test_references(void)
{
    enum { GRAY = -1 };
    static const struct {
        const char *name;
        int n, kind[JITTER_KINDS];
        double factor[JITTER_KINDS];
        uint32_t crc;
    } refs[] = {
        {"brightness 0.6", 1, {JITTER_BRIGHTNESS}, {0.6}, 0xde558e13},
        {"brightness 1.4", 1, {JITTER_BRIGHTNESS}, {1.4}, 0xb42e2452},
        {"contrast 0.6", 1, {JITTER_CONTRAST}, {0.6}, 0x932b2d73},
        {"contrast 1.4", 1, {JITTER_CONTRAST}, {1.4}, 0x4de04668},
        {"saturation 0.5", 1, {JITTER_SATURATION}, {0.5}, 0x374ee859},
        {"saturation 1.5", 1, {JITTER_SATURATION}, {1.5}, 0xf0cd5201},
        {"hue -0.1", 1, {JITTER_HUE}, {-0.1}, 0xb458a1cc},
        {"hue 0.08", 1, {JITTER_HUE}, {0.08}, 0x38dda3a5},
        {"gray", 1, {GRAY}, {0}, 0x10c923f6},
        {"four in a row",
         4,
         {JITTER_BRIGHTNESS, JITTER_CONTRAST, JITTER_SATURATION, JITTER_HUE},
         {1.3, 0.8, 1.2, 0.05},
         0x2dcb7984},
    };
    for (size_t i = 0; i < sizeof refs / sizeof *refs; i++) {
        memcpy(changed, pictures, sizeof changed);
        for (int p = 0; p < PICTURES; p++)
            for (int k = 0; k < refs[i].n; k++)
                if (refs[i].kind[k] == GRAY)
                    jitter_gray(changed[p], PIXELS);
                else
                    jitter_one((enum jitter_kind)refs[i].kind[k], refs[i].factor[k], changed[p],
                               PIXELS);
        ok(crc32(0, changed[0], sizeof changed) == refs[i].crc, "%s: torchvision's bytes",
           refs[i].name);
    }
}

// A turn of 0 goes through hue and back: no channel may move by more than the bytes of hue and
// saturation allow, and greys stay.
static void test_all_colours(void)
{
    static uint8_t row[256 * 3], was[256 * 3];
    int most = 0, grey = 0;
    for (int r = 0; r < 256; r++)
        for (int g = 0; g < 256; g++) {
            for (int b = 0; b < 256; b++)
                memcpy(row + 3 * b, (uint8_t[]){(uint8_t)r, (uint8_t)g, (uint8_t)b}, 3);
            memcpy(was, row, sizeof was);
            jitter_one(JITTER_HUE, 0, row, 256);
            for (int i = 0; i < 256 * 3; i++) {
                int d = row[i] < was[i] ? was[i] - row[i] : row[i] - was[i];
                most = d > most ? d : most;
            }
            if (r == g)
                grey += memcmp(row + 3 * r, was + 3 * r, 3) != 0;
        }
    ok(most <= 7 && grey == 0, "hue 0 of all colours: at most %d off, %d greys changed", most,
       grey);
}

static bool same_after(const struct jitter_params *p, uint64_t stream, uint8_t *out)
{
    struct rng r;
    rng_init(&r, 5, stream);
    memcpy(out, pictures[stream % PICTURES], BYTES);
    jitter_apply(p, out, PIXELS, &r);
    return memcmp(out, pictures[stream % PICTURES], BYTES) == 0;
}

static void test_draws(void)
{
    static uint8_t a[BYTES], b[BYTES];
    const struct jitter_params none = {{0}, 0, 0}, some = {{0.4, 0.4, 0.2, 0.1}, 0.8, 0},
                               grey = {{0}, 0, 0.25};
    int changes = 0, greys = 0, of = 0, repeats = 0, untouched = 0;
    bool coloured[PICTURES];
    for (int p = 0; p < PICTURES; p++) {
        memcpy(a, pictures[p], BYTES);
        jitter_gray(a, PIXELS);
        coloured[p] = memcmp(a, pictures[p], BYTES) != 0;
    }
    for (uint64_t i = 0; i < 1000; i++) {
        untouched += same_after(&none, i, a);
        of += coloured[i % PICTURES];
        greys += !same_after(&grey, i, a);
        changes += !same_after(&some, i, a);
        same_after(&some, i, b);
        repeats += memcmp(a, b, BYTES) == 0;
    }
    ok(untouched == 1000, "nothing is asked for, nothing changes");
    ok(changes > 760 && changes < 840, "0.8 of the pictures: %d of 1000", changes);
    ok(of >= 400 && greys > 0.2 * of && greys < 0.3 * of,
       "0.25 of the coloured pictures become grey: %d of %d", greys, of);
    ok(repeats == 1000, "the same generator, the same picture");
    struct rng r, s;
    rng_init(&r, 1, 2);
    s = r;
    jitter_apply(&none, a, PIXELS, &r);
    ok(rng_u64(&r) == rng_u64(&s), "nothing is asked for, nothing is drawn");
}

// With ranges of brightness and contrast only, the picture is one of the two orders.
static void test_order(void)
{
    static uint8_t got[BYTES], want[BYTES];
    const struct jitter_params p = {{0.5, 0.5, 0, 0}, 1, 0};
    int brightness_first = 0, contrast_first = 0;
    for (uint64_t i = 0; i < 200; i++) {
        same_after(&p, i, got);
        struct rng r;
        rng_init(&r, 5, i);
        rng_uniform(&r); // the share
        for (uint64_t k = 4; k > 1; k--)
            rng_below(&r, k);
        double brightness = 0.5 + rng_uniform(&r), contrast = 0.5 + rng_uniform(&r);
        for (int first = 0; first < 2; first++) {
            memcpy(want, pictures[i % PICTURES], BYTES);
            for (int k = 0; k < 2; k++) {
                bool c = (k == 0) == (first == 1);
                jitter_one(c ? JITTER_CONTRAST : JITTER_BRIGHTNESS, c ? contrast : brightness, want,
                           PIXELS);
            }
            bool is = memcmp(got, want, BYTES) == 0;
            brightness_first += is && !first;
            contrast_first += is && first;
        }
    }
    ok(brightness_first + contrast_first >= 200 && brightness_first > 70 && contrast_first > 70,
       "both orders come: %d and %d", brightness_first, contrast_first);
}

static void test_check(void)
{
    struct err e;
    const struct jitter_params wrong[] = {
        {{-0.1, 0, 0, 0}, 1, 0}, {{0, 0, 0, 0.6}, 1, 0}, {{0}, 1.5, 0}, {{0}, 0, -1}};
    int refused = 0;
    for (int i = 0; i < 4; i++)
        refused += jitter_check(&wrong[i], &e) != 0;
    ok(refused == 4, "%d of 4 wrong values are refused", refused);
    ok(jitter_check(&(struct jitter_params){{2, 1, 1, 0.5}, 1, 1}, &e) == 0,
       "the limits are taken");
}

int main(void)
{
    read_pictures();
    test_references();
    test_all_colours();
    test_draws();
    test_order();
    test_check();
    return tap_done();
}
