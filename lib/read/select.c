// SPDX-License-Identifier: Apache-2.0
#include "read/select.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "read/json.h"

enum { FIELD_MAX = 128, VALUE_MAX = 256 };
enum op { LESS, AT_MOST, MORE, AT_LEAST, EQUAL, NOT_EQUAL };
static const struct {
    const char *text; // the longer ones first
    enum op op;
} ops[] = {{"<=", AT_MOST}, {">=", AT_LEAST}, {"==", EQUAL}, {"!=", NOT_EQUAL},
           {"<", LESS},     {">", MORE},      {"=", EQUAL}};

struct condition {
    char field[FIELD_MAX], value[VALUE_MAX];
    size_t op; // of ops
    double number;
    bool is_number; // the value
};

struct select {
    struct condition *all;
    size_t n, cap;
};

static bool number_of(const char *text, double *v)
{
    char *end;
    *v = strtod(text, &end);
    return end != text && !*end && isfinite(*v);
}

static int copy(char *to, size_t room, const char *from, size_t n, struct err *e)
{
    if (n == 0 || n >= room)
        return err_set(e, n ? "a field or value is too long" : "a field or value is missing");
    memcpy(to, from, n);
    to[n] = '\0';
    return 0;
}

// One condition, n bytes.
static int parse(struct condition *c, const char *text, size_t n, struct err *e)
{
    size_t field = strcspn(text, "<>=!");
    if (field >= n)
        return err_set(e, "no <, <=, >, >=, == or !=");
    for (c->op = 0; c->op < sizeof ops / sizeof *ops; c->op++)
        if (!strncmp(text + field, ops[c->op].text, strlen(ops[c->op].text)))
            break;
    if (c->op == sizeof ops / sizeof *ops)
        return err_set(e, "'!' without '='");
    size_t op = strlen(ops[c->op].text);
    if (field + op > n || copy(c->field, FIELD_MAX, text, field, e) ||
        copy(c->value, VALUE_MAX, text + field + op, n - field - op, e))
        return field + op > n ? err_set(e, "a field or value is missing") : -1;
    c->is_number = number_of(c->value, &c->number);
    if (!c->is_number && ops[c->op].op < EQUAL)
        return err_set(e, "'%s' is not a number", c->value);
    return 0;
}

struct select *select_new(const char *text, struct err *e)
{
    struct select *s = mem_alloc(1, sizeof *s, e);
    for (const char *p = text; s; p++) {
        size_t n = strcspn(p, ",");
        void *all = s->all;
        int rc = mem_grow(&all, &s->cap, s->n + 1, sizeof *s->all, e);
        s->all = all;
        if (rc || parse(&s->all[s->n++], p, n, e)) {
            if (!rc)
                err_wrap(e, "--select: '%.*s'", (int)n, p);
            select_free(s);
            return NULL;
        }
        p += n;
        if (!*p)
            break;
    }
    return s;
}

void select_free(struct select *s)
{
    if (s)
        free(s->all);
    free(s);
}

// The field's value as text: a string without its quotation marks. False: missing, null or NaN.
static bool field_text(const struct condition *c, const uint8_t *json, size_t n,
                       char text[VALUE_MAX])
{
    const char *v;
    size_t size;
    if (!json || !read_json_member(json, n, c->field, &v, &size))
        return false;
    if (*v == '"') {
        v++;
        size -= 2;
    } else if ((size == 4 && !memcmp(v, "null", 4)) || (size == 3 && !memcmp(v, "NaN", 3))) {
        return false;
    }
    if (size >= VALUE_MAX) // longer than any value it is compared with
        size = VALUE_MAX - 1;
    memcpy(text, v, size);
    text[size] = '\0';
    return true;
}

static bool holds(enum op op, double a, double b)
{
    switch (op) {
    case LESS:
        return a < b;
    case AT_MOST:
        return a <= b;
    case MORE:
        return a > b;
    case AT_LEAST:
        return a >= b;
    case EQUAL:
        return a == b;
    default:
        return a != b;
    }
}

enum sample_status select_sample(const struct select *s, const uint8_t *json, size_t n,
                                 struct err *why)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct condition *c = &s->all[i];
        enum op op = ops[c->op].op;
        char text[VALUE_MAX];
        double v;
        bool there = field_text(c, json, n, text);
        if (there && c->is_number && !number_of(text, &v))
            there = false;
        if (!there) {
            err_set(why, json ? "no number or text '%s' in the json" : "no json for '%s'",
                    c->field);
            return SAMPLE_NO_FIELD;
        }
        bool yes =
            c->is_number ? holds(op, v, c->number) : (strcmp(text, c->value) == 0) == (op == EQUAL);
        if (!yes) {
            err_set(why, "%s is %s, not %s %s", c->field, text, ops[c->op].text, c->value);
            return SAMPLE_NOT_SELECTED;
        }
    }
    return SAMPLE_OK;
}
