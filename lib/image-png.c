// SPDX-License-Identifier: Apache-2.0
// PNG through libpng.
#include <setjmp.h>
#include <string.h>

#include <png.h>

#include "image-codec.h"

enum rows { ROWS_RGB8, ROWS_RGBA8, ROWS_GREY16 };

struct reader {
    png_structp png;
    png_infop info;
    const uint8_t *at; // input not read yet
    size_t left;
    struct image *im;
    const struct image_limits *lim;
    struct err *e;
    enum rows rows; // what libpng hands over
    int clear;      // the 16-bit grey that stands for transparent, -1 = none
};

static void on_read(png_structp png, png_bytep out, size_t n)
{
    struct reader *r = png_get_io_ptr(png);
    if (n > r->left)
        png_error(png, "truncated");
    memcpy(out, r->at, n);
    r->at += n;
    r->left -= n;
}

static _Noreturn void on_error(png_structp png, png_const_charp text)
{
    struct reader *r = png_get_error_ptr(png);
    err_set(r->e, "PNG: %s", text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)text;
    struct reader *r = png_get_error_ptr(png);
    r->im->warned = true;
}

// Text and colour profiles may be compressed bombs, and are of no use here.
static void skip_chunks(png_structp png)
{
    static const uint8_t names[] = "iCCP\0tEXt\0zTXt\0iTXt\0eXIf\0sPLT\0pCAL\0hIST";
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, 0);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, names, (int)sizeof names / 5);
}

static void set_transforms(struct reader *r)
{
    png_color_16p clear = NULL;
    int type = png_get_color_type(r->png, r->info);
    png_get_tRNS(r->png, r->info, NULL, NULL, &clear);
    if (type == PNG_COLOR_TYPE_GRAY && png_get_bit_depth(r->png, r->info) == 16) {
        r->rows = ROWS_GREY16;
        bool has = png_get_valid(r->png, r->info, PNG_INFO_tRNS) && clear;
        r->clear = has ? clear->gray : -1;
        return;
    }
    bool alpha = (type & PNG_COLOR_MASK_ALPHA) || png_get_valid(r->png, r->info, PNG_INFO_tRNS);
    r->rows = alpha ? ROWS_RGBA8 : ROWS_RGB8;
    png_set_expand(r->png);
    png_set_strip_16(r->png);
    if (!(type & PNG_COLOR_MASK_COLOR))
        png_set_gray_to_rgb(r->png);
}

// Big-endian 16-bit grey; Pillow keeps it as an integer and clips it, so do we.
static void grey16_to_rgb(uint8_t *dst, const uint8_t *src, size_t pixels, int clear)
{
    for (size_t i = 0; i < pixels; i++, src += 2, dst += 3) {
        int v = src[0] << 8 | src[1];
        memset(dst, v == clear || v > 255 ? 255 : v, 3);
    }
}

static void convert(const struct reader *r, size_t y, const uint8_t *src)
{
    size_t width = (size_t)r->im->width;
    uint8_t *dst = r->im->rgb + y * width * 3;
    if (r->rows == ROWS_RGBA8)
        image_on_white(dst, src, width);
    else
        grey16_to_rgb(dst, src, width, r->clear);
}

// RGB rows are read in place. Others go through scratch: one row, or, interlaced, all of them,
// because each pass adds to what the one before left.
static int read_rows(struct reader *r, int passes)
{
    static const size_t bytes_per_pixel[] = {[ROWS_RGB8] = 3, [ROWS_RGBA8] = 4, [ROWS_GREY16] = 2};
    struct image *im = r->im;
    size_t height = (size_t)im->height, pitch = (size_t)im->width * bytes_per_pixel[r->rows];
    bool whole = passes > 1, direct = r->rows == ROWS_RGB8;
    if (png_get_rowbytes(r->png, r->info) != pitch)
        return err_set(r->e, "PNG: rows of an unforeseen size");
    if (!direct && image_reserve_work(im, whole ? height : 1, pitch, r->e))
        return -1;
    uint8_t *base = direct ? im->rgb : im->work;
    for (int pass = 0; pass < passes; pass++)
        for (size_t y = 0; y < height; y++) {
            uint8_t *row = base + (direct || whole ? y * pitch : 0);
            png_read_row(r->png, row, NULL);
            if (!direct && pass == passes - 1)
                convert(r, y, row);
        }
    return 0;
}

// In a function of its own, so that no variable of the caller is in doubt after a longjmp.
static int guarded(struct reader *r)
{
    if (setjmp(png_jmpbuf(r->png)))
        return -1;
    png_set_user_limits(r->png, IMAGE_SIDE_MAX, IMAGE_SIDE_MAX);
    skip_chunks(r->png);
    png_read_info(r->png, r->info);
    if (image_reserve(r->im, png_get_image_width(r->png, r->info),
                      png_get_image_height(r->png, r->info), r->lim, r->e))
        return -1;
    set_transforms(r);
    int passes = png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
    return read_rows(r, passes);
}

int image_png(struct image *im, const uint8_t *bytes, size_t n, const struct image_limits *lim,
              struct err *e)
{
    struct reader r = {.at = bytes, .left = n, .im = im, .lim = lim, .e = e};
    r.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &r, on_error, on_warning);
    r.info = r.png ? png_create_info_struct(r.png) : NULL;
    if (!r.info) {
        png_destroy_read_struct(&r.png, NULL, NULL);
        return err_set(e, "PNG: no memory");
    }
    png_set_read_fn(r.png, &r, on_read);
    int result = guarded(&r);
    png_destroy_read_struct(&r.png, &r.info, NULL);
    return result;
}
