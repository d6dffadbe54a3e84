// SPDX-License-Identifier: Apache-2.0
#include "page/html.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

enum { PIECE = 4096 };

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
