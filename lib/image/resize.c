// SPDX-License-Identifier: Apache-2.0
#include "image/resize.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "image/resize-pass.h"

// Rows to have at hand for the pass over y: two outputs' worth, so that few rows are moved.
static size_t rows_wanted(const struct resize_axis *y)
{
    return 2 * y->step + RESIZE_ROWS;
}

struct resize_pass {
    struct resizer *r;
    const struct resize_passes *f;
    const struct resize_view *src;
    bool in_place;      // widths are equal: no pass over x
    size_t left;        // first column of the window in bytes, when in_place
    size_t row_bytes;   // of the window
    size_t pitch;       // of r->rows
    size_t room;        // rows that r->rows holds
    size_t first, have; // the source rows in r->rows
};

// The source row y, copied where SIMD could read past the end of the picture.
static const uint8_t *source_row(struct resize_pass *p, size_t y, size_t slot)
{
    const struct resize_view *s = p->src;
    size_t n = (size_t)s->width * 3, below = (size_t)s->height - 1 - y;
    const uint8_t *row = s->rgb + y * s->pitch;
    if (below * s->pitch >= RESIZE_OVER_READ)
        return row;
    uint8_t *copy = p->r->edge + slot * (n + RESIZE_OVER_READ);
    memcpy(copy, row, n);
    memset(copy + n, 0, RESIZE_OVER_READ);
    return copy;
}

// Makes source rows [from, from + n) present in r->rows; returns the first of them.
static const uint8_t *fetch(struct resize_pass *p, size_t from, size_t n)
{
    uint8_t *rows = p->r->rows;
    if (from > p->first + p->have) {
        p->first = from;
        p->have = 0;
    }
    if (from + n + RESIZE_ROWS > p->first + p->room) {
        size_t drop = from - p->first;
        memmove(rows, rows + drop * p->pitch, (p->have - drop) * p->pitch);
        p->first += drop;
        p->have -= drop;
    }
    size_t last = (size_t)p->src->height - 1;
    while (p->first + p->have < from + n) {
        const uint8_t *src[RESIZE_ROWS];
        size_t y = p->first + p->have;
        for (size_t i = 0; i < RESIZE_ROWS; i++)
            src[i] = source_row(p, y + i < last ? y + i : last, i);
        p->f->x(rows + p->have * p->pitch, p->pitch, src, &p->r->x);
        p->have += y + RESIZE_ROWS <= last + 1 ? RESIZE_ROWS : last + 1 - y;
    }
    return rows + (from - p->first) * p->pitch;
}

static const uint8_t *input_rows(struct resize_pass *p, size_t from, size_t n)
{
    if (p->in_place)
        return p->src->rgb + from * p->src->pitch + p->left;
    return fetch(p, from, n);
}

static int check(const struct resize_view *s, const struct resize_window *w, struct err *e)
{
    if (s->width <= 0 || s->height <= 0 || w->full_width <= 0 || w->full_height <= 0)
        return err_set(e, "resize: picture of no size");
    if (w->left < 0 || w->top < 0 || w->width <= 0 || w->height <= 0 ||
        w->width > w->full_width - w->left || w->height > w->full_height - w->top)
        return err_set(e, "resize: window outside the picture");
    return 0;
}

static int prepare(struct resize_pass *p, const struct resize_window *w, enum resize_filter f,
                   struct err *e)
{
    struct resizer *r = p->r;
    if (resize_axis_set(&r->x, p->src->width, w->full_width, w->left, w->width, f, p->f, e) ||
        resize_axis_set(&r->y, p->src->height, w->full_height, w->top, w->height, f, p->f, e))
        return -1;
    size_t edge = ((size_t)p->src->width * 3 + RESIZE_OVER_READ) * RESIZE_ROWS, rows;
    p->pitch = (p->row_bytes + RESIZE_OVER_WRITE + 31) / 32 * 32;
    p->room = rows_wanted(&r->y);
    if (!mem_mul(p->pitch, p->room, &rows))
        return err_set(e, "resize: too large");
    return p->in_place || (mem_grow((void **)&r->rows, &r->rows_cap, rows, 1, e) == 0 &&
                           mem_grow((void **)&r->edge, &r->edge_cap, edge, 1, e) == 0)
               ? 0
               : -1;
}

int resize_rgb(struct resizer *r, const struct resize_view *src, const struct resize_window *win,
               enum resize_filter filter, uint8_t *dst, size_t dst_pitch, struct err *e)
{
    if (check(src, win, e))
        return -1;
    struct resize_pass p = {.r = r,
                            .f = r->passes ? r->passes : resize_passes_best(),
                            .src = src,
                            .in_place = src->width == win->full_width,
                            .left = (size_t)win->left * 3,
                            .row_bytes = (size_t)win->width * 3};
    if (prepare(&p, win, filter, e))
        return -1;
    bool same_height = src->height == win->full_height;
    for (size_t i = 0; i < (size_t)win->height; i++, dst += dst_pitch) {
        if (same_height) {
            memcpy(dst, input_rows(&p, (size_t)win->top + i, 1), p.row_bytes);
            continue;
        }
        const uint8_t *rows = input_rows(&p, (size_t)r->y.from[i], (size_t)r->y.taps);
        p.f->y(dst, rows, p.in_place ? src->pitch : p.pitch, p.row_bytes, &r->y, i);
    }
    return 0;
}

void resize_release(struct resizer *r)
{
    resize_axis_release(&r->x);
    resize_axis_release(&r->y);
    free(r->rows);
    free(r->edge);
    *r = (struct resizer){0};
}
