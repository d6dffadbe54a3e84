// SPDX-License-Identifier: Apache-2.0
// The values of options: what they may be, and where they are stored.
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "system/cli-table.h"

static int bad_value(const struct cli_option *o, const char *text, const char *want, struct err *e)
{
    return err_set(e, "--%s: '%s' is not %s", o->name, text, want);
}

static int out_of_range(const struct cli_option *o, const char *text, struct err *e)
{
    if (o->max > 0)
        return err_set(e, "--%s: %s is not between %g and %g", o->name, text, o->min, o->max);
    return err_set(e, "--%s: %s is less than %g", o->name, text, o->min);
}

static int parse_uint(const struct cli_option *o, const char *text, struct err *e)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno)
        return bad_value(o, text, "a whole number", e);
    if ((double)v < o->min || (o->max > 0 && (double)v > o->max))
        return out_of_range(o, text, e);
    *(uint64_t *)o->to = v;
    return 0;
}

// A decimal number: strtod alone takes white space, "inf", "nan" and hexadecimal too. *end: what
// follows it, `text` itself where there is none.
static double decimal(const char *text, char **end)
{
    const char *p = text + (*text == '-' || *text == '+');
    *end = (char *)(uintptr_t)text;
    if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X'))
        return 0;
    if ((*p < '0' || *p > '9') && *p != '.')
        return 0;
    return strtod(text, end);
}

static int parse_real(const struct cli_option *o, const char *text, struct err *e)
{
    char *end;
    double v = decimal(text, &end);
    if (end == text || *end || !isfinite(v))
        return bad_value(o, text, "a number", e);
    bool limited = o->min != 0 || o->max != 0;
    if (limited && (v < o->min || (o->max > o->min && v > o->max)))
        return out_of_range(o, text, e);
    *(double *)o->to = v;
    return 0;
}

static int parse_size(const struct cli_option *o, const char *text, struct err *e)
{
    char *end;
    double v = decimal(text, &end);
    static const char suffixes[] = "KMGT";
    const char *at = *end ? strchr(suffixes, *end) : NULL;
    if (at) {
        v *= (double)(1ull << (10 * (at - suffixes + 1)));
        end++;
        if (strcmp(end, "iB") == 0 || strcmp(end, "B") == 0)
            end += strlen(end);
    }
    if (*text < '0' || *text > '9' || *end || !(v < 9e18))
        return bad_value(o, text, "a size (as 2G)", e);
    if (v < o->min)
        return out_of_range(o, text, e);
    *(uint64_t *)o->to = (uint64_t)v;
    return 0;
}

const char *cli_choice_name(const char *choices, int k, size_t *n)
{
    const char *p = choices;
    for (; k > 0; k--) {
        p = strchr(p, '|');
        if (!p)
            return NULL;
        p++;
    }
    *n = strcspn(p, "|");
    return p;
}

static int parse_choice(const struct cli_option *o, const char *text, struct err *e)
{
    size_t n;
    const char *name;
    for (int k = 0; (name = cli_choice_name(o->choices, k, &n)); k++) {
        if (strlen(text) == n && memcmp(text, name, n) == 0) {
            *(int *)o->to = k;
            return 0;
        }
    }
    return err_set(e, "--%s: '%s' is not one of %s", o->name, text, o->choices);
}

static int parse_list(const struct cli_option *o, const char *text, struct err *e)
{
    struct cli_list *l = o->to;
    if (!*text)
        return err_set(e, "--%s: the value is empty", o->name);
    const char **items = realloc(l->items, (l->n + 1) * sizeof *items);
    if (!items)
        return err_set(e, "--%s: out of memory", o->name);
    items[l->n++] = text;
    l->items = items;
    return 0;
}

static int parse_count(const struct cli_option *o, const char *text, struct err *e)
{
    char *end;
    double v = decimal(text, &end);
    bool percent = *end == '%';
    if (*text < '0' || *text > '9' || end == text || end[percent] || (percent && v > 100) ||
        (!percent && (v != floor(v) || v > 0x1p53)))
        return bad_value(o, text, "a count or a percentage", e);
    *(struct cli_count *)o->to = (struct cli_count){v, percent};
    return 0;
}

int cli_set_value(const struct cli_option *o, const char *text, struct err *e)
{
    if (o->given)
        *o->given = true;
    switch (o->type) {
    case CLI_UINT:
        return parse_uint(o, text, e);
    case CLI_REAL:
        return parse_real(o, text, e);
    case CLI_SIZE:
        return parse_size(o, text, e);
    case CLI_CHOICE:
        return parse_choice(o, text, e);
    case CLI_LIST:
        return parse_list(o, text, e);
    case CLI_COUNT:
        return parse_count(o, text, e);
    case CLI_TEXT:
        if (!*text && !o->may_be_empty)
            return err_set(e, "--%s: the value is empty", o->name);
        if (o->check && o->check(text, e))
            return err_wrap(e, "--%s", o->name);
        *(const char **)o->to = text;
        return 0;
    case CLI_FLAG:
        break;
    }
    return err_set(e, "--%s takes no argument", o->name);
}

uint64_t cli_count_of(const struct cli_count *c, uint64_t total)
{
    return c->percent ? (uint64_t)(c->value / 100 * (double)total) : (uint64_t)c->value;
}
