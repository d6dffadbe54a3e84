// SPDX-License-Identifier: Apache-2.0
#include "image/thumb.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

#include "base/mem.h"

// libjpeg's error handler must not return.
struct failure {
    struct jpeg_error_mgr errors;
    jmp_buf back;
};

static void fail(j_common_ptr c)
{
    struct failure *f = (struct failure *)c->err;
    longjmp(f->back, 1);
}

static int encode(struct thumb *t, const uint8_t *rgb, int width, int height, int quality,
                  struct err *e)
{
    struct jpeg_compress_struct c;
    struct failure f;
    c.err = jpeg_std_error(&f.errors);
    f.errors.error_exit = fail;
    if (setjmp(f.back)) {
        jpeg_destroy_compress(&c);
        return err_set(e, "JPEG: cannot write");
    }
    jpeg_create_compress(&c);
    free(t->jpeg);
    t->jpeg = NULL;
    t->n = 0;
    jpeg_mem_dest(&c, &t->jpeg, &t->n);
    c.image_width = (JDIMENSION)width;
    c.image_height = (JDIMENSION)height;
    c.input_components = 3;
    c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, quality, TRUE);
    jpeg_start_compress(&c, TRUE);
    while (c.next_scanline < c.image_height) {
        JSAMPROW row = (JSAMPROW)(uintptr_t)(rgb + (size_t)c.next_scanline * (size_t)width * 3);
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    return 0;
}

static int scaled(int length, int from, int to)
{
    int64_t r = ((int64_t)length * to + from / 2) / from;
    return r < 1 ? 1 : (int)r;
}

int thumb_make(struct thumb *t, const uint8_t *bytes, size_t n, int side, int quality,
               struct err *e)
{
    struct image_limits limits = image_limits_default;
    limits.alpha = IMAGE_ALPHA_WHITE; // what stands behind a transparent pixel is often noise
    struct image *im = &t->image;
    limits.fast_side = side;
    if (image_decode(im, bytes, n, &limits, e))
        return -1;
    int longer = im->width > im->height ? im->width : im->height;
    if (longer <= side)
        return encode(t, im->rgb, im->width, im->height, quality, e);
    int width = scaled(im->width, longer, side), height = scaled(im->height, longer, side);
    const struct resize_view from = {im->rgb, (size_t)im->width * 3, im->width, im->height};
    const struct resize_window to = {width, height, 0, 0, width, height};
    void *p = t->rgb;
    int rc = mem_grow(&p, &t->cap, (size_t)width * (size_t)height * 3, 1, e);
    t->rgb = p;
    if (rc == 0)
        rc = resize_rgb(&t->resizer, &from, &to, RESIZE_BICUBIC, t->rgb, (size_t)width * 3, e);
    return rc ? rc : encode(t, t->rgb, width, height, quality, e);
}

void thumb_release(struct thumb *t)
{
    image_release(&t->image);
    resize_release(&t->resizer);
    free(t->rgb);
    free(t->jpeg);
    *t = (struct thumb){0};
}
