// SPDX-License-Identifier: Apache-2.0
#include "shards/read-json.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "system/lines.h"
#include "shards/read-text.h"

enum { DEPTH_MAX = 512 };

struct json_text_at {
    const char *p, *end;
};

static void space(struct json_text_at *t)
{
    while (t->p < t->end && strchr(" \t\r\n", *t->p) && *t->p)
        t->p++;
}

static bool word(struct json_text_at *t, const char *w)
{
    size_t n = strlen(w);
    if ((size_t)(t->end - t->p) < n || memcmp(t->p, w, n) != 0)
        return false;
    t->p += n;
    return true;
}

static bool digits(struct json_text_at *t)
{
    const char *start = t->p;
    while (t->p < t->end && isdigit((unsigned char)*t->p))
        t->p++;
    return t->p > start;
}

static bool number(struct json_text_at *t)
{
    word(t, "-");
    if (word(t, "Infinity"))
        return true;
    if (!word(t, "0") && !digits(t))
        return false;
    if (word(t, ".") && !digits(t))
        return false;
    if (!word(t, "e") && !word(t, "E"))
        return true;
    if (!word(t, "+"))
        word(t, "-");
    return digits(t);
}

static bool escape(struct json_text_at *t)
{
    if (t->p == t->end)
        return false;
    char c = *t->p++;
    if (c != 'u')
        return c && strchr("\"\\/bfnrt", c);
    for (int i = 0; i < 4; i++, t->p++)
        if (t->p == t->end || !isxdigit((unsigned char)*t->p))
            return false;
    return true;
}

static bool string(struct json_text_at *t)
{
    if (!word(t, "\""))
        return false;
    while (t->p < t->end && (unsigned char)*t->p >= 0x20) {
        char c = *t->p++;
        if (c == '"')
            return true;
        if (c == '\\' && !escape(t))
            return false;
    }
    return false;
}

static bool scalar(struct json_text_at *t)
{
    if (t->p == t->end)
        return false;
    switch (*t->p) {
    case '"':
        return string(t);
    case 't':
        return word(t, "true");
    case 'f':
        return word(t, "false");
    case 'n':
        return word(t, "null");
    case 'N':
        return word(t, "NaN");
    default:
        return number(t);
    }
}

static bool name(struct json_text_at *t)
{
    space(t);
    if (!string(t))
        return false;
    space(t);
    return word(t, ":");
}

// One value: without recursion, `open` holds the brackets that wait to be closed.
static bool value(struct json_text_at *t)
{
    char open[DEPTH_MAX];
    size_t depth = 0;
    for (;;) {
        space(t);
        bool object = word(t, "{");
        if (object || word(t, "[")) {
            if (depth == DEPTH_MAX)
                return false;
            open[depth++] = object ? '}' : ']';
            space(t);
            if (t->p == t->end || *t->p != open[depth - 1]) {
                if (object && !name(t))
                    return false;
                continue; // to the first value in it
            }
        } else if (!scalar(t)) {
            return false;
        }
        for (space(t); depth && t->p < t->end && *t->p == open[depth - 1]; space(t)) {
            t->p++;
            depth--;
        }
        if (!depth)
            return true;
        if (!word(t, ",") || (open[depth - 1] == '}' && !name(t)))
            return false;
    }
}

int read_json_check(const uint8_t *text, size_t n, struct err *e)
{
    struct json_text_at t = {(const char *)text + lines_mark(text, n), (const char *)text + n};
    size_t at;
    if (read_caption_status(text, n, &at) == SAMPLE_BAD_UTF8)
        return err_set(e, "json is not UTF-8 at byte %zu", at);
    if (value(&t)) {
        space(&t);
        if (t.p == t.end)
            return 0;
    }
    return err_set(e, "json is broken at byte %zu", (size_t)(t.p - (const char *)text));
}
