// SPDX-License-Identifier: Apache-2.0
#include "base/utf8.h"

#include <utf8proc.h>

size_t utf8_next(const void *p, size_t n, int32_t *c)
{
    const utf8proc_uint8_t *s = p;
    utf8proc_int32_t code = n ? s[0] : 0;
    utf8proc_ssize_t used = n > 0;
    if (n && s[0] >= 0x80)
        used = utf8proc_iterate(s, n < 4 ? (utf8proc_ssize_t)n : 4, &code);
    if (c)
        *c = code;
    return used > 0 ? (size_t)used : 0;
}

size_t utf8_valid_up_to(const void *p, size_t n)
{
    const unsigned char *s = p;
    size_t at = 0;
    for (size_t k; at < n && (k = utf8_next(s + at, n - at, NULL)) > 0;)
        at += k;
    return at;
}
