// SPDX-License-Identifier: Apache-2.0
// PNG with wrong checksums, missing ends and odd orders of chunks: taken or refused as Pillow 9.4
// takes or refuses them.
#include <stdbool.h>
#include <string.h>
#include <zlib.h>

#include "base/rng.h"
#include "image/image.h"
#include "image/png.h"
#include "unit/tap.h"

enum { W = 5, H = 4, ROW = 1 + W * 3 };

static uint8_t file[8192];
static size_t n;
static uint8_t packed[1024];
static uLongf n_packed;

static void put(const void *p, size_t k)
{
    memcpy(file + n, p, k);
    n += k;
}

static void put32(uint32_t v)
{
    put((uint8_t[]){(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v}, 4);
}

static void chunk(const char *name, const void *data, size_t k, bool good)
{
    put32((uint32_t)k);
    uint32_t crc = (uint32_t)crc32(crc32(0, (const uint8_t *)name, 4), data, (uInt)k);
    put(name, 4);
    put(data, k);
    put32(good ? crc : crc ^ 1);
}

static void start(bool good)
{
    n = 0;
    put("\x89PNG\r\n\x1a\n", 8);
    chunk("IHDR", (uint8_t[]){0, 0, 0, W, 0, 0, 0, H, 8, 2, 0, 0, 0}, 13, good);
}

static void pack(size_t rows)
{
    uint8_t raw[H * ROW];
    for (size_t i = 0; i < sizeof raw; i++)
        raw[i] = i % ROW ? (uint8_t)(i * 7) : 0;
    n_packed = sizeof packed;
    compress(packed, &n_packed, raw, (uLong)(rows * ROW));
}

// 1 = the picture; 2 = its first rows only, the others black; 0 = refused.
static int decoded(void)
{
    static struct image im;
    struct err e;
    if (image_decode(&im, file, n, NULL, &e)) {
        printf("# %s\n", e.text);
        return 0;
    }
    int same = 1;
    for (size_t y = 0; y < H; y++)
        for (size_t x = 0; x < W * 3; x++) {
            uint8_t v = im.rgb[y * W * 3 + x];
            if (v != (uint8_t)((y * ROW + x + 1) * 7))
                same = v == 0 && y ? 2 : -1;
        }
    return same;
}

static void test_checksums(void)
{
    pack(H);
    start(true);
    chunk("IDAT", packed, n_packed, false);
    chunk("IEND", "", 0, false);
    ok(decoded() == 1, "wrong in IDAT and IEND: zlib has its own");
    start(true);
    chunk("IDAT", packed, 10, false);
    chunk("IDAT", packed, 0, true);
    chunk("IDAT", packed + 10, n_packed - 10, false);
    chunk("tEXt", "a\0b", 3, false);
    ok(decoded() == 1, "in several, and behind the picture");
    start(false);
    chunk("IDAT", packed, n_packed, true);
    ok(decoded() == 0, "wrong in IHDR");
    start(true);
    chunk("tEXt", "a\0b", 3, false);
    chunk("IDAT", packed, n_packed, true);
    ok(decoded() == 0, "in any chunk before the picture");
    packed[n_packed - 1] ^= 1;
    start(true);
    chunk("IDAT", packed, n_packed, true);
    ok(decoded() == 0, "zlib's own");
    packed[n_packed - 1] ^= 1;
}

static void test_ends(void)
{
    pack(H);
    start(true);
    chunk("IDAT", packed, n_packed, true);
    size_t whole = n;
    ok(decoded() == 1, "no IEND");
    for (n = whole - 1; n > whole - 8; n--)
        ok(decoded() == 1, "%zu bytes of checksums missing", whole - n);
    n = whole - 4 - n_packed / 2;
    ok(decoded() == 0, "the data cut in the middle");
    start(true);
    chunk("IDAT", packed, n_packed, true);
    chunk("IEND", "", 0, true);
    put("anything at all", 15);
    ok(decoded() == 1, "data behind the end");
    start(true);
    chunk("IDAT", packed, n_packed, true);
    chunk("tEXt", "a\0bcdefgh", 9, true);
    n -= 6;
    ok(decoded() == 0, "a chunk behind the picture that is cut short");
    start(true);
    chunk("IDAT", packed, 20, true);
    chunk("tEXt", "a\0b", 3, true);
    chunk("IDAT", packed + 20, n_packed - 20, true);
    ok(decoded() == 0, "another chunk between two IDAT");
    pack(2);
    start(true);
    chunk("IDAT", packed, n_packed, true);
    ok(decoded() == 2, "a stream that ends well two rows too soon");
}

static void test_order(void)
{
    static const uint8_t header[] = {0, 0, 0, W, 0, 0, 0, H, 8, 2, 0, 0, 0, 99};
    pack(H);
    n = 0;
    put("\x89PNG\r\n\x1a\n", 8);
    chunk("tEXt", "a\0b", 3, true);
    chunk("abCd", "x", 1, true);
    chunk("IHDR", header, 14, true);
    chunk("PLTE", "x", 1, true);
    chunk("PLTE", "xyz", 3, true);
    chunk("IDAT", packed, n_packed, true);
    ok(decoded() == 1, "chunks before IHDR, a long one, two palettes that none asked for");
    n = 0;
    put("\x89PNG\r\n\x1a\n", 8);
    chunk("IDAT", packed, n_packed, true);
    ok(decoded() == 0, "no IHDR");
    start(true);
    chunk("IEND", "", 0, true);
    ok(decoded() == 0, "no IDAT");
    start(true);
    chunk("a\x01"
          "bc",
          "", 0, true);
    chunk("IDAT", packed, n_packed, true);
    ok(decoded() == 0, "a name that is none");
}

static bool pixels_are(uint8_t depth, uint8_t type, uint8_t width, const void *row, size_t k,
                       const char *rgb)
{
    static struct image im;
    struct err e;
    uint8_t raw[64] = {0};
    memcpy(raw + 1, row, k);
    n_packed = sizeof packed;
    compress(packed, &n_packed, raw, (uLong)k + 1);
    n = 0;
    put("\x89PNG\r\n\x1a\n", 8);
    chunk("IHDR", (uint8_t[]){0, 0, 0, width, 0, 0, 0, 1, depth, type, 0, 0, 0}, 13, true);
    chunk("PLTE", "\x09\x08\x07\x01\x02\x03", 6, true);
    chunk("IDAT", packed, n_packed, true);
    return !image_decode(&im, file, n, NULL, &e) && memcmp(im.rgb, rgb, width * 3u) == 0;
}

static void test_forms(void)
{
    ok(pixels_are(8, 3, 4, "\x00\x01\x02\xff", 4,
                  "\x09\x08\x07\x01\x02\x03\x02\x02\x02\xff\xff\xff"),
       "numbers that the palette leaves out are greys");
    ok(pixels_are(2, 3, 4, "\x1b", 1, "\x09\x08\x07\x01\x02\x03\x02\x02\x02\x03\x03\x03"),
       "of two bits too");
    ok(pixels_are(2, 0, 4, "\x1b", 1, "\0\0\0\x55\x55\x55\xaa\xaa\xaa\xff\xff\xff"), "grey of two");
    ok(pixels_are(16, 0, 2, "\0\x17\x01\0", 4, "\x17\x17\x17\xff\xff\xff"), "of 16: clipped");
    ok(pixels_are(16, 4, 1, "\x12\x34\0\0", 4, "\x12\x12\x12"), "with alpha: the high byte");
    ok(pixels_are(8, 6, 1, "\x01\x02\x03\0", 4, "\x01\x02\x03"), "alpha is dropped");
    ok(!pixels_are(16, 3, 1, "\0\0", 2, "\0\0\0"), "no palette of 16 bits");
}

// Whole pixels at once give what each channel gives alone.
static void filters(void)
{
    enum { PIXELS = 333, MOST = 4 };
    struct rng rng;
    struct err e;
    rng_init(&rng, 5, 0);
    for (size_t k = 2; k <= MOST; k++) {
        uint8_t row[1 + MOST * PIXELS], up[1 + MOST * PIXELS], one[MOST][1 + PIXELS];
        uint8_t above[MOST][1 + PIXELS];
        for (size_t i = 0; i < sizeof row; i++) {
            row[i] = (uint8_t)rng_u32(&rng);
            up[i] = (uint8_t)rng_u32(&rng);
        }
        row[0] = 4;
        for (size_t c = 0; c < k; c++)
            for (size_t i = 0; i < PIXELS; i++) {
                one[c][0] = 4;
                one[c][1 + i] = row[1 + i * k + c];
                above[c][1 + i] = up[1 + i * k + c];
            }
        bool same = !png_unfilter(row, up, k * PIXELS, k, &e);
        for (size_t c = 0; c < k; c++) {
            same = same && !png_unfilter(one[c], above[c], PIXELS, 1, &e);
            for (size_t i = 0; same && i < PIXELS; i++)
                same = one[c][1 + i] == row[1 + i * k + c];
        }
        ok(same, "Paeth's filter on pixels of %zu bytes", k);
    }
}

int main(void)
{
    test_checksums();
    test_ends();
    test_order();
    test_forms();
    filters();
    return tap_done();
}
