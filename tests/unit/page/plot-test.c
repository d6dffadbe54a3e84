// SPDX-License-Identifier: Apache-2.0
// Plots: round ticks, logarithms where values span decades, every point within the drawing, nothing
// where there is nothing.
#include "page/plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "unit/tap.h"

static char path[] = "/tmp/plot-test.XXXXXX", text[200000];

// The drawing as text.
static const char *draw(void (*put)(struct html *h))
{
    struct err e;
    struct out o;
    if (out_open(&o, path, &e))
        return "";
    struct html h = {.o = &o, .e = &e};
    put(&h);
    out_commit(&o, &e);
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    text[n] = '\0';
    if (f)
        fclose(f);
    return text;
}

static const double step[] = {0, 100, 200, 300, 400};
static double value[5];
static size_t points = 5;

static void curve(struct html *h)
{
    const struct plot p = {.title = "a <b>", .x_name = "step", .whole_x = true};
    const struct plot_series s[] = {{"one & two", step, value, points},
                                    {"two", step, value, points}};
    plot_curves(h, &p, s, 2);
}

static bool has(const char *in, const char *what)
{
    return strstr(in, what) != NULL;
}

// All points of all lines lie within 760 x 260.
static bool within(const char *svg)
{
    for (const char *p = svg; (p = strstr(p, "points='")); p++) {
        char *end = (char *)p + 8;
        while (*end && *end != '\'') {
            double x = strtod(end, &end), y = *end == ',' ? strtod(end + 1, &end) : -1;
            if (!(x >= 0 && x <= 760 && y >= 0 && y <= 260))
                return false;
            end += strspn(end, " ");
        }
    }
    return true;
}

static void set(double a, double b, double c, double d, double e)
{
    const double v[] = {a, b, c, d, e};
    memcpy(value, v, sizeof value);
}

static void test_curves(void)
{
    set(0.0371, 0.05, 0.1113, 0.08, 0.06);
    const char *s = draw(curve);
    ok(has(s, ">0.04<") && has(s, ">0.1<") && !has(s, "0.0371") && !has(s, "0.1113"),
       "round ticks");
    ok(has(s, ">100<") && has(s, ">400<"), "whole steps");
    ok(has(s, "<title>a &lt;b&gt;</title>") && has(s, ">one &amp; two<"), "names are text");
    ok(within(s), "all points are in it");
    set(1e-7, 1e-5, 1e-3, 0.1, 1);
    s = draw(curve);
    ok(has(s, ">1e-07<") && has(s, ">0.001<") && has(s, ">1<") && !has(s, ">0.2<"), "decades");
    ok(within(s), "within it too");
    set(1, 2, 20, 30, 60);
    s = draw(curve);
    ok(has(s, ">2<") && has(s, ">5<") && has(s, ">50<"), "few decades: 2 and 5 as well");
    set(-1, 2, 20, 30, 60);
    ok(has(draw(curve), ">20<") && !has(text, ">5<"), "no logarithm of less than nothing");
    set(NAN, 1, INFINITY, 2, NAN);
    s = draw(curve);
    ok(has(s, "<polyline") && within(s) && !has(s, "nan") && !has(s, "inf"), "gaps");
    set(3, 3, 3, 3, 3);
    ok(has(draw(curve), "<polyline") && within(text) && !has(text, "nan"), "all alike");
    set(NAN, NAN, NAN, NAN, NAN);
    ok(!*draw(curve), "nothing where there is nothing");
    points = 0;
    ok(!*draw(curve), "no points");
}

static void bars(struct html *h)
{
    static const double edge[] = {1, 2, 4, 8, 16}, height[] = {3, 0, 5, 1};
    const struct plot p = {.title = "sizes", .x_name = "rows", .log_x = true};
    plot_bars(h, &p, edge, height, 4, 3);
}

static void spans(struct html *h)
{
    static const struct plot_span s[] = {{"a<b", 20, 15, 25}, {"b", 40, NAN, NAN}};
    const struct plot p = {.title = "acc1", .x_name = "%"};
    plot_spans(h, &p, s, 2, 10);
}

static void test_others(void)
{
    const char *s = draw(bars);
    ok(has(s, "class='bar'") && has(s, "class='mark'") && has(s, ">10<"), "bars, and a mark");
    s = draw(spans);
    ok(has(s, ">a&lt;b<") && has(s, "class='span'") && has(s, "<circle") && has(s, "class='mark'"),
       "spans, names and chance");
    ok(strstr(s, "class='span'") && !strstr(strstr(s, "class='span'") + 1, "class='span'"),
       "no line where there is no interval");
}

int main(void)
{
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    test_curves();
    test_others();
    unlink(path);
    return tap_done();
}
