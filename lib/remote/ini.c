// SPDX-License-Identifier: Apache-2.0
#include "remote/ini.h"

#include <stdbool.h>
#include <string.h>

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static char *trim(char *s)
{
    while (blank(*s))
        s++;
    size_t n = strlen(s);
    while (n && blank(s[n - 1]))
        n--;
    s[n] = '\0';
    return s;
}

static void cut_comment(char *s)
{
    for (char *p = s; *p; p++)
        if ((*p == '#' || *p == ';') && (p == s || blank(p[-1]))) {
            *p = '\0';
            return;
        }
}

static void section_of(char *line, struct ini_value *v)
{
    char *end = strchr(line, ']');
    if (!end)
        return;
    *end = '\0';
    v->section = trim(line + 1);
    v->group = "";
}

static void take_line(char *line, struct ini_value *v,
                      void (*take)(void *ctx, const struct ini_value *v), void *ctx)
{
    bool indented = blank(*line);
    cut_comment(line);
    line = trim(line);
    if (*line == '[') {
        section_of(line, v);
        return;
    }
    char *equals = strchr(line, '=');
    if (!equals)
        return;
    *equals = '\0';
    v->name = trim(line);
    v->value = trim(equals + 1);
    if (!indented)
        v->group = "";
    if (*v->value)
        take(ctx, v);
    else if (!indented)
        v->group = v->name;
}

void ini_each(char *text, void (*take)(void *ctx, const struct ini_value *v), void *ctx)
{
    struct ini_value v = {"", "", "", ""};
    while (*text) {
        size_t n = strcspn(text, "\n");
        bool last = !text[n];
        text[n] = '\0';
        take_line(text, &v, take, ctx);
        text += last ? n : n + 1;
    }
}
