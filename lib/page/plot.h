// SPDX-License-Identifier: Apache-2.0
// Plots as SVG: curves, bars, and figures with their intervals. Ticks are round; an axis of
// positive values that span PLOT_DECADES has the scale of their logarithms. Widths are in pixels of
// the drawing, which a page makes narrower where it is.
#ifndef PAGE_PLOT_H
#define PAGE_PLOT_H

#include <stdbool.h>
#include <stddef.h>

#include "page/html.h"

#define PLOT_DECADES 50 // greatest value over least

struct plot {
    const char *title;       // what it shows, for those who do not see it
    const char *x_name;      // the unit of x, shown with several series and with bars
    int width, height;       // 0: 760 x 260
    bool from_zero, whole_x; // y begins at 0; ticks of x are whole numbers
    bool log_x;              // always
};

// n_series series over x; NaN is a gap. Nothing where there is no value.
struct plot_series {
    const char *name;
    const double *x, *y;
    size_t n;
};
void plot_curves(struct html *h, const struct plot *p, const struct plot_series *s,
                 size_t n_series);
// n bars over [edge[i], edge[i + 1]]. mark: a vertical line there, NaN: none.
void plot_bars(struct html *h, const struct plot *p, const double *edge, const double *height,
               size_t n, double mark);
// Lines with a point and an interval each; chance: a vertical line, NaN: none.
struct plot_span {
    const char *name;
    double value, low, high; // low, high NaN: no interval
};
void plot_spans(struct html *h, const struct plot *p, const struct plot_span *s, size_t n,
                double chance);

#endif
