// SPDX-License-Identifier: Apache-2.0
// Writes an HTML page to an output. After a failure the calls do nothing; html_done returns -1.
#ifndef REPORT_HTML_H
#define REPORT_HTML_H

#include "base/err.h"
#include "system/io.h"

struct html {
    struct out *o;
    struct err *e;
    int failed;
};

// All up to the first heading, with the style of every page; and the end (style.c).
void html_begin(struct html *h, const char *title);
void html_end(struct html *h);
// Formatted markup, not escaped.
void html_put(struct html *h, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// A long piece of markup, not escaped.
void html_raw(struct html *h, const char *text);
// Text: & < > " ' escaped, bytes that are not printable ASCII or UTF-8 shown as '?'.
void html_text(struct html *h, const char *text);
// 0, or -1 when a call failed.
int html_done(const struct html *h);

// A picture of curves: n_series series over x; NaN is a gap. Width and height are in pixels. Values
// are drawn from the least to the largest that occurs, with round numbers on the axes; those of x
// are whole.
struct html_series {
    const char *name;
    const double *x, *y;
    size_t n;
};
void html_curves(struct html *h, const struct html_series *s, size_t n_series, const char *x_name);

#endif
