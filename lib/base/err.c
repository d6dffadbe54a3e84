// SPDX-License-Identifier: Apache-2.0
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

// How many bytes the character at p has: 0 for a control (C0, DEL, C1) and for a byte in the range
// of C1 that belongs to no character, which an 8-bit terminal takes for one.
static size_t printable(const char *p)
{
    int32_t c;
    size_t n = utf8_next(p, strnlen(p, 4), &c);
    unsigned char byte = (unsigned char)*p;
    if (!n)
        return byte >= 0x80 && byte < 0xa0 ? 0 : 1;
    return c < 0x20 || (c >= 0x7f && c < 0xa0) ? 0 : n;
}

void err_strip_controls(char *s)
{
    char *to = s;
    while (*s) {
        size_t n = printable(s), control = (unsigned char)*s == 0xc2 ? 2 : 1;
        if (n)
            to = (char *)memmove(to, s, n) + n;
        else
            *to++ = '?';
        s += n ? n : control;
    }
    *to = '\0';
}

int err_set(struct err *e, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    e->machine = false;
    err_strip_controls(e->text);
    return -1;
}

int err_machine(struct err *e, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    e->machine = true;
    err_strip_controls(e->text);
    return -1;
}

int err_errno(struct err *e, const char *fmt, ...)
{
    int saved = errno;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof e->text)
        snprintf(e->text + n, sizeof e->text - (size_t)n, ": %s", strerror(saved));
    e->machine = true;
    err_strip_controls(e->text);
    errno = saved;
    return -1;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
    char old[ERR_TEXT_MAX];
    memcpy(old, e->text, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof e->text)
        snprintf(e->text + n, sizeof e->text - (size_t)n, ": %s", old);
    err_strip_controls(e->text);
    return -1;
}
