// SPDX-License-Identifier: Apache-2.0
#include "repair/fix.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"

int text_reserve(struct text *t, size_t need, struct err *e)
{
    return mem_grow((void **)&t->c, &t->cap, need, sizeof *t->c, e);
}

int text_append(struct text *t, const int32_t *c, size_t n, struct err *e)
{
    size_t need;
    if (!mem_add(t->n, n, &need))
        return err_set(e, "text too long");
    if (text_reserve(t, need, e))
        return -1;
    if (n)
        memcpy(t->c + t->n, c, n * sizeof *c);
    t->n = need;
    return 0;
}

void text_release(struct text *t)
{
    free(t->c);
    memset(t, 0, sizeof *t);
}

bool text_is_white(int32_t c)
{
    if (c < 0x80)
        return c == ' ' || (c >= '\t' && c <= '\r');
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool text_is_space(int32_t c)
{
    return (c >= 0x1c && c <= 0x1f) || text_is_white(c);
}

void text_fix_c1(struct text *t, bool *changed)
{
    static const uint16_t cp1252[32] = {
        0x20ac, 0x81,   0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160,
        0x2039, 0x0152, 0x8d,   0x017d, 0x8f,   0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
        0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0x9d,   0x017e, 0x0178,
    };
    for (size_t i = 0; i < t->n; i++) {
        int32_t c = t->c[i];
        if (c >= 0x80 && c <= 0x9f && cp1252[c - 0x80] != c) {
            t->c[i] = cp1252[c - 0x80];
            *changed = true;
        }
    }
}

void text_fix_quotes(struct text *t, bool *changed)
{
    for (size_t i = 0; i < t->n; i++) {
        int32_t c = t->c[i];
        bool single = c == 0x2bc || (c >= 0x2018 && c <= 0x201b);
        bool pair = c >= 0x201c && c <= 0x201f;
        if (single || pair) {
            t->c[i] = single ? '\'' : '"';
            *changed = true;
        }
    }
}

void text_fix_line_breaks(struct text *t, bool *changed)
{
    size_t w = 0;
    for (size_t i = 0; i < t->n; i++) {
        int32_t c = t->c[i];
        if (c == '\r' || c == 0x2028 || c == 0x2029 || c == 0x85) {
            *changed = true;
            if (c == '\r' && i + 1 < t->n && t->c[i + 1] == '\n')
                continue;
            c = '\n';
        }
        t->c[w++] = c;
    }
    t->n = w;
}

static bool is_digit(int32_t c)
{
    return c < 0x80 ? c >= '0' && c <= '9' : utf8proc_category(c) == UTF8PROC_CATEGORY_ND;
}

// Length of "ESC [ digits-and-semicolons letter" at c; 0 = none.
static size_t escape_length(const int32_t *c, size_t n)
{
    if (n < 3 || c[0] != 0x1b || c[1] != '[')
        return 0;
    size_t i = 2;
    while (i < n && (is_digit(c[i]) || c[i] == ';'))
        i++;
    bool letter = i < n && ((c[i] >= 'a' && c[i] <= 'z') || (c[i] >= 'A' && c[i] <= 'Z'));
    return letter ? i + 1 : 0;
}

void text_remove_escapes(struct text *t, bool *changed)
{
    size_t w = 0;
    for (size_t i = 0; i < t->n;) {
        size_t k = escape_length(t->c + i, t->n - i);
        if (k) {
            i += k;
            *changed = true;
        } else {
            t->c[w++] = t->c[i++];
        }
    }
    t->n = w;
}

static bool is_control(int32_t c)
{
    if (c < 0x80)
        return c == 0x7f || (c < 0x20 && c != '\t' && c != '\n' && c != '\f' && c != '\r');
    return (c >= 0x206a && c <= 0x206f) || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffc);
}

void text_remove_controls(struct text *t, bool *changed)
{
    size_t w = 0;
    for (size_t i = 0; i < t->n; i++) {
        if (is_control(t->c[i]))
            *changed = true;
        else
            t->c[w++] = t->c[i];
    }
    t->n = w;
}

// Latin ligatures and digraphs taken apart; 0 = c is none.
static int split_ligature(int32_t c, int32_t out[3])
{
    static const struct {
        uint16_t c, parts[3];
    } ligatures[] = {
        {0x132, {'I', 'J'}},       {0x133, {'i', 'j'}},       {0x149, {0x2bc, 'n'}},
        {0x1c4, {'D', 0x17d}},     {0x1c5, {'D', 0x17e}},     {0x1c6, {'d', 0x17e}},
        {0x1c7, {'L', 'J'}},       {0x1c8, {'L', 'j'}},       {0x1c9, {'l', 'j'}},
        {0x1ca, {'N', 'J'}},       {0x1cb, {'N', 'j'}},       {0x1cc, {'n', 'j'}},
        {0x1f1, {'D', 'Z'}},       {0x1f2, {'D', 'z'}},       {0x1f3, {'d', 'z'}},
        {0xfb00, {'f', 'f'}},      {0xfb01, {'f', 'i'}},      {0xfb02, {'f', 'l'}},
        {0xfb03, {'f', 'f', 'i'}}, {0xfb04, {'f', 'f', 'l'}}, {0xfb05, {0x17f, 't'}},
        {0xfb06, {'s', 't'}},
    };
    for (size_t i = 0; i < sizeof ligatures / sizeof *ligatures; i++) {
        if (ligatures[i].c == c) {
            int k = 0;
            for (; k < 3 && ligatures[i].parts[k]; k++)
                out[k] = ligatures[i].parts[k];
            return k;
        }
    }
    return 0;
}

static int split_form(int32_t c, int32_t out[4])
{
    if ((c >= 0x132 && c <= 0x1f3) || (c >= 0xfb00 && c <= 0xfb06))
        return split_ligature(c, out);
    if (c == 0x3000) {
        out[0] = ' ';
        return 1;
    }
    if (c < 0xff01 || c > 0xffef)
        return 0;
    // None of these has a decomposition that would compose again, so NFKD is NFKC here.
    int bound = 0;
    utf8proc_ssize_t k =
        utf8proc_decompose_char(c, out, 4, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, &bound);
    return k > 0 && k <= 4 && !(k == 1 && out[0] == c) ? (int)k : 0;
}

int text_expand(struct text *t, struct text *tmp, bool *changed, struct err *e)
{
    size_t i = 0;
    int32_t parts[4];
    while (i < t->n && !split_form(t->c[i], parts))
        i++;
    if (i == t->n)
        return 0;
    tmp->n = 0;
    if (text_append(tmp, t->c, i, e))
        return -1;
    for (; i < t->n; i++) {
        int k = split_form(t->c[i], parts);
        if (text_append(tmp, k ? parts : &t->c[i], k ? (size_t)k : 1, e))
            return -1;
    }
    struct text swap = *t;
    *t = *tmp;
    *tmp = swap;
    *changed = true;
    return 0;
}
