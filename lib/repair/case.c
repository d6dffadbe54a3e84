// SPDX-License-Identifier: Apache-2.0
// NFC and lower case: the two repairs that look at a character's neighbours.
#include "repair/fix.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"

enum { SHORT_RUN = 64, CLASSES = 256, DECOMPOSED_MAX = 8 };

static unsigned combining_class(int32_t c)
{
    return c < 0x300 ? 0 : (unsigned)utf8proc_get_property(c)->combining_class & 0xff;
}

static void sort_short(int32_t *c, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        int32_t x = c[i];
        unsigned cls = combining_class(x);
        size_t k = i;
        for (; k > 0 && combining_class(c[k - 1]) > cls; k--)
            c[k] = c[k - 1];
        c[k] = x;
    }
}

// Counting sort: a caption made of combining marks must not cost quadratic time.
static int sort_long(int32_t *c, size_t n, struct err *e)
{
    size_t at[CLASSES + 1] = {0};
    int32_t *sorted = mem_alloc(n, sizeof *sorted, e);
    if (!sorted)
        return -1;
    for (size_t i = 0; i < n; i++)
        at[combining_class(c[i]) + 1]++;
    for (size_t k = 0; k < CLASSES; k++)
        at[k + 1] += at[k];
    for (size_t i = 0; i < n; i++)
        sorted[at[combining_class(c[i])]++] = c[i];
    memcpy(c, sorted, n * sizeof *c);
    free(sorted);
    return 0;
}

// Marks in the canonical order: each run of them sorted by class, stably.
static int order_marks(int32_t *c, size_t n, struct err *e)
{
    for (size_t i = 0; i < n;) {
        size_t k = i;
        while (k < n && combining_class(c[k]))
            k++;
        if (k - i > SHORT_RUN) {
            if (sort_long(c + i, k - i, e))
                return -1;
        } else if (k > i) {
            sort_short(c + i, k - i);
        }
        i = k + 1;
    }
    return 0;
}

static int decompose(const struct text *t, struct text *out, struct err *e)
{
    out->n = 0;
    for (size_t i = 0; i < t->n; i++) {
        int32_t parts[DECOMPOSED_MAX];
        int bound = 0;
        utf8proc_ssize_t k =
            utf8proc_decompose_char(t->c[i], parts, DECOMPOSED_MAX, UTF8PROC_DECOMPOSE, &bound);
        bool fits = k > 0 && k <= DECOMPOSED_MAX;
        if (text_append(out, fits ? parts : &t->c[i], fits ? (size_t)k : 1, e))
            return -1;
    }
    return 0;
}

int text_nfc(struct text *t, struct text *tmp, bool *changed, struct err *e)
{
    size_t i = 0;
    while (i < t->n && t->c[i] < 0x300) // no smaller code point changes, alone or with another
        i++;
    if (i == t->n)
        return 0;
    if (decompose(t, tmp, e) || order_marks(tmp->c, tmp->n, e))
        return -1;
    utf8proc_ssize_t n = utf8proc_normalize_utf32(tmp->c, (utf8proc_ssize_t)tmp->n,
                                                  UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (n < 0)
        return err_set(e, "cannot normalize text: %s", utf8proc_errmsg(n));
    tmp->n = (size_t)n;
    if (tmp->n == t->n && memcmp(tmp->c, t->c, t->n * sizeof *t->c) == 0)
        return 0;
    struct text swap = *t;
    *t = *tmp;
    *tmp = swap;
    *changed = true;
    return 0;
}

struct range {
    int32_t first, last;
};

static bool in_ranges(const struct range *r, size_t n, int32_t c)
{
    for (size_t i = 0; i < n; i++) {
        if (c >= r[i].first && c <= r[i].last)
            return true;
    }
    return false;
}

// Unicode's Case_Ignorable: the categories below and Word_Break = MidLetter, MidNumLet,
// Single_Quote.
static bool is_case_ignorable(int32_t c)
{
    static const struct range extra[] = {
        {0x27, 0x27},     {0x2e, 0x2e},     {0x3a, 0x3a},     {0xb7, 0xb7},
        {0x387, 0x387},   {0x55f, 0x55f},   {0x5f4, 0x5f4},   {0x2018, 0x2019},
        {0x2024, 0x2024}, {0x2027, 0x2027}, {0xfe13, 0xfe13}, {0xfe52, 0xfe52},
        {0xfe55, 0xfe55}, {0xff07, 0xff07}, {0xff0e, 0xff0e}, {0xff1a, 0xff1a},
    };
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
        return true;
    default:
        return in_ranges(extra, sizeof extra / sizeof *extra, c);
    }
}

// Unicode's Cased: cased letters, Other_Lowercase and Other_Uppercase.
static bool is_cased(int32_t c)
{
    static const struct range extra[] = {
        {0xaa, 0xaa},       {0xba, 0xba},       {0x2160, 0x217f},   {0x24b6, 0x24e9},
        {0x1f130, 0x1f149}, {0x1f150, 0x1f169}, {0x1f170, 0x1f189},
    };
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
        return true;
    default:
        return in_ranges(extra, sizeof extra / sizeof *extra, c);
    }
}

// Nearest character that is not case-ignorable, before (step -1) or after c[at]: is it cased?
static bool cased_neighbour(const struct text *t, size_t at, int step)
{
    size_t i = at + (size_t)step; // wraps below 0, and then is not < n
    while (i < t->n && is_case_ignorable(t->c[i]))
        i += (size_t)step;
    return i < t->n && is_cased(t->c[i]);
}

int text_lower(struct text *t, struct text *tmp, struct err *e)
{
    enum { DOTTED_I = 0x130, DOT_ABOVE = 0x307, SIGMA = 0x3a3, LOWER = 0x3c3, FINAL = 0x3c2 };
    tmp->n = 0;
    if (text_reserve(tmp, t->n, e))
        return -1;
    for (size_t i = 0; i < t->n; i++) {
        int32_t c = t->c[i], out[2] = {c};
        size_t k = 1;
        if (c < 0x80) {
            out[0] = c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c;
        } else if (c == DOTTED_I) {
            out[0] = 'i';
            out[k++] = DOT_ABOVE;
        } else if (c == SIGMA) {
            // SpecialCasing.txt, Final_Sigma
            out[0] = cased_neighbour(t, i, -1) && !cased_neighbour(t, i, 1) ? FINAL : LOWER;
        } else {
            out[0] = utf8proc_tolower(c);
        }
        if (text_append(tmp, out, k, e))
            return -1;
    }
    struct text swap = *t;
    *t = *tmp;
    *tmp = swap;
    return 0;
}
