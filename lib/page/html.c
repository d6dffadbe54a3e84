// SPDX-License-Identifier: Apache-2.0
#include "page/html.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

enum { PIECE = 4096, WIDTH = 760, HEIGHT = 260, LEFT = 56, BOTTOM = 28, TOP = 10, RIGHT = 130 };
enum { POINTS_MAX = 400 };

void html_raw(struct html *h, const char *text)
{
    if (!h->failed && out_write(h->o, text, strlen(text), h->e))
        h->failed = 1;
}

void html_put(struct html *h, const char *fmt, ...)
{
    char piece[PIECE];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(piece, sizeof piece, fmt, ap);
    va_end(ap);
    html_raw(h, piece);
}

static const char *escape_of(int c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

void html_text(struct html *h, const char *text)
{
    const char *p = text;
    while (*p) {
        int32_t c;
        char one[8] = "?";
        size_t n = utf8_next(p, strnlen(p, 4), &c);
        if (!n)
            n = 1;
        else if (c >= 0x20 && c != 0x7f)
            snprintf(one, sizeof one, "%.*s", (int)n, p);
        const char *escape = n == 1 ? escape_of(*p) : NULL;
        html_raw(h, escape ? escape : one);
        p += n;
    }
}

int html_done(const struct html *h)
{
    return h->failed ? -1 : 0;
}

// ---- curves

struct axis_range {
    double low, high;
};

static void widen(struct axis_range *r, double v)
{
    if (!isfinite(v))
        return;
    r->low = fmin(r->low, v);
    r->high = fmax(r->high, v);
}

static double across(const struct axis_range *r, double v)
{
    return LEFT + (v - r->low) / (r->high - r->low) * (WIDTH - LEFT - RIGHT);
}

static double up(const struct axis_range *r, double v)
{
    return HEIGHT - BOTTOM - (v - r->low) / (r->high - r->low) * (HEIGHT - BOTTOM - TOP);
}

// A round step, 1, 2 or 5 times a power of ten, of which about `most` fit into the range; at least
// `least`.
static double tick_step(const struct axis_range *r, int most, double least)
{
    double raw = (r->high - r->low) / most, power = pow(10, floor(log10(raw)));
    double step = raw <= power       ? power
                  : raw <= 2 * power ? 2 * power
                  : raw <= 5 * power ? 5 * power
                                     : 10 * power;
    return step < least ? least : step;
}

// The k-th tick at or above the range's low end.
static double tick(const struct axis_range *r, double step, int k)
{
    return (ceil(r->low / step - 1e-9) + k) * step;
}

static void axes(struct html *h, const struct axis_range *x, const struct axis_range *y,
                 const char *x_name)
{
    enum { TICKS_Y = 5, TICKS_X = 6, TICKS_MAX = 40 };
    double step = tick_step(y, TICKS_Y, 0), v;
    for (int k = 0; k < TICKS_MAX && (v = tick(y, step, k)) <= y->high; k++) {
        html_put(h, "<line x1='%d' x2='%d' y1='%.1f' y2='%.1f' class='grid'/>", LEFT, WIDTH - RIGHT,
                 up(y, v), up(y, v));
        html_put(h, "<text x='%d' y='%.1f' class='y'>%.6g</text>", LEFT - 6, up(y, v) + 4,
                 fabs(v) < step / 2 ? 0 : v);
    }
    step = tick_step(x, TICKS_X, 1);
    for (int k = 0; k < TICKS_MAX && (v = tick(x, step, k)) <= x->high; k++)
        html_put(h, "<text x='%.1f' y='%d' class='x'>%.0f</text>", across(x, v), HEIGHT - 10, v);
    html_put(h, "<text x='%d' y='%d' class='x'>%s</text>", WIDTH - RIGHT + 40, HEIGHT - 10, x_name);
}

// One series, thinned to POINTS_MAX means.
static void curve(struct html *h, const struct html_series *s, size_t k, const struct axis_range *x,
                  const struct axis_range *y)
{
    size_t step = s->n / POINTS_MAX + 1;
    html_put(h, "<polyline class='c%zu' points='", k % 8);
    for (size_t i = 0; i < s->n; i += step) {
        double sx = 0, sy = 0;
        size_t n = 0;
        for (size_t j = i; j < i + step && j < s->n; j++) {
            if (!isfinite(s->y[j]))
                continue;
            sx += s->x[j];
            sy += s->y[j];
            n++;
        }
        if (n)
            html_put(h, "%.1f,%.1f ", across(x, sx / (double)n), up(y, sy / (double)n));
    }
    html_raw(h, "'/>");
    html_put(h, "<text x='%d' y='%zu' class='t%zu'>", WIDTH - RIGHT + 12, TOP + 14 + 18 * k, k % 8);
    html_text(h, s->name);
    html_raw(h, "</text>");
}

void html_curves(struct html *h, const struct html_series *s, size_t n_series, const char *x_name)
{
    struct axis_range x = {INFINITY, -INFINITY}, y = {INFINITY, -INFINITY};
    for (size_t k = 0; k < n_series; k++)
        for (size_t i = 0; i < s[k].n; i++) {
            widen(&x, s[k].x[i]);
            widen(&y, s[k].y[i]);
        }
    if (!(x.low <= x.high) || !(y.low <= y.high))
        return;
    if (x.low == x.high)
        x.high += 1;
    if (y.low == y.high)
        y.high += 1;
    html_put(h, "<svg viewBox='0 0 %d %d' width='%d' height='%d'>", WIDTH, HEIGHT, WIDTH, HEIGHT);
    axes(h, &x, &y, x_name);
    for (size_t k = 0; k < n_series; k++)
        curve(h, &s[k], k, &x, &y);
    html_raw(h, "</svg>\n");
}
