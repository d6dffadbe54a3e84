// SPDX-License-Identifier: Apache-2.0
// JPEG through libjpeg-turbo.
#include <setjmp.h>
#include <stdio.h>

#include <jerror.h>
#include <jpeglib.h>

#include "image/codec.h"

struct jpeg_reader {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    struct image *im;
    const struct image_limits *lim;
    struct err *e;
    bool whole; // all rows are there
    jmp_buf jump;
};

static _Noreturn void on_error(j_common_ptr c)
{
    struct jpeg_reader *r = c->client_data;
    char text[JMSG_LENGTH_MAX];
    c->err->format_message(c, text);
    err_set(r->e, "JPEG: %s", text);
    longjmp(r->jump, 1);
}

// A warning is counted, except that the data ended before the last row, which Pillow refuses too.
static void on_message(j_common_ptr c, int level)
{
    struct jpeg_reader *r = c->client_data;
    if (level >= 0)
        return;
    if (c->err->msg_code == JWRN_JPEG_EOF && !r->whole) {
        err_set(r->e, "JPEG: truncated");
        longjmp(r->jump, 1);
    }
    c->err->num_warnings++;
}

// libjpeg calls this as it goes through the input, so a file of endless scans is stopped early.
static void on_progress(j_common_ptr c)
{
    struct jpeg_reader *r = c->client_data;
    if (r->jpeg.input_scan_number > r->lim->max_scans) {
        err_set(r->e, "JPEG: more than %d scans", r->lim->max_scans);
        longjmp(r->jump, 1);
    }
}

// The smallest of 1/8, 1/4, 1/2 that leaves both sides >= side, else 1/1; in eighths.
static unsigned shrink(unsigned width, unsigned height, unsigned side)
{
    unsigned least = width < height ? width : height;
    for (unsigned eighths = 1; eighths < 8; eighths *= 2)
        if (((uint64_t)least * eighths + 7) / 8 >= side)
            return eighths;
    return 8;
}

// CMYK samples as Adobe stores them, inverted, to RGB with Pillow's rounding: k - (255 - c) * k /
// 255.
static void cmyk_to_rgb(uint8_t *dst, const uint8_t *src, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++, src += 4, dst += 3)
        for (int c = 0; c < 3; c++) {
            unsigned k = src[3], t = (255u - src[c]) * k + 128;
            dst[c] = (uint8_t)(k - (((t >> 8) + t) >> 8));
        }
}

static void read_rgb(struct jpeg_decompress_struct *j, struct image *im)
{
    enum { ROWS = 16 };
    JSAMPROW rows[ROWS];
    while (j->output_scanline < j->output_height) {
        JDIMENSION ask = j->output_height - j->output_scanline;
        ask = ask < ROWS ? ask : ROWS;
        for (JDIMENSION i = 0; i < ask; i++)
            rows[i] = im->rgb + (size_t)(j->output_scanline + i) * (size_t)im->width * 3;
        jpeg_read_scanlines(j, rows, ask);
    }
}

static void read_cmyk(struct jpeg_decompress_struct *j, struct image *im)
{
    JSAMPROW wide = im->work;
    for (size_t y = 0; y < (size_t)im->height; y++) {
        jpeg_read_scanlines(j, &wide, 1);
        cmyk_to_rgb(im->rgb + y * (size_t)im->width * 3, wide, (size_t)im->width);
    }
}

static int read_picture(struct jpeg_reader *r, const uint8_t *bytes, size_t n)
{
    struct jpeg_decompress_struct *j = &r->jpeg;
    struct image *im = r->im;
    jpeg_mem_src(j, bytes, n);
    jpeg_read_header(j, TRUE);
    if (image_check_size(j->image_width, j->image_height, r->lim, r->e))
        return -1;
    if (r->lim->fast_side > 0) {
        j->scale_num = shrink(j->image_width, j->image_height, (unsigned)r->lim->fast_side);
        j->scale_denom = 8;
    }
    bool four = j->jpeg_color_space == JCS_CMYK || j->jpeg_color_space == JCS_YCCK;
    j->out_color_space = four ? JCS_CMYK : JCS_RGB;
    jpeg_calc_output_dimensions(j);
    if (image_reserve(im, j->output_width, j->output_height, r->lim, r->e) ||
        (four && image_reserve_work(im, (size_t)im->width, 4, r->e)))
        return -1;
    im->full_width = (int)j->image_width;
    im->full_height = (int)j->image_height;
    jpeg_start_decompress(j);
    if (four)
        read_cmyk(j, im);
    else
        read_rgb(j, im);
    // Reads on to the end marker, which may be missing when every row has come without it.
    r->whole = true;
    if (!jpeg_finish_decompress(j))
        return err_set(r->e, "JPEG: no end after the picture");
    im->warned = r->errors.num_warnings > 0;
    return 0;
}

// In a function of its own, so that no variable of the caller is in doubt after a longjmp.
static int guarded(struct jpeg_reader *r, const uint8_t *bytes, size_t n)
{
    if (setjmp(r->jump))
        return -1;
    jpeg_create_decompress(&r->jpeg);
    r->jpeg.progress = &r->progress;
    return read_picture(r, bytes, n);
}

int image_jpeg(struct image *im, const uint8_t *bytes, size_t n, const struct image_limits *lim,
               struct err *e)
{
    struct jpeg_reader r = {.im = im, .lim = lim, .e = e};
    r.jpeg.err = jpeg_std_error(&r.errors);
    r.errors.error_exit = on_error;
    r.errors.emit_message = on_message;
    r.progress.progress_monitor = on_progress;
    r.jpeg.client_data = &r;
    int result = guarded(&r, bytes, n);
    jpeg_destroy_decompress(&r.jpeg);
    return result;
}
