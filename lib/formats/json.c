// SPDX-License-Identifier: Apache-2.0
// The strict reader: cJSON takes more than JSON, so the text is checked against the grammar first.
#include "formats/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "system/io.h"
#include "system/lines.h"
#include "base/mem.h"

enum {
    DEFAULT_BYTES = 16 << 20,
    DEFAULT_DEPTH = 64,
    MOST_DEPTH = 500,
    NUMBER_MAX = 60 // cJSON cuts a number at 63 characters
};

struct scan {
    const char *text;
    size_t at, n;
    int depth; // levels still allowed
    struct err *e;
};

static int bad(struct scan *s, const char *what)
{
    return err_set(s->e, "offset %zu: %s", s->at, what);
}

static int peek(const struct scan *s)
{
    return s->at < s->n ? (unsigned char)s->text[s->at] : -1;
}

static void skip_space(struct scan *s)
{
    while (s->at < s->n && memchr(" \t\r\n", s->text[s->at], 4))
        s->at++;
}

// Length of the UTF-8 sequence at p (Unicode table 3-7), 0 when it is not one.
static size_t utf8_length(const unsigned char *p, size_t n)
{
    unsigned lo = 0x80, hi = 0xbf;
    size_t len;
    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf)
        len = 2;
    else if (p[0] >= 0xe0 && p[0] <= 0xef)
        len = 3;
    else if (p[0] >= 0xf0 && p[0] <= 0xf4)
        len = 4;
    else
        return 0;
    if (p[0] == 0xe0)
        lo = 0xa0;
    else if (p[0] == 0xed)
        hi = 0x9f;
    else if (p[0] == 0xf0)
        lo = 0x90;
    else if (p[0] == 0xf4)
        hi = 0x8f;
    if (n < len || p[1] < lo || p[1] > hi)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

// Four hexadecimal digits at the current place; -1 when they are not.
static int hex4(const struct scan *s)
{
    int v = 0;
    if (s->n - s->at < 4)
        return -1;
    for (size_t i = 0; i < 4; i++) {
        unsigned char c = (unsigned char)s->text[s->at + i];
        if (c >= '0' && c <= '9')
            v = v * 16 + c - '0';
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            v = v * 16 + (c | 32) - 'a' + 10;
        else
            return -1;
    }
    return v;
}

// After a backslash.
static int scan_escape(struct scan *s)
{
    int c = peek(s);
    if (c < 0 || !memchr("\"\\/bfnrtu", c, 9))
        return bad(s, "unknown escape");
    s->at++;
    if (c != 'u')
        return 0;
    int v = hex4(s);
    if (v < 0)
        return bad(s, "'\\u' without four hexadecimal digits");
    if (v == 0)
        return bad(s, "a NUL in a string");
    s->at += 4;
    if (v < 0xd800 || v > 0xdfff)
        return 0;
    bool pair = v < 0xdc00 && s->n - s->at >= 6 && memcmp(s->text + s->at, "\\u", 2) == 0;
    s->at += pair ? 2 : 0;
    int low = pair ? hex4(s) : -1;
    if (low < 0xdc00 || low > 0xdfff)
        return bad(s, "half of a surrogate pair");
    s->at += 4;
    return 0;
}

static int scan_string(struct scan *s)
{
    if (peek(s) != '"')
        return bad(s, "expected a string");
    s->at++;
    for (;;) {
        int c = peek(s);
        if (c < 0)
            return bad(s, "a string that does not end");
        if (c < 0x20)
            return bad(s, "a control character in a string");
        if (c == '"') {
            s->at++;
            return 0;
        }
        if (c == '\\') {
            s->at++;
            if (scan_escape(s))
                return -1;
            continue;
        }
        size_t len = utf8_length((const unsigned char *)s->text + s->at, s->n - s->at);
        if (!len)
            return bad(s, "not UTF-8");
        s->at += len;
    }
}

static bool scan_digits(struct scan *s)
{
    size_t first = s->at;
    while (peek(s) >= '0' && peek(s) <= '9')
        s->at++;
    return s->at > first;
}

static int scan_number(struct scan *s)
{
    size_t first = s->at;
    if (peek(s) == '-')
        s->at++;
    bool good = true;
    if (peek(s) == '0')
        s->at++;
    else
        good = scan_digits(s);
    if (good && peek(s) == '.') {
        s->at++;
        good = scan_digits(s);
    }
    if (good && (peek(s) == 'e' || peek(s) == 'E')) {
        s->at++;
        if (peek(s) == '+' || peek(s) == '-')
            s->at++;
        good = scan_digits(s);
    }
    if (!good)
        return bad(s, "expected a value");
    return s->at - first > NUMBER_MAX ? bad(s, "a number with too many digits") : 0;
}

static int scan_word(struct scan *s, const char *word)
{
    size_t len = strlen(word);
    if (s->n - s->at < len || memcmp(s->text + s->at, word, len))
        return bad(s, "expected a value");
    s->at += len;
    return 0;
}

static int scan_value(struct scan *s);

// "name": value
static int scan_member(struct scan *s)
{
    skip_space(s);
    if (scan_string(s))
        return -1;
    skip_space(s);
    if (peek(s) != ':')
        return bad(s, "expected ':'");
    s->at++;
    return scan_value(s);
}

static int scan_container(struct scan *s, int (*item)(struct scan *), int close)
{
    if (s->depth-- == 0)
        return bad(s, "nested too deep");
    s->at++;
    skip_space(s);
    if (peek(s) == close) {
        s->at++;
        s->depth++;
        return 0;
    }
    for (;;) {
        if (item(s))
            return -1;
        skip_space(s);
        int c = peek(s);
        if (c != ',' && c != close)
            return bad(s, c < 0 ? "the text ends too soon" : "expected ',' or the closing bracket");
        s->at++;
        if (c == close) {
            s->depth++;
            return 0;
        }
    }
}

static int scan_value(struct scan *s)
{
    skip_space(s);
    switch (peek(s)) {
    case -1:
        return bad(s, "the text ends too soon");
    case '{':
        return scan_container(s, scan_member, '}');
    case '[':
        return scan_container(s, scan_value, ']');
    case '"':
        return scan_string(s);
    case 't':
        return scan_word(s, "true");
    case 'f':
        return scan_word(s, "false");
    case 'n':
        return scan_word(s, "null");
    default:
        return scan_number(s);
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// Duplicate names: sorted, so that a hostile object of a million members costs no square of it.
static int check_names(const cJSON *o, struct err *e)
{
    size_t n = 0;
    for (const cJSON *c = o->child; c; c = c->next)
        n++;
    if (n < 2)
        return 0;
    const char **names = mem_alloc(n, sizeof *names, e);
    if (!names)
        return -1;
    n = 0;
    for (const cJSON *c = o->child; c; c = c->next)
        names[n++] = c->string;
    qsort(names, n, sizeof *names, by_name);
    int rc = 0;
    for (size_t i = 1; i < n && rc == 0; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            rc = err_set(e, "'%s' stands twice in one object", names[i]);
    free(names);
    return rc;
}

static int check_tree(const cJSON *t, struct err *e)
{
    if (cJSON_IsNumber(t) && !isfinite(t->valuedouble))
        return err_set(e, "a number too large");
    if (cJSON_IsObject(t) && check_names(t, e))
        return -1;
    for (const cJSON *c = t->child; c; c = c->next)
        if (check_tree(c, e))
            return -1;
    return 0;
}

cJSON *json_parse(const char *text, size_t n, const struct json_limits *lim, struct err *e)
{
    size_t most = lim && lim->bytes ? lim->bytes : DEFAULT_BYTES;
    int depth = lim && lim->depth ? lim->depth : DEFAULT_DEPTH;
    if (n > most) {
        err_set(e, "JSON of %zu bytes; at most %zu are taken", n, most);
        return NULL;
    }
    struct scan s = {.text = text,
                     .at = lines_mark(text, n),
                     .n = n,
                     .depth = depth < MOST_DEPTH ? depth : MOST_DEPTH,
                     .e = e};
    if (scan_value(&s))
        return NULL;
    skip_space(&s);
    if (s.at < n) {
        bad(&s, "text after the value");
        return NULL;
    }
    size_t mark = lines_mark(text, n);
    cJSON *t = cJSON_ParseWithLength(text + mark, n - mark);
    if (!t) {
        err_set(e, "out of memory for JSON");
        return NULL;
    }
    if (check_tree(t, e)) {
        cJSON_Delete(t);
        return NULL;
    }
    return t;
}

cJSON *json_read_file(const char *path, const struct json_limits *lim, struct err *e)
{
    struct map m;
    if (map_open(&m, path, e))
        return NULL;
    cJSON *t = json_parse(m.data ? (const char *)m.data : "", m.n, lim, e);
    map_close(&m);
    if (!t)
        err_wrap(e, "%s", path);
    return t;
}
