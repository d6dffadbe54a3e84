// SPDX-License-Identifier: Apache-2.0
#include "repair/html-entities.h"

#include <pthread.h>
#include <string.h>
#include <utf8proc.h>

#include "repair/html-entities-table.h"

enum {
    BARE_MAX = 6,        // longest name that needs no semicolon ("brvbar")
    STRICT_MAX = 24,     // ftfy looks at no longer references
    CODE_MAX = 0x10ffff, // last code point
    REPLACEMENT = 0xfffd,
};

static uint16_t record_at[HTML_ENTITY_COUNT];
static pthread_once_t index_once = PTHREAD_ONCE_INIT;

static void index_records(void)
{
    size_t at = 0;
    for (size_t i = 0; i < HTML_ENTITY_COUNT; i++) {
        record_at[i] = (uint16_t)at;
        at += strlen(html_entity_records + at) + 1;
    }
}

static bool is_alnum(int32_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

// Order of name[0..n) against the record's name, which ends at '=' or '!' (below every letter and
// digit but '!' < '0' < '=': compared as an end, not as a character).
static int compare_name(const char *name, size_t n, const char *record)
{
    for (size_t i = 0; i < n; i++) {
        if (!is_alnum((unsigned char)record[i]))
            return 1;
        if (name[i] != record[i])
            return (unsigned char)name[i] < (unsigned char)record[i] ? -1 : 1;
    }
    return is_alnum((unsigned char)record[n]) ? -1 : 0;
}

static int decode_value(const char *value, int32_t out[2])
{
    int k = 0;
    for (utf8proc_ssize_t left = (utf8proc_ssize_t)strlen(value); left > 0 && k < 2; k++) {
        utf8proc_ssize_t used = utf8proc_iterate((const uint8_t *)value, left, &out[k]);
        if (used <= 0)
            return 0;
        value += used;
        left -= used;
    }
    return k;
}

int html_entity_find(const char *name, size_t n, bool bare, int32_t out[2])
{
    pthread_once(&index_once, index_records);
    size_t lo = 0, hi = HTML_ENTITY_COUNT;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const char *record = html_entity_records + record_at[mid];
        int order = compare_name(name, n, record);
        if (order == 0)
            return bare && record[n] != '!' ? 0 : decode_value(record + n + 1, out);
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return 0;
}

// The numbers that the HTML standard (section 13.2.5.80) sees as windows-1252; 0 = the number
// itself.
static const uint16_t cp1252[32] = {
    0x20ac, 0,      0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160,
    0x2039, 0x0152, 0,      0x017d, 0,      0,      0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
    0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0,      0x017e, 0x0178,
};

// Code point for a number; -1 = dropped.
static int32_t numeric_value(int32_t v)
{
    if (v == 0 || (v >= 0xd800 && v <= 0xdfff) || v > CODE_MAX)
        return REPLACEMENT;
    if (v >= 0x80 && v <= 0x9f)
        return cp1252[v - 0x80] ? cp1252[v - 0x80] : v;
    bool control = v < 0x20 && v != '\t' && v != '\n' && v != '\f' && v != '\r';
    if (control || v == 0x7f || (v >= 0xfdd0 && v <= 0xfdef) || (v & 0xfffe) == 0xfffe)
        return -1;
    return v;
}

static int digit_value(int32_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : 16;
}

// Reads "#123" or "#x1f" at c (which is at '#'): the characters used, 0 = no number; *value stops
// growing beyond the last code point.
static size_t read_number(const int32_t *c, size_t n, int32_t *value)
{
    size_t i = 1;
    int base = 10;
    if (i < n && (c[i] == 'x' || c[i] == 'X')) {
        base = 16;
        i++;
    }
    size_t first = i;
    int32_t v = 0;
    for (; i < n && digit_value(c[i]) < base; i++)
        v = v > CODE_MAX ? v : v * base + digit_value(c[i]);
    *value = v;
    return i > first ? i : 0;
}

// ASCII letters and digits at c, at most `max` of them, into name; their number.
static size_t read_name(const int32_t *c, size_t n, size_t max, char *name)
{
    size_t k = 0;
    for (; k < n && k < max && is_alnum(c[k]); k++)
        name[k] = (char)c[k];
    return k;
}

struct reference {
    size_t used;     // code points after '&' that it takes; 0 = not a reference
    int32_t text[2]; // what it stands for
    int n_text;
};

static struct reference read_numeric(const int32_t *c, size_t n)
{
    int32_t v;
    struct reference r = {.used = read_number(c, n, &v)};
    if (!r.used)
        return r;
    r.used += r.used < n && c[r.used] == ';';
    r.text[0] = numeric_value(v);
    r.n_text = r.text[0] >= 0;
    return r;
}

// c is just after '&'.
static struct reference read_reference(const int32_t *c, size_t n)
{
    struct reference r = {0};
    if (n && c[0] == '#')
        return read_numeric(c, n);
    char name[HTML_NAME_MAX];
    size_t k = read_name(c, n, sizeof name, name);
    if (k && k < n && c[k] == ';' && (r.n_text = html_entity_find(name, k, false, r.text))) {
        r.used = k + 1;
        return r;
    }
    for (k = k < BARE_MAX ? k : BARE_MAX; k >= 2; k--) {
        if ((r.n_text = html_entity_find(name, k, true, r.text))) {
            r.used = k;
            return r;
        }
    }
    return r;
}

// Capitals that are more than one character; only those that some reference stands for.
static int upper_pair(int32_t c, int32_t out[2])
{
    static const struct {
        int32_t c, upper[2];
    } pairs[] = {{0xdf, {'S', 'S'}},
                 {0x149, {0x2bc, 'N'}},
                 {0xfb00, {'F', 'F'}},
                 {0xfb01, {'F', 'I'}},
                 {0xfb02, {'F', 'L'}}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        if (pairs[i].c == c) {
            memcpy(out, pairs[i].upper, sizeof pairs[i].upper);
            return 2;
        }
    }
    return 0;
}

// Names such as &EACUTE;: in capitals, known in lower case, and html.unescape would leave alone.
// The three-letter ligatures come as their ligature characters: a later repair takes those apart,
// in lower case, and the text is lower-cased in the end.
static int find_capitals(const char *name, size_t n, int32_t out[2])
{
    char lower[HTML_NAME_MAX];
    for (size_t i = 0; i < n; i++) {
        if (name[i] >= 'a' && name[i] <= 'z')
            return 0;
        lower[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] - 'A' + 'a') : name[i];
    }
    for (size_t k = n < BARE_MAX ? n : BARE_MAX; k >= 2; k--) {
        if (html_entity_find(name, k, true, out))
            return 0;
    }
    int k = html_entity_find(lower, n, false, out);
    if (k == 1 && upper_pair(out[0], out))
        return 2;
    for (int i = 0; i < k; i++)
        out[i] = utf8proc_toupper(out[i]);
    return k;
}

static struct reference read_strict(const int32_t *c, size_t n)
{
    struct reference none = {0};
    if (n && c[0] == '#') {
        struct reference r = read_numeric(c, n);
        // ftfy refuses a result with a semicolon: it takes that as a reference read in part.
        bool whole = r.used >= 3 && r.used <= STRICT_MAX + 2 && c[r.used - 1] == ';';
        return whole && !(r.n_text && r.text[0] == ';') ? r : none;
    }
    char name[STRICT_MAX];
    size_t k = read_name(c, n, sizeof name, name);
    if (!k || k >= n || c[k] != ';')
        return none;
    struct reference r = {.used = k + 1, .n_text = html_entity_find(name, k, false, none.text)};
    if (!r.n_text)
        r.n_text = find_capitals(name, k, none.text);
    memcpy(r.text, none.text, sizeof r.text);
    r.used = r.n_text ? r.used : 0;
    return r;
}

static size_t replace(int32_t *c, size_t n, struct reference (*read)(const int32_t *, size_t))
{
    size_t w = 0;
    for (size_t i = 0; i < n;) {
        struct reference r = {0};
        if (c[i] == '&')
            r = read(c + i + 1, n - i - 1);
        if (!r.used) {
            c[w++] = c[i++];
            continue;
        }
        for (int k = 0; k < r.n_text; k++)
            c[w++] = r.text[k];
        i += 1 + r.used;
    }
    return w;
}

size_t html_unescape(int32_t *c, size_t n)
{
    return replace(c, n, read_reference);
}

size_t html_unescape_strict(int32_t *c, size_t n)
{
    return replace(c, n, read_strict);
}
