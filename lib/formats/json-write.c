// SPDX-License-Identifier: Apache-2.0
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "system/io.h"
#include "formats/json.h"
#include "base/mem.h"
#include "base/utf8.h"

// Takes the item over, also on failure.
static cJSON *add(cJSON *o, const char *name, cJSON *item, struct err *e)
{
    if (item && (name ? cJSON_AddItemToObject(o, name, item) : cJSON_AddItemToArray(o, item)))
        return item;
    cJSON_Delete(item);
    err_set(e, "out of memory for JSON");
    return NULL;
}

int json_add_string(cJSON *o, const char *name, const char *value, struct err *e)
{
    return add(o, name, cJSON_CreateString(value), e) ? 0 : -1;
}

int json_add_bool(cJSON *o, const char *name, bool value, struct err *e)
{
    return add(o, name, cJSON_CreateBool(value), e) ? 0 : -1;
}

static void number_text(char *s, size_t room, double v)
{
    if (!isfinite(v))
        snprintf(s, room, "null");
    else if (v == floor(v) && fabs(v) < 0x1p53)
        snprintf(s, room, "%.0f", v);
    else
        for (int digits = 1; digits <= 17; digits++) {
            snprintf(s, room, "%.*g", digits, v);
            if (strtod(s, NULL) == v)
                break;
        }
}

int json_add_double(cJSON *o, const char *name, double value, struct err *e)
{
    return add(o, name, isfinite(value) ? cJSON_CreateNumber(value) : cJSON_CreateNull(), e) ? 0
                                                                                             : -1;
}

int json_add_float(cJSON *o, const char *name, float value, struct err *e)
{
    char s[32];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, (double)value);
        if (strtof(s, NULL) == value)
            return json_add_double(o, name, strtod(s, NULL), e);
    }
    return json_add_double(o, name, (double)value, e); // NaN
}

int json_add_i64(cJSON *o, const char *name, int64_t value, struct err *e)
{
    if (value >= 0)
        return json_add_u64(o, name, (uint64_t)value, e);
    if (value >= -(INT64_C(1) << 53))
        return json_add_double(o, name, (double)value, e);
    char s[32];
    snprintf(s, sizeof s, "%" PRId64, value);
    return json_add_string(o, name, s, e);
}

int json_add_u64(cJSON *o, const char *name, uint64_t value, struct err *e)
{
    if (value <= UINT64_C(1) << 53)
        return json_add_double(o, name, (double)value, e);
    char s[32];
    snprintf(s, sizeof s, "%" PRIu64, value);
    return json_add_string(o, name, s, e);
}

int json_add_doubles(cJSON *o, const char *name, const double *v, size_t n, struct err *e)
{
    cJSON *a = json_add_array(o, name, e);
    if (!a)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (json_add_double(a, NULL, v[i], e))
            return -1;
    return 0;
}

cJSON *json_add_object(cJSON *o, const char *name, struct err *e)
{
    return add(o, name, cJSON_CreateObject(), e);
}

cJSON *json_add_array(cJSON *o, const char *name, struct err *e)
{
    return add(o, name, cJSON_CreateArray(), e);
}

// The text as it grows. An error stays in `failed`, so that the printers need not check each piece.
struct json_out {
    char *s;
    size_t n, cap;
    bool pretty, failed;
    struct err *e;
};

static void put(struct json_out *t, const char *s, size_t n)
{
    void *p = t->s;
    if (t->failed || mem_grow(&p, &t->cap, t->n + n + 1, 1, t->e)) {
        t->failed = true;
        return;
    }
    t->s = p;
    memcpy(t->s + t->n, s, n);
    t->n += n;
    t->s[t->n] = '\0';
}

static void puts_text(struct json_out *t, const char *s)
{
    put(t, s, strlen(s));
}

static void put_string(struct json_out *t, const char *value)
{
    const char *end = value + strlen(value);
    puts_text(t, "\"");
    for (const unsigned char *s = (const unsigned char *)value; *s;) {
        char escape[8];
        size_t len = utf8_next(s, (size_t)(end - (const char *)s), NULL);
        if (!len)
            puts_text(t, "\xef\xbf\xbd");
        else if (*s == '"' || *s == '\\')
            put(t, (char[]){'\\', (char)*s}, 2);
        else if (*s == '\n')
            puts_text(t, "\\n");
        else if (*s == '\t')
            puts_text(t, "\\t");
        else if (*s < 0x20 || *s == 0x7f) {
            snprintf(escape, sizeof escape, "\\u%04x", *s);
            puts_text(t, escape);
        } else
            put(t, (const char *)s, len);
        s += len ? len : 1;
    }
    puts_text(t, "\"");
}

static void new_line(struct json_out *t, int level)
{
    if (!t->pretty)
        return;
    puts_text(t, "\n");
    for (int i = 0; i < level; i++)
        puts_text(t, "  ");
}

static void put_value(struct json_out *t, const cJSON *v, int level);

// An array of plain values stays on one line, so that a list of numbers is readable.
static bool on_one_line(const cJSON *a)
{
    for (const cJSON *c = a->child; c; c = c->next)
        if (c->child || cJSON_IsObject(c))
            return false;
    return cJSON_IsArray(a);
}

static void put_container(struct json_out *t, const cJSON *v, int level)
{
    bool object = cJSON_IsObject(v), one_line = on_one_line(v);
    puts_text(t, object ? "{" : "[");
    for (const cJSON *c = v->child; c; c = c->next) {
        if (one_line)
            puts_text(t, c == v->child || !t->pretty ? "" : " ");
        else
            new_line(t, level + 1);
        if (object) {
            put_string(t, c->string);
            puts_text(t, t->pretty ? ": " : ":");
        }
        put_value(t, c, level + 1);
        if (c->next)
            puts_text(t, ",");
    }
    if (v->child && !one_line)
        new_line(t, level);
    puts_text(t, object ? "}" : "]");
}

static void put_value(struct json_out *t, const cJSON *v, int level)
{
    char number[40];
    if (cJSON_IsObject(v) || cJSON_IsArray(v))
        put_container(t, v, level);
    else if (cJSON_IsString(v))
        put_string(t, v->valuestring);
    else if (cJSON_IsNumber(v)) {
        number_text(number, sizeof number, v->valuedouble);
        puts_text(t, number);
    } else if (cJSON_IsRaw(v))
        puts_text(t, v->valuestring);
    else
        puts_text(t, cJSON_IsTrue(v) ? "true" : cJSON_IsFalse(v) ? "false" : "null");
}

char *json_text(const cJSON *o, bool pretty, struct err *e)
{
    struct json_out t = {.pretty = pretty, .e = e};
    put_value(&t, o, 0);
    if (pretty)
        puts_text(&t, "\n");
    if (!t.failed)
        return t.s;
    free(t.s);
    return NULL;
}

int json_write_file(const char *path, const cJSON *o, struct err *e)
{
    char *s = json_text(o, true, e);
    if (!s)
        return -1;
    struct out f;
    int rc = out_open(&f, path, e);
    if (rc == 0) {
        rc = out_write(&f, s, strlen(s), e) || out_commit(&f, e) ? -1 : 0;
        out_abort(&f);
    }
    free(s);
    return rc;
}
