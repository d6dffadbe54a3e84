// SPDX-License-Identifier: Apache-2.0
// Lists of texts out of Python source. Only what such files hold is understood: NAME = [...], (...)
// or {...}, texts in every form of quotes, `lambda c: f'...{c}...'` and '...{}...'.format(c). A
// list with anything else in it is marked broken, with the line, and matters only when it is asked
// for.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "eval/list.h"
#include "base/mem.h"

enum { DEPTH_MAX = 64 };

struct python {
    const char *at;
    size_t line;
    struct eval_named_lists *all;
    char *text; // the text that is put together now
    size_t n_text, cap_text;
    struct err *e;
};

static bool is_name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_name(char c)
{
    return is_name_start(c) || (c >= '0' && c <= '9') || (unsigned char)c >= 0x80;
}

static void step(struct python *p)
{
    p->line += *p->at == '\n';
    p->at++;
}

// Over blanks, comments and joined lines; over line ends too when `lines`.
static void skip_blanks(struct python *p, bool lines)
{
    for (;;) {
        if (*p->at == '#')
            p->at += strcspn(p->at, "\n");
        else if (*p->at == '\\' && p->at[1] == '\n')
            p->at++, step(p);
        else if ((*p->at && strchr(" \t\r\f", *p->at)) || (*p->at == '\n' && lines))
            step(p);
        else
            return;
    }
}

static size_t name_length(const char *s)
{
    size_t n = 0;
    if (is_name_start(*s))
        while (is_name(s[n]))
            n++;
    return n;
}

static int put(struct python *p, const char *bytes, size_t n)
{
    void *grown = p->text;
    if (mem_grow(&grown, &p->cap_text, p->n_text + n + 1, 1, p->e))
        return -1;
    p->text = grown;
    memcpy(p->text + p->n_text, bytes, n);
    p->n_text += n;
    return 0;
}

static int put_code_point(struct python *p, uint32_t c)
{
    char b[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return err_set(p->e, "an escape that is no character");
    if (n == 1)
        b[0] = (char)c;
    for (size_t k = n - 1; n > 1 && k > 0; k--, c >>= 6)
        b[k] = (char)(0x80 | (c & 0x3f));
    if (n > 1)
        b[0] = (char)(0xf0 << (4 - n) | c);
    return put(p, b, n);
}

static int hex_escape(struct python *p, int digits)
{
    uint32_t c = 0;
    for (int k = 0; k < digits; k++, p->at++) {
        static const char hex[] = "0123456789abcdef";
        char d = *p->at | 0x20;
        const char *found = *p->at && *p->at != '\n' ? strchr(hex, d) : NULL;
        if (!found || !*found)
            return err_set(p->e, "an escape with too few digits");
        c = c << 4 | (uint32_t)(found - hex);
    }
    return put_code_point(p, c);
}

// After a backslash.
static int escape(struct python *p)
{
    static const char from[] = "nrtabfv\\'\"", to[] = "\n\r\t\a\b\f\v\\'\"";
    char c = *p->at;
    const char *found = c ? strchr(from, c) : NULL;
    if (c == '\n') {
        step(p);
        return 0;
    }
    if (found) {
        p->at++;
        return put(p, &to[found - from], 1);
    }
    if (c == 'x' || c == 'u' || c == 'U') {
        p->at++;
        return hex_escape(p, c == 'x' ? 2 : c == 'u' ? 4 : 8);
    }
    if (c == 'N' || (c >= '0' && c <= '7'))
        return err_set(p->e, "an escape '\\%c' is not read", c);
    return put(p, "\\", 1); // as Python keeps what it does not know
}

struct literal {
    bool raw, formatted;
    const char *variable; // of the lambda around a formatted text; NULL: none
    size_t n_variable;
};

// In an f-string: "{{", "}}", or the lambda's variable between braces.
static int field(struct python *p, const struct literal *l)
{
    if (p->at[1] == *p->at) {
        p->at += 2;
        return put(p, p->at - 1, 1);
    }
    const char *name = p->at + 1;
    name += strspn(name, " ");
    size_t n = name_length(name);
    const char *end = name + n + strspn(name + n, " ");
    if (*p->at != '{' || *end != '}' || n == 0 || n != l->n_variable ||
        strncmp(name, l->variable, n) != 0)
        return err_set(p->e, "a field that is not the class alone");
    p->at = end + 1;
    return put(p, "{c}", 3);
}

// How long a quotation mark is at `s`: 0, 1 or 3.
static size_t quote_length(const char *s)
{
    if (*s != '\'' && *s != '"')
        return 0;
    return s[1] == s[0] && s[2] == s[0] ? 3 : 1;
}

// Where a text's quotation mark is, after its prefix; NULL: no text here.
static const char *literal_start(const char *s)
{
    size_t n = strspn(s, "rRbBfFuU");
    return n <= 2 && quote_length(s + n) ? s + n : NULL;
}

static int one_literal(struct python *p, struct literal l)
{
    const char *start = literal_start(p->at);
    for (; p->at < start; p->at++) {
        l.raw |= (*p->at | 0x20) == 'r';
        l.formatted |= (*p->at | 0x20) == 'f';
        if ((*p->at | 0x20) == 'b')
            return err_set(p->e, "bytes where a text should be");
    }
    size_t n = quote_length(start);
    char q = *start;
    p->at += n;
    for (;;) {
        if (*p->at == '\0' || (*p->at == '\n' && n == 1))
            return err_set(p->e, "a text without its end");
        if (*p->at == q && (n == 1 || (p->at[1] == q && p->at[2] == q))) {
            p->at += n;
            return 0;
        }
        int rc;
        if (*p->at == '\\' && !l.raw) {
            p->at++;
            rc = escape(p);
        } else if (l.formatted && (*p->at == '{' || *p->at == '}')) {
            rc = field(p, &l);
        } else {
            rc = put(p, p->at, 1);
            step(p);
        }
        if (rc)
            return -1;
    }
}

// ".format(c)" or ".format(c=c)" after a text: its {} stand for the class.
static int format_call(struct python *p)
{
    skip_blanks(p, true);
    if (strncmp(p->at, ".format(", 8) != 0)
        return 0;
    const char *end = strchr(p->at, ')');
    if (!end || memchr(p->at + 8, '(', (size_t)(end - p->at - 8)) ||
        memchr(p->at, ',', (size_t)(end - p->at)))
        return err_set(p->e, "a call of format that is not of the class alone");
    while (p->at <= end)
        step(p);
    return 0;
}

// A text, also of several side by side, also behind a lambda. The result is p->text.
static int text_value(struct python *p)
{
    struct literal l = {.variable = ""};
    p->n_text = 0;
    if (strncmp(p->at, "lambda", 6) == 0 && !is_name(p->at[6])) {
        p->at += 6;
        skip_blanks(p, true);
        l.variable = p->at;
        l.n_variable = name_length(p->at);
        p->at += l.n_variable;
        skip_blanks(p, true);
        if (l.n_variable == 0 || *p->at != ':')
            return err_set(p->e, "a lambda of something other than the class alone");
        p->at++;
        skip_blanks(p, true);
    }
    bool group = *p->at == '(';
    if (group) {
        step(p);
        skip_blanks(p, true);
    }
    if (!literal_start(p->at))
        return err_set(p->e, "something that is not a text");
    while (literal_start(p->at)) {
        if (one_literal(p, l))
            return -1;
        skip_blanks(p, true);
    }
    if (group && *p->at == ')')
        step(p);
    else if (group)
        return err_set(p->e, "something that is not a text");
    if (format_call(p) || put(p, "", 0))
        return -1;
    p->text[p->n_text] = '\0';
    return memchr(p->text, '\0', p->n_text) ? err_set(p->e, "a NUL in a text") : 0;
}

// Over one text, its characters not looked at. False: it has no end.
static bool skip_literal(struct python *p)
{
    const char *quote = literal_start(p->at);
    size_t n = quote_length(quote);
    char q = *quote;
    for (p->at = quote + n; *p->at && (n == 3 || *p->at != '\n'); step(p)) {
        if (*p->at == '\\' && p->at[1])
            step(p);
        else if (*p->at == q && (n == 1 || (p->at[1] == q && p->at[2] == q))) {
            p->at += n;
            return true;
        }
    }
    return false;
}

// Over a text, a name, a bracket with all in it, or one other character. 0 or -1.
static int skip_one(struct python *p)
{
    size_t line = p->line, depth = 0;
    do {
        if (depth)
            skip_blanks(p, true);
        size_t n = name_length(p->at);
        if (*p->at == '\0')
            return err_set(p->e, "line %zu: a bracket is not closed", line);
        if (literal_start(p->at)) {
            if (!skip_literal(p))
                return err_set(p->e, "line %zu: a text without its end", p->line);
        } else if (n) {
            p->at += n;
        } else {
            if (strchr("([{", *p->at))
                depth++;
            else if (strchr(")]}", *p->at) && depth)
                depth--;
            step(p);
        }
    } while (depth);
    return 0;
}

static char closing(char c)
{
    return c == '[' ? ']' : c == '(' ? ')' : '}';
}

// The items of a list or tuple that opens at p->at, into the list.
static int items(struct python *p, struct eval_named_list *to)
{
    char close = closing(*p->at);
    step(p);
    for (;;) {
        skip_blanks(p, true);
        if (*p->at == close) {
            step(p);
            return 0;
        }
        size_t line = p->line;
        if (text_value(p) || eval_lines_add(&to->items, p->text, p->n_text, line, p->e))
            return -1;
        skip_blanks(p, true);
        if (*p->at == ',')
            step(p);
        else if (*p->at != close)
            return err_set(p->e, "something other than a comma between two texts");
    }
}

// A list named NAME whose bracket is at p->at. What cannot be read marks it; 0, or -1: the text
// ends before its closing bracket, or no memory.
static int list_value(struct python *p, const char *name, size_t n_name)
{
    struct python start = *p;
    struct err why, *e = p->e;
    struct eval_named_list *to = eval_named_lists_add(p->all, name, n_name, "line", p->e);
    if (!to)
        return -1;
    p->e = &why;
    if (items(p, to)) {
        to->broken = true;
        err_set(&to->why, "line %zu: %s", p->line, why.text);
        p->at = start.at;
        p->line = start.line;
        p->e = e;
        return skip_one(p);
    }
    p->e = e;
    return 0;
}

// The name before a list of a dict, "name": at p->at, or NULL with p->at unchanged. On no memory
// the result is NULL too, with *rc -1.
static char *dict_name(struct python *p, int *rc)
{
    struct python start = *p;
    struct err ignored;
    *rc = 0;
    if (!literal_start(p->at))
        return NULL;
    p->e = &ignored;
    bool text = text_value(p) == 0;
    p->e = start.e;
    skip_blanks(p, true);
    if (text && *p->at == ':') {
        step(p);
        skip_blanks(p, true);
        if (*p->at == '[' || *p->at == '(') {
            char *name = mem_strdup(p->text, p->e);
            *rc = name ? 0 : -1;
            return name;
        }
    }
    p->at = start.at;
    p->line = start.line;
    return NULL;
}

// {"name": [...], ...}: a list for each name. Anything else in it is passed over.
static int dict_value(struct python *p)
{
    size_t line = p->line;
    step(p);
    for (;;) {
        int rc;
        skip_blanks(p, true);
        if (*p->at == '}') {
            step(p);
            return 0;
        }
        if (*p->at == '\0')
            return err_set(p->e, "line %zu: a bracket is not closed", line);
        char *name = dict_name(p, &rc);
        if (name)
            rc = list_value(p, name, strlen(name));
        else if (rc == 0)
            rc = skip_one(p);
        free(name);
        if (rc)
            return -1;
    }
}

// The value of an assignment to NAME, or one that stands alone.
static int value(struct python *p, const char *name, size_t n_name)
{
    if (*p->at == '[' || *p->at == '(')
        return list_value(p, name, n_name);
    return *p->at == '{' ? dict_value(p) : 0;
}

// To the end of the line, outside of brackets and texts.
static int skip_statement(struct python *p)
{
    for (skip_blanks(p, false); *p->at && *p->at != '\n'; skip_blanks(p, false))
        if (skip_one(p))
            return -1;
    return 0;
}

static int statement(struct python *p)
{
    const char *name = p->at;
    size_t n = name_length(name);
    if (n == 0)
        return value(p, "", 0);
    p->at += n;
    skip_blanks(p, false);
    if (*p->at == ':') // NAME: type = value
        p->at += strcspn(p->at, "=\n");
    if (*p->at != '=' || p->at[1] == '=')
        return 0;
    p->at++;
    skip_blanks(p, false);
    return value(p, name, n);
}

int eval_list_python(struct eval_named_lists *all, const char *text, struct err *e)
{
    struct python p = {.at = text, .line = 1, .all = all, .e = e};
    int rc = 0;
    for (skip_blanks(&p, true); rc == 0 && *p.at; skip_blanks(&p, true)) {
        rc = statement(&p);
        if (rc == 0)
            rc = skip_statement(&p);
    }
    free(p.text);
    return rc;
}
