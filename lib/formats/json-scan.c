// SPDX-License-Identifier: Apache-2.0
#include "formats/json-scan.h"

#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"

static int bad(struct json_scan *s, const char *why)
{
    s->why = why;
    return -1;
}

int json_scan_peek(const struct json_scan *s)
{
    return s->at < s->n ? (unsigned char)s->text[s->at] : -1;
}

void json_scan_space(struct json_scan *s)
{
    while (s->at < s->n && memchr(" \t\r\n", s->text[s->at], 4))
        s->at++;
}

static bool take(struct json_scan *s, const char *word)
{
    size_t n = strlen(word);
    if (s->n - s->at < n || memcmp(s->text + s->at, word, n) != 0)
        return false;
    s->at += n;
    return true;
}

// ---- strings

// Four hexadecimal digits at the current place; -1 where there are none.
static int hex4(struct json_scan *s)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        int c = json_scan_peek(s);
        if (c >= '0' && c <= '9')
            v = v * 16 + c - '0';
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            v = v * 16 + (c | 32) - 'a' + 10;
        else
            return -1;
        s->at++;
    }
    return v;
}

static void put(char **to, int32_t c)
{
    if (to)
        *to += utf8proc_encode_char(c, (utf8proc_uint8_t *)*to);
}

// After "\\u".
static int scan_code(struct json_scan *s, char **to)
{
    int v = hex4(s);
    if (v < 0)
        return bad(s, "'\\u' without four hexadecimal digits");
    if (s->python)
        return 0;
    if (v == 0)
        return bad(s, "a NUL in a string");
    if (v >= 0xd800 && v <= 0xdfff) {
        int low = v < 0xdc00 && take(s, "\\u") ? hex4(s) : -1;
        if (low < 0xdc00 || low > 0xdfff)
            return bad(s, "half of a surrogate pair");
        v = 0x10000 + ((v - 0xd800) << 10) + (low - 0xdc00);
    }
    put(to, v);
    return 0;
}

// After a backslash.
static int scan_escape(struct json_scan *s, char **to)
{
    static const char from[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
    int c = json_scan_peek(s);
    const char *at = c > 0 ? strchr(from, c) : NULL;
    if (!at && c != 'u')
        return bad(s, "unknown escape");
    s->at++;
    if (c == 'u')
        return scan_code(s, to);
    put(to, means[at - from]);
    return 0;
}

int json_scan_string(struct json_scan *s, char **to)
{
    if (!take(s, "\""))
        return bad(s, "expected a string");
    for (;;) {
        int c = json_scan_peek(s);
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
            if (scan_escape(s, to))
                return -1;
            continue;
        }
        size_t len = utf8_next(s->text + s->at, s->n - s->at, NULL);
        if (!len)
            return bad(s, "not UTF-8");
        if (to) {
            memcpy(*to, s->text + s->at, len);
            *to += len;
        }
        s->at += len;
    }
}

// ---- values

static bool scan_digits(struct json_scan *s)
{
    size_t first = s->at;
    while (json_scan_peek(s) >= '0' && json_scan_peek(s) <= '9')
        s->at++;
    return s->at > first;
}

static int scan_number(struct json_scan *s)
{
    size_t first = s->at;
    take(s, "-");
    if (s->python && take(s, "Infinity"))
        return 0;
    bool good = take(s, "0") || scan_digits(s);
    if (good && take(s, "."))
        good = scan_digits(s);
    if (good && (take(s, "e") || take(s, "E"))) {
        if (!take(s, "+"))
            take(s, "-");
        good = scan_digits(s);
    }
    if (!good)
        return bad(s, "expected a value");
    return s->digits && s->at - first > s->digits ? bad(s, "a number with too many digits") : 0;
}

// "name": value
static int scan_member(struct json_scan *s)
{
    json_scan_space(s);
    if (json_scan_string(s, NULL))
        return -1;
    json_scan_space(s);
    return take(s, ":") ? json_scan_value(s) : bad(s, "expected ':'");
}

static int scan_container(struct json_scan *s, int (*item)(struct json_scan *), int close)
{
    if (s->depth == 0)
        return bad(s, "nested too deep");
    s->depth--;
    s->at++;
    json_scan_space(s);
    bool more = json_scan_peek(s) != close;
    while (more) {
        if (item(s))
            return -1;
        json_scan_space(s);
        int c = json_scan_peek(s);
        if (c != ',' && c != close)
            return bad(s, c < 0 ? "the text ends too soon" : "expected ',' or the closing bracket");
        more = c == ',';
        s->at += more;
    }
    s->at++;
    s->depth++;
    return 0;
}

int json_scan_value(struct json_scan *s)
{
    json_scan_space(s);
    switch (json_scan_peek(s)) {
    case -1:
        return bad(s, "the text ends too soon");
    case '{':
        return scan_container(s, scan_member, '}');
    case '[':
        return scan_container(s, json_scan_value, ']');
    case '"':
        return json_scan_string(s, NULL);
    }
    if (take(s, "true") || take(s, "false") || take(s, "null") || (s->python && take(s, "NaN")))
        return 0;
    return scan_number(s);
}
