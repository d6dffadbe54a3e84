// SPDX-License-Identifier: Apache-2.0
#include "shards/read-text.h"

#include <string.h>
#include <utf8proc.h>

static bool is_space(utf8proc_int32_t c)
{
    if (c < 0x80)
        return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f);
    if (c == 0x85)
        return true;
    utf8proc_category_t k = utf8proc_category(c);
    return k == UTF8PROC_CATEGORY_ZS || k == UTF8PROC_CATEGORY_ZL || k == UTF8PROC_CATEGORY_ZP;
}

enum sample_status read_caption_status(const uint8_t *text, size_t n, size_t *at)
{
    bool blank = true;
    size_t i = 0;
    while (i < n) {
        utf8proc_int32_t c = text[i];
        utf8proc_ssize_t used = 1;
        if (c >= 0x80)
            used = utf8proc_iterate(text + i, n - i < 4 ? (utf8proc_ssize_t)(n - i) : 4, &c);
        if (used <= 0) {
            *at = i;
            return SAMPLE_BAD_UTF8;
        }
        blank = blank && is_space(c);
        i += (size_t)used;
    }
    return blank ? SAMPLE_NO_CAPTION : SAMPLE_OK;
}

bool read_text_utf16(const uint8_t *text, size_t n)
{
    return n >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0);
}
