// SPDX-License-Identifier: Apache-2.0
#include "text/clean.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "text/html-entities.h"
#include "base/mem.h"
#include "text/fix.h"
#include "text/mojibake.h"

enum { SEGMENT_MAX = 1000000 }; // ftfy's max_decode_length: no longer pieces are repaired at once

// ASCII that no repair changes: only white space and case are left to do.
static bool is_plain(const uint8_t *s, size_t n)
{
    uint8_t odd = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = s[i];
        bool blank = c == '\t' || c == '\n' || c == '\f' || c == '\r';
        odd |= (uint8_t)(c >= 0x7f) | (uint8_t)(c < 0x20 && !blank) | (uint8_t)(c == '&');
    }
    return !odd;
}

static void clean_plain(const uint8_t *s, size_t n, struct text_bytes *out)
{
    size_t w = 0;
    bool space = false;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = s[i];
        if (c <= ' ') {
            space = w > 0;
            continue;
        }
        if (space)
            out->data[w++] = ' ';
        space = false;
        out->data[w++] = c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
    }
    out->n = w;
}

static enum text_status decode(const uint8_t *s, size_t n, struct text *t, struct err *e)
{
    if (text_reserve(t, n, e))
        return TEXT_ERROR;
    for (size_t i = 0; i < n;) {
        if (s[i] < 0x80) {
            t->c[t->n++] = s[i++];
            continue;
        }
        size_t k = utf8_next(s + i, n - i, &t->c[t->n]);
        if (!k) {
            err_set(e, "not UTF-8 at byte %zu", i);
            return TEXT_BAD_UTF8;
        }
        t->n++;
        i += k;
    }
    return TEXT_OK;
}

static int encode(const struct text *t, struct text_bytes *out, struct err *e)
{
    size_t max;
    if (!mem_mul(t->n, 4, &max))
        return err_set(e, "text too long");
    if (mem_grow((void **)&out->data, &out->cap, max, 1, e))
        return -1;
    out->n = 0;
    for (size_t i = 0; i < t->n; i++)
        out->n += (size_t)utf8proc_encode_char(t->c[i], out->data + out->n);
    return 0;
}

// One round of ftfy's repairs.
static int fix_round(struct text *t, struct text *tmp, bool unescape, bool *changed, struct err *e)
{
    if (unescape) {
        size_t n = html_unescape_strict(t->c, t->n);
        *changed |= n != t->n; // a reference is longer than what it stands for
        t->n = n;
    }
    if (text_fix_mojibake(t, changed, e))
        return -1;
    text_fix_c1(t, changed);
    if (text_expand(t, tmp, changed, e))
        return -1;
    text_fix_quotes(t, changed);
    text_fix_line_breaks(t, changed);
    text_remove_escapes(t, changed);
    text_remove_controls(t, changed);
    return text_nfc(t, tmp, changed, e);
}

static int fix_segment(struct text *t, struct text *tmp, bool unescape, struct err *e)
{
    bool changed = true;
    for (int round = 0; changed && round < TEXT_ROUNDS; round++) {
        changed = false;
        if (fix_round(t, tmp, unescape, &changed, e))
            return -1;
    }
    return 0;
}

struct scratch {
    struct text all, segment, tmp, fixed;
};

// ftfy.fix_text: line by line; once a line holds '<', references are left alone from there on.
static int fix_text(struct scratch *s, struct err *e)
{
    bool unescape = true;
    for (size_t at = 0; at < s->all.n;) {
        size_t end = at;
        bool newline = false;
        for (; end < s->all.n && end - at < SEGMENT_MAX && !newline; end++) {
            newline = s->all.c[end] == '\n';
            unescape = unescape && s->all.c[end] != '<';
        }
        s->segment.n = 0;
        if (text_append(&s->segment, s->all.c + at, end - at, e) ||
            fix_segment(&s->segment, &s->tmp, unescape, e) ||
            text_append(&s->fixed, s->segment.c, s->segment.n, e))
            return -1;
        at = end;
    }
    return 0;
}

static void collapse_spaces(struct text *t)
{
    size_t w = 0, end = t->n, i = 0;
    while (i < end && text_is_space(t->c[i]))
        i++;
    while (end > i && text_is_space(t->c[end - 1]))
        end--;
    for (; i < end; i++) {
        if (!text_is_white(t->c[i]))
            t->c[w++] = t->c[i];
        else if (w == 0 || t->c[w - 1] != ' ')
            t->c[w++] = ' ';
    }
    t->n = w;
}

static enum text_status clean_any(const uint8_t *text, size_t len, struct scratch *s,
                                  struct text_bytes *out, struct err *e)
{
    enum text_status status = decode(text, len, &s->all, e);
    if (status)
        return status;
    if (fix_text(s, e))
        return TEXT_ERROR;
    struct text *t = &s->fixed;
    t->n = html_unescape(t->c, t->n);
    t->n = html_unescape(t->c, t->n);
    collapse_spaces(t);
    return text_lower(t, &s->tmp, e) || encode(t, out, e) ? TEXT_ERROR : TEXT_OK;
}

enum text_status text_clean(const char *text, size_t len, struct text_bytes *out, struct err *e)
{
    const uint8_t *bytes = (const uint8_t *)text;
    out->n = 0;
    if (len == 0)
        return TEXT_OK;
    if (is_plain(bytes, len)) {
        if (mem_grow((void **)&out->data, &out->cap, len, 1, e))
            return TEXT_ERROR;
        clean_plain(bytes, len, out);
        return TEXT_OK;
    }
    struct scratch s = {0};
    enum text_status status = clean_any(bytes, len, &s, out, e);
    text_release(&s.all);
    text_release(&s.segment);
    text_release(&s.tmp);
    text_release(&s.fixed);
    return status;
}

void text_bytes_release(struct text_bytes *b)
{
    free(b->data);
    memset(b, 0, sizeof *b);
}
