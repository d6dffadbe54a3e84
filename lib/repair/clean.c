// SPDX-License-Identifier: Apache-2.0
#include "repair/clean.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "repair/html-entities.h"
#include "base/mem.h"
#include "repair/fix.h"
#include "repair/mojibake.h"

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

static bool is_punctuation(int32_t c)
{
    return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
           (c >= 123 && c <= 126);
}

// Forms with ftfy.
static void clean_plain(enum text_form form, const uint8_t *s, size_t n, struct text_bytes *out)
{
    size_t w = 0;
    bool space = false, lower = form != TEXT_WHITESPACE, bare = form == TEXT_CANONICAL;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = bare && s[i] == '_' ? ' ' : s[i];
        if (bare && is_punctuation(c))
            continue;
        if (c <= ' ') {
            space = w > 0;
            continue;
        }
        if (space)
            out->data[w++] = ' ';
        space = false;
        out->data[w++] = lower && c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
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

// ASCII punctuation away, '_' as a space where `under`.
static void drop_punctuation(struct text *t, bool under)
{
    size_t w = 0;
    for (size_t i = 0; i < t->n; i++) {
        int32_t c = under && t->c[i] == '_' ? ' ' : t->c[i];
        if (!is_punctuation(c))
            t->c[w++] = c;
    }
    t->n = w;
}

// " ".join(text.split())
static void join_words(struct text *t)
{
    for (size_t i = 0; i < t->n; i++)
        t->c[i] = text_is_space(t->c[i]) ? ' ' : t->c[i];
    collapse_spaces(t);
}

// Each character by itself: no final sigma.
static int lower_each(struct text *t, struct text *tmp, struct err *e)
{
    struct text one = {0};
    int rc = 0;
    tmp->n = 0;
    for (size_t i = 0; i < t->n && !rc; i++) {
        struct text low = {0};
        one.n = 0;
        rc = text_append(&one, &t->c[i], 1, e) || text_lower(&one, &low, e) ||
             text_append(tmp, one.c, one.n, e);
        text_release(&low);
    }
    text_release(&one);
    struct text swap = *t;
    *t = *tmp;
    *tmp = swap;
    return rc ? -1 : 0;
}

static int apply_form(enum text_form form, struct text *t, struct text *tmp, struct err *e)
{
    switch (form) {
    case TEXT_LOWER:
        collapse_spaces(t);
        return text_lower(t, tmp, e);
    case TEXT_WHITESPACE:
        collapse_spaces(t);
        return 0;
    case TEXT_CANONICAL:
        drop_punctuation(t, true);
        if (text_lower(t, tmp, e))
            return -1;
        join_words(t);
        return 0;
    case TEXT_RAW:
        return 0;
    case TEXT_SIGLIP:
        if (text_lower(t, tmp, e))
            return -1;
        drop_punctuation(t, false);
        join_words(t);
        return 0;
    case TEXT_LOWER_EACH:
        return lower_each(t, tmp, e);
    }
    return 0;
}

static enum text_status clean_any(enum text_form form, const uint8_t *text, size_t len,
                                  struct scratch *s, struct text_bytes *out, struct err *e)
{
    bool fixed = form <= TEXT_CANONICAL;
    enum text_status status = decode(text, len, &s->all, e);
    if (status)
        return status;
    if (fixed && fix_text(s, e))
        return TEXT_ERROR;
    struct text *t = fixed ? &s->fixed : &s->all;
    for (int i = 0; fixed && i < 2; i++)
        t->n = html_unescape(t->c, t->n);
    return apply_form(form, t, &s->tmp, e) || encode(t, out, e) ? TEXT_ERROR : TEXT_OK;
}

enum text_status text_clean_as(enum text_form form, const char *text, size_t len,
                               struct text_bytes *out, struct err *e)
{
    const uint8_t *bytes = (const uint8_t *)text;
    out->n = 0;
    if (len == 0)
        return TEXT_OK;
    if (form <= TEXT_CANONICAL && is_plain(bytes, len)) {
        if (mem_grow((void **)&out->data, &out->cap, len, 1, e))
            return TEXT_ERROR;
        clean_plain(form, bytes, len, out);
        return TEXT_OK;
    }
    struct scratch s = {0};
    enum text_status status = clean_any(form, bytes, len, &s, out, e);
    text_release(&s.all);
    text_release(&s.segment);
    text_release(&s.tmp);
    text_release(&s.fixed);
    return status;
}

enum text_status text_clean(const char *text, size_t len, struct text_bytes *out, struct err *e)
{
    return text_clean_as(TEXT_LOWER, text, len, out, e);
}

void text_bytes_release(struct text_bytes *b)
{
    free(b->data);
    memset(b, 0, sizeof *b);
}
