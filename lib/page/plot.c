// SPDX-License-Identifier: Apache-2.0
#include "page/plot.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { WIDTH = 760, HEIGHT = 260, LEFT = 60, BOTTOM = 28, TOP = 10, RIGHT = 130, MARGIN = 14 };
enum { POINTS_MAX = 400, TICKS_MAX = 40, LINE = 22 };
enum { WIDE = 500 }; // wider than a phone: the style makes its letters larger there
// Pixels before a name; of a digit, at most; of a letter, as large as it is on a phone.
enum { GAP = 12, DIGIT = 7, LETTER = 9 };

struct axis {
    double low, high; // of the values; of their logarithms with `log`
    bool log;
    double from, to; // pixels
};

static void widen(struct axis *a, double v)
{
    if (!isfinite(v))
        return;
    a->low = fmin(a->low, v);
    a->high = fmax(a->high, v);
}

static const struct axis empty = {.low = INFINITY, .high = -INFINITY};

// Logarithms from this ratio of greatest and least value on.
static bool settle(struct axis *a, double ratio)
{
    if (!(a->low <= a->high))
        return false;
    a->log = a->low > 0 && a->high / a->low >= ratio;
    if (a->log) {
        a->low = log10(a->low);
        a->high = log10(a->high);
    }
    if (a->low == a->high)
        a->high += fabs(a->high) > 1 ? fabs(a->high) / 10 : 1;
    return true;
}

static double at(const struct axis *a, double v)
{
    double w = a->log ? log10(v) : v;
    return a->from + (w - a->low) / (a->high - a->low) * (a->to - a->from);
}

// A round step, 1, 2 or 5 times a power of ten, of which about `most` fit into the range; at least
// `least`.
static double tick_step(const struct axis *a, int most, double least)
{
    double raw = (a->high - a->low) / most, power = pow(10, floor(log10(raw)));
    double step = raw <= power       ? power
                  : raw <= 2 * power ? 2 * power
                  : raw <= 5 * power ? 5 * power
                                     : 10 * power;
    return step < least ? least : step;
}

// The ticks of an axis, values, into v[TICKS_MAX]; returns how many.
static size_t ticks(const struct axis *a, int most, double least, double *v)
{
    size_t n = 0;
    if (a->log) {
        bool each = a->high - a->low < 2.5; // few decades: 2 and 5 too
        for (double p = floor(a->low); p <= a->high && n + 3 < TICKS_MAX; p++)
            for (int k = 0; k < (each ? 3 : 1); k++) {
                double value = pow(10, p) * (k == 0 ? 1 : k == 1 ? 2 : 5);
                if (log10(value) >= a->low - 1e-9 && log10(value) <= a->high + 1e-9)
                    v[n++] = value;
            }
        return n;
    }
    double step = tick_step(a, most, least);
    for (double k = ceil(a->low / step - 1e-9); n < TICKS_MAX && k * step <= a->high + 1e-9 * step;
         k++)
        v[n++] = fabs(k * step) < step / 2 ? 0 : k * step;
    return n;
}

static void begin(struct html *h, const struct plot *p, int width, int height)
{
    html_put(h, "<svg role='img'%s viewBox='0 0 %d %d' width='%d' height='%d'><title>",
             width > WIDE ? " class='wide'" : "", width, height, width, height);
    html_text(h, p->title);
    html_raw(h, "</title>");
}

static int width_of(const struct plot *p)
{
    return p->width ? p->width : WIDTH;
}

static int height_of(const struct plot *p)
{
    return p->height ? p->height : HEIGHT;
}

static void put_y(struct html *h, const struct axis *y, double left, double right)
{
    double v[TICKS_MAX];
    size_t n = ticks(y, 5, 0, v);
    for (size_t i = 0; i < n; i++) {
        html_put(h, "<line x1='%.0f' x2='%.0f' y1='%.1f' y2='%.1f' class='grid'/>", left, right,
                 at(y, v[i]), at(y, v[i]));
        html_put(h, "<text x='%.0f' y='%.1f' class='y'>%.6g</text>", left - 6, at(y, v[i]) + 4,
                 v[i]);
    }
}

static size_t x_ticks(const struct axis *x, const struct plot *p, double *v)
{
    return ticks(x, width_of(p) > WIDE ? 6 : 3, p->whole_x ? 1 : 0, v);
}

// The axis' name, behind the last number: that stands on its tick and may reach over the end.
static void put_x_name(struct html *h, const struct axis *x, const struct plot *p, int bottom)
{
    double v[TICKS_MAX], left = x->to + GAP;
    size_t n = x_ticks(x, p, v);
    int digits = n ? snprintf(NULL, 0, "%.6g", v[n - 1]) : 0;
    if (n)
        left = fmax(left, at(x, v[n - 1]) + digits * DIGIT / 2.0 + GAP);
    html_put(h, "<text x='%.0f' y='%d'>%s</text>", left, bottom - 10, p->x_name);
}

static void put_x(struct html *h, const struct axis *x, const struct plot *p, int bottom)
{
    double v[TICKS_MAX];
    size_t n = x_ticks(x, p, v);
    for (size_t i = 0; i < n; i++)
        html_put(h, "<text x='%.1f' y='%d' class='x'>%.6g</text>", at(x, v[i]), bottom - 10, v[i]);
}

// ---- curves

// One series, thinned to POINTS_MAX means.
// Begins the picture, `width` by `height`, with both axes at their places and `right` free beside
// them.
static void put_axes(struct html *h, const struct plot *p, struct axis *x, struct axis *y,
                     int width, int height, int right)
{
    x->from = LEFT;
    x->to = width - right;
    y->from = height - BOTTOM;
    y->to = TOP;
    begin(h, p, width, height);
    put_y(h, y, x->from, x->to);
    put_x(h, x, p, height);
}

static void curve(struct html *h, const struct plot_series *s, size_t k, const struct axis *x,
                  const struct axis *y)
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
            html_put(h, "%.1f,%.1f ", at(x, sx / (double)n), at(y, sy / (double)n));
    }
    html_raw(h, "'/>");
}

static void legend(struct html *h, const struct plot_series *s, size_t n, int left)
{
    for (size_t k = 0; k < n; k++) {
        html_put(h, "<text x='%d' y='%zu' class='t%zu'>", left, TOP + 14 + 18 * k, k % 8);
        html_text(h, s[k].name);
        html_raw(h, "</text>");
    }
}

// Pixels that the names need, at least RIGHT.
static int room_of(const struct plot_series *s, size_t n)
{
    size_t most = 0;
    for (size_t k = 0; k < n; k++)
        most = strlen(s[k].name) > most ? strlen(s[k].name) : most;
    int need = 2 * GAP + LETTER * (int)most;
    return need > RIGHT ? need : RIGHT;
}

void plot_curves(struct html *h, const struct plot *p, const struct plot_series *s, size_t n_series)
{
    struct axis x = empty, y = empty;
    int width = width_of(p), height = height_of(p), right = MARGIN + 16;
    if (n_series > 1) {
        right = room_of(s, n_series);
        width += right - RIGHT; // the curves keep theirs
    }
    for (size_t k = 0; k < n_series; k++)
        for (size_t i = 0; i < s[k].n; i++)
            if (isfinite(s[k].y[i])) {
                widen(&x, s[k].x[i]);
                widen(&y, s[k].y[i]);
            }
    if (p->from_zero)
        widen(&y, 0);
    if (!settle(&x, INFINITY) || !settle(&y, PLOT_DECADES))
        return;
    put_axes(h, p, &x, &y, width, height, right);
    if (n_series > 1)
        put_x_name(h, &x, p, height);
    for (size_t k = 0; k < n_series; k++)
        curve(h, &s[k], k, &x, &y);
    if (n_series > 1)
        legend(h, s, n_series, (int)x.to + 12);
    html_raw(h, "</svg>\n");
}

// ---- bars

void plot_bars(struct html *h, const struct plot *p, const double *edge, const double *height,
               size_t n, double mark)
{
    struct axis x = empty, y = empty;
    int w = width_of(p), t = height_of(p);
    widen(&y, 0);
    for (size_t i = 0; i < n; i++) {
        widen(&x, edge[i]);
        widen(&x, edge[i + 1]);
        widen(&y, height[i]);
    }
    if (!n || !settle(&x, p->log_x ? 0 : PLOT_DECADES) || !settle(&y, INFINITY))
        return;
    put_axes(h, p, &x, &y, w, t, RIGHT);
    put_x_name(h, &x, p, t);
    for (size_t i = 0; i < n; i++) {
        double left = at(&x, edge[i]), right = at(&x, edge[i + 1]), top = at(&y, height[i]);
        if (height[i] > 0)
            html_put(h, "<rect class='bar' x='%.1f' y='%.1f' width='%.1f' height='%.1f'/>",
                     left + 0.5, top, fmax(right - left - 1, 0.5), y.from - top);
    }
    if (isfinite(mark) && mark >= (x.log ? pow(10, x.low) : x.low))
        html_put(h, "<line class='mark' x1='%.1f' x2='%.1f' y1='%d' y2='%.0f'/>", at(&x, mark),
                 at(&x, mark), TOP, y.from);
    html_raw(h, "</svg>\n");
}

// ---- figures with their intervals

void plot_spans(struct html *h, const struct plot *p, const struct plot_span *s, size_t n,
                double chance)
{
    enum { NAMES = 190 };
    struct axis x = empty;
    int width = width_of(p), height = TOP + (int)n * LINE + BOTTOM;
    widen(&x, 0);
    widen(&x, chance);
    for (size_t i = 0; i < n; i++) {
        widen(&x, s[i].value);
        widen(&x, s[i].low);
        widen(&x, s[i].high);
    }
    if (!n || !settle(&x, INFINITY))
        return;
    x.from = NAMES;
    x.to = width - 60;
    begin(h, p, width, height);
    put_x(h, &x, p, height);
    put_x_name(h, &x, p, height);
    if (isfinite(chance))
        html_put(h, "<line class='mark' x1='%.1f' x2='%.1f' y1='%d' y2='%d'/>", at(&x, chance),
                 at(&x, chance), TOP, height - BOTTOM);
    for (size_t i = 0; i < n; i++) {
        double y = TOP + (double)i * LINE + LINE / 2.0;
        html_put(h, "<text x='%d' y='%.1f' class='y'>", NAMES - 12, y + 4);
        html_text(h, s[i].name);
        html_raw(h, "</text>");
        if (isfinite(s[i].low) && isfinite(s[i].high))
            html_put(h, "<line class='span' x1='%.1f' x2='%.1f' y1='%.1f' y2='%.1f'/>",
                     at(&x, s[i].low), at(&x, s[i].high), y, y);
        html_put(h, "<circle class='t%zu' cx='%.1f' cy='%.1f' r='4'/>", i % 8, at(&x, s[i].value),
                 y);
    }
    html_raw(h, "</svg>\n");
}
