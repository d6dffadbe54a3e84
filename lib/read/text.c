// SPDX-License-Identifier: Apache-2.0
#include "read/text.h"

#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"

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
        int32_t c;
        size_t used = utf8_next(text + i, n - i, &c);
        if (!used) {
            *at = i;
            return SAMPLE_BAD_UTF8;
        }
        blank = blank && is_space(c);
        i += used;
    }
    return blank ? SAMPLE_NO_CAPTION : SAMPLE_OK;
}

bool read_text_utf16(const uint8_t *text, size_t n)
{
    return n >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0);
}
