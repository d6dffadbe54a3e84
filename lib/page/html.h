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
// The page loads itself again every so many seconds, and keeps its place.
void html_again(struct html *h, int seconds);
// Formatted markup, not escaped.
void html_put(struct html *h, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// A long piece of markup, not escaped.
void html_raw(struct html *h, const char *text);
// Text: & < > " ' escaped, bytes that are not printable ASCII or UTF-8 shown as '?'.
void html_text(struct html *h, const char *text);
// 0, or -1 when a call failed.
int html_done(const struct html *h);

#endif
