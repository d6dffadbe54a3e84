// SPDX-License-Identifier: Apache-2.0
// PNG, over zlib, as Pillow's PngImagePlugin and ZipDecode read it. libpng does not do here: which
// checksums count, where a file may end and in which order chunks may stand differ from Pillow's
// view, and a picture that the one shows and the other refuses is a row that is zero in one run and
// not in the other.
//
// Checksums count up to the first IDAT, of every chunk; behind it none does, as zlib has its own.
// A picture whose rows are all there is whole, whatever follows, unless a chunk is cut short.
#include "image/png.h"

#include <string.h>

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool is_name(const uint8_t *p)
{
    for (int i = 0; i < 4; i++)
        if (!((p[i] >= '0' && p[i] <= '9') || ((p[i] | 32) >= 'a' && (p[i] | 32) <= 'z') ||
              p[i] == '_'))
            return false;
    return true;
}

struct chunk {
    const uint8_t *name, *data;
    uint32_t n;
};

static size_t left(const struct png_reader *r)
{
    return (size_t)(r->end - r->at);
}

// Name and length of the next chunk; its data may be cut short. 1, 0 at the end of the file or
// where no chunk begins.
static int next_chunk(struct png_reader *r, struct chunk *c)
{
    if (left(r) < 8 || !is_name(r->at + 4))
        return 0;
    *c = (struct chunk){r->at + 4, r->at + 8, be32(r->at)};
    r->at += 8;
    return 1;
}

static bool is(const struct chunk *c, const char *name)
{
    return memcmp(c->name, name, 4) == 0;
}

static int truncated(struct png_reader *r)
{
    return err_set(r->e, "PNG: truncated");
}

// The four bytes behind a chunk's data, as far as they are there.
static void skip_crc(struct png_reader *r)
{
    r->at += left(r) < 4 ? left(r) : 4;
}

static int read_header(struct png_reader *r, const struct chunk *c)
{
    if (c->n < 13)
        return err_set(r->e, "PNG: IHDR of %lu bytes", (unsigned long)c->n);
    if (c->data[11])
        return err_set(r->e, "PNG: unknown filter category %d", c->data[11]);
    r->width = be32(c->data);
    r->height = be32(c->data + 4);
    r->depth = c->data[8];
    r->type = c->data[9];
    r->interlaced = c->data[12] != 0;
    return 0;
}

// What Pillow has for the numbers that a palette leaves out.
static void grey_palette(struct png_reader *r)
{
    for (int i = 0; i < 256; i++)
        memset(r->palette[i], i, 3);
}

static int read_palette(struct png_reader *r, const struct chunk *c)
{
    size_t n = c->n / 3;
    if (r->type != PNG_PALETTE)
        return 0; // a hint for displays
    if (n > 256)
        return err_set(r->e, "PNG: palette of %zu colours", n);
    grey_palette(r);
    memcpy(r->palette, c->data, n * 3);
    return 0;
}

static void read_clear(struct png_reader *r, const struct chunk *c)
{
    memset(r->alpha, 255, sizeof r->alpha);
    if (r->type == PNG_PALETTE)
        memcpy(r->alpha, c->data, c->n < 256 ? c->n : 256);
    size_t need = r->type == PNG_GREY ? 2 : r->type == PNG_RGB ? 6 : SIZE_MAX;
    r->has_clear = c->n >= need;
    for (size_t i = 0; r->has_clear && i < need / 2; i++)
        r->clear[i] = (uint16_t)(c->data[2 * i] << 8 | c->data[2 * i + 1]);
}

static int read_one(struct png_reader *r, const struct chunk *c)
{
    if (left(r) < 4 || c->n > left(r) - 4)
        return truncated(r);
    r->at += c->n;
    if (be32(r->at) != crc32(crc32(0, c->name, 4), c->data, c->n))
        return err_set(r->e, "PNG: wrong checksum in %.4s", (const char *)c->name);
    r->at += 4;
    if (is(c, "IHDR"))
        return read_header(r, c);
    if (is(c, "PLTE"))
        return read_palette(r, c);
    if (is(c, "tRNS"))
        read_clear(r, c);
    return 0;
}

// Up to the first IDAT's data.
static int read_chunks(struct png_reader *r)
{
    struct chunk c;
    if (left(r) < 8)
        return truncated(r);
    r->at += 8; // the signature
    memset(r->alpha, 255, sizeof r->alpha);
    grey_palette(r);
    for (;;) {
        if (!next_chunk(r, &c))
            return left(r) < 8 ? truncated(r) : err_set(r->e, "PNG: broken chunk");
        if (is(&c, "IEND"))
            return err_set(r->e, "PNG: no picture data");
        if (is(&c, "IDAT")) {
            r->idat = c.n;
            return 0;
        }
        if (read_one(r, &c))
            return -1;
    }
}

// Bits of a pixel; 0 = no such kind of picture.
static unsigned pixel_bits(const struct png_reader *r)
{
    unsigned d = (unsigned)r->depth;
    bool eight = d == 8 || d == 16, few = d == 1 || d == 2 || d == 4;
    switch (r->type) {
    case PNG_GREY:
        return eight || few ? d : 0;
    case PNG_PALETTE:
        return d == 8 || few ? d : 0;
    case PNG_GREY_ALPHA:
        return eight ? 2 * d : 0;
    case PNG_RGB:
        return eight ? 3 * d : 0;
    case PNG_RGB_ALPHA:
        return eight ? 4 * d : 0;
    default:
        return 0;
    }
}

// -- rows

static const struct {
    uint8_t x, y, dx, dy;
} passes[] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
              {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}, {0, 0, 1, 1}};
enum { WHOLE = 7 }; // the pass of a picture that is not interlaced

static uint32_t pass_width(const struct png_reader *r)
{
    uint32_t x = passes[r->pass].x, dx = passes[r->pass].dx;
    return r->width > x ? (r->width - x + dx - 1) / dx : 0;
}

static size_t row_bytes(const struct png_reader *r)
{
    return ((size_t)pass_width(r) * r->bits + 7) / 8;
}

static void next_row(struct png_reader *r)
{
    uint8_t *t = r->row;
    r->row = r->before;
    r->before = t;
    r->y += passes[r->pass].dy;
    while (r->pass < WHOLE && r->pass != WHOLE - 1 && (r->y >= r->height || !pass_width(r))) {
        r->pass++;
        r->y = passes[r->pass].y;
        memset(r->before, 0, r->pitch);
    }
}

static void put_row(struct png_reader *r)
{
    struct image *im = r->im;
    size_t dx = passes[r->pass].dx;
    uint8_t *dst = im->rgb + ((size_t)r->y * (size_t)im->width + passes[r->pass].x) * 3;
    image_png_row(r, r->row + 1, pass_width(r), dst, dx * 3);
}

// Bytes of the compressed stream: 1 when the picture is there, 0 when more are wanted, -1.
static int feed(struct png_reader *r, const uint8_t *data, size_t n)
{
    r->z.next_in = (uint8_t *)(uintptr_t)data;
    r->z.avail_in = (uInt)n;
    while (r->z.avail_in > 0) {
        size_t want = row_bytes(r) + 1;
        r->z.next_out = r->row + r->got;
        r->z.avail_out = (uInt)(want - r->got);
        int rc = inflate(&r->z, Z_NO_FLUSH);
        if (rc == Z_MEM_ERROR)
            return err_machine(r->e, "PNG: no memory");
        if (rc < 0)
            return err_set(r->e, "PNG: broken data: %s", r->z.msg ? r->z.msg : "no zlib stream");
        r->got = want - r->z.avail_out;
        if (r->got < want)
            break;
        if (png_unfilter(r->row, r->before, want - 1, (r->bits + 7) / 8, r->e))
            return -1;
        put_row(r);
        next_row(r);
        r->got = 0;
        if (r->y >= r->height)
            return 1;
        if (rc == Z_STREAM_END) {
            r->im->warned = true;
            return 1;
        }
    }
    return 0;
}

// The data of one IDAT after the other, in the steps in which Pillow reads them: a stream that is
// broken behind the last row is noticed in the same step only.
static int read_rows(struct png_reader *r)
{
    enum { STEP = 1 << 16 };
    struct chunk c;
    for (;;) {
        while (r->idat == 0) {
            skip_crc(r);
            if (!next_chunk(r, &c) || !is(&c, "IDAT"))
                return truncated(r);
            r->idat = c.n;
        }
        size_t n = r->idat < STEP ? r->idat : STEP, have = left(r) < n ? left(r) : n;
        if (!have)
            return truncated(r);
        r->idat -= (uint32_t)n;
        r->at += have;
        int rc = feed(r, r->at - have, have);
        if (rc)
            return rc < 0 ? -1 : 0;
    }
}

// What follows is passed over; a chunk that is cut short shows that the file is.
static int read_end(struct png_reader *r)
{
    struct chunk c;
    r->at += left(r) < r->idat ? left(r) : r->idat;
    for (;;) {
        skip_crc(r);
        if (!next_chunk(r, &c) || is(&c, "IEND") || is(&c, "fcTL"))
            return 0;
        if (c.n > left(r))
            return truncated(r);
        r->at += c.n;
    }
}

static int prepare(struct png_reader *r)
{
    r->bits = pixel_bits(r);
    if (image_reserve(r->im, r->width, r->height, r->lim, r->e))
        return -1;
    if (!r->bits)
        return err_set(r->e, "PNG: no pictures of type %d and depth %d", r->type, r->depth);
    r->pass = WHOLE;
    r->pitch = row_bytes(r) + 1;
    if (image_reserve_work(r->im, 2, r->pitch, r->e))
        return -1;
    r->row = r->im->work;
    r->before = r->row + r->pitch;
    memset(r->row, 0, 2 * r->pitch);
    return 0;
}

// Samples of 0 where a stream that ends well between two rows, too soon, leaves some out.
static void put_zeros(struct png_reader *r)
{
    memset(r->row, 0, r->pitch);
    for (; r->y < r->height; r->y++)
        put_row(r);
}

static int read_picture(struct png_reader *r)
{
    if (r->interlaced)
        put_zeros(r);
    r->y = 0;
    r->pass = r->interlaced ? 0 : WHOLE;
    if (inflateInit(&r->z) != Z_OK)
        return err_machine(r->e, "PNG: no memory");
    int rc = read_rows(r);
    inflateEnd(&r->z);
    if (!rc && !r->interlaced)
        put_zeros(r);
    return rc ? -1 : read_end(r);
}

int image_png(struct image *im, const uint8_t *bytes, size_t n, const struct image_limits *lim,
              struct err *e)
{
    struct png_reader r = {.at = bytes, .end = bytes + n, .im = im, .lim = lim, .e = e};
    return read_chunks(&r) || prepare(&r) || read_picture(&r) ? -1 : 0;
}
