// SPDX-License-Identifier: Apache-2.0
#include "config/keys.h"

#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

bool key_whole(const cJSON *v, int *out)
{
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble <= INT_MAX) ||
        v->valuedouble != floor(v->valuedouble))
        return false;
    *out = (int)v->valuedouble;
    return true;
}

static bool side(const cJSON *v, int *out)
{
    int h, w;
    if (!cJSON_IsArray(v))
        return key_whole(v, out);
    if (cJSON_GetArraySize(v) != 2 || !key_whole(cJSON_GetArrayItem(v, 0), &h) ||
        !key_whole(cJSON_GetArrayItem(v, 1), &w) || h != w)
        return false;
    *out = h;
    return true;
}

static bool triple(const cJSON *v, double *out)
{
    if (!cJSON_IsNumber(v) && (!cJSON_IsArray(v) || cJSON_GetArraySize(v) != 3))
        return false;
    for (int i = 0; i < 3; i++) {
        const cJSON *x = cJSON_IsNumber(v) ? v : cJSON_GetArrayItem(v, i);
        if (!cJSON_IsNumber(x))
            return false;
        out[i] = x->valuedouble;
    }
    return true;
}

static bool is_off(const cJSON *v)
{
    if (cJSON_IsArray(v) || cJSON_IsObject(v))
        return !v->child;
    if (cJSON_IsString(v))
        return !*v->valuestring;
    return cJSON_IsFalse(v) || (cJSON_IsNumber(v) && v->valuedouble == 0);
}

static bool set(const struct key *k, const cJSON *v)
{
    switch (k->kind) {
    case KEY_INT:
        return key_whole(v, k->out);
    case KEY_SIDE:
        return side(v, k->out);
    case KEY_TRIPLE:
        return triple(v, k->out);
    case KEY_NUMBER:
        if (cJSON_IsNumber(v))
            *(double *)k->out = v->valuedouble;
        return cJSON_IsNumber(v);
    case KEY_BOOL:
        if (cJSON_IsBool(v))
            *(bool *)k->out = cJSON_IsTrue(v);
        return cJSON_IsBool(v);
    case KEY_TEXT:
        if (cJSON_IsString(v))
            *(const char **)k->out = v->valuestring;
        return cJSON_IsString(v);
    case KEY_OBJECT:
        if (cJSON_IsObject(v))
            *(const cJSON **)k->out = v;
        return cJSON_IsObject(v);
    case KEY_VALUE:
        *(const cJSON **)k->out = v;
        return true;
    case KEY_ANY:
        return true;
    case KEY_OFF:
        return is_off(v);
    }
    return false;
}

static const char *wanted(enum key_kind k)
{
    static const char *const text[] = {
        [KEY_INT] = "a whole number",
        [KEY_SIDE] = "a whole number (pictures and patches are square)",
        [KEY_NUMBER] = "a number",
        [KEY_BOOL] = "true or false",
        [KEY_TEXT] = "a string",
        [KEY_OBJECT] = "an object",
        [KEY_TRIPLE] = "three numbers",
        [KEY_VALUE] = "a value",
        [KEY_ANY] = "a value",
    };
    return text[k];
}

static bool listed(const char *const *list, const char *name)
{
    while (list && *list && strcmp(*list, name) != 0)
        list++;
    return list && *list;
}

int keys_read(const cJSON *o, const char *where, const struct key *keys, size_t n,
              const char *const *ignored, struct err *e)
{
    if (!cJSON_IsObject(o))
        return err_set(e, "%s is not an object", where);
    for (const cJSON *v = o->child; v; v = v->next) {
        size_t i = 0;
        while (i < n && strcmp(keys[i].name, v->string) != 0)
            i++;
        if (i == n && listed(ignored, v->string))
            continue;
        if (i == n)
            return err_set(e, "%s: unknown key '%.64s'", where, v->string);
        if (cJSON_IsNull(v) || set(&keys[i], v))
            continue;
        if (keys[i].kind == KEY_OFF)
            return err_set(e, "%s: this value of '%s' is not implemented", where, keys[i].name);
        return err_set(e, "%s: '%s' is not %s", where, keys[i].name, wanted(keys[i].kind));
    }
    return 0;
}

cJSON *keys_object(struct err *e)
{
    cJSON *j = cJSON_CreateObject();
    if (!j)
        err_set(e, "out of memory");
    return j;
}

cJSON *keys_finish(cJSON *j, int failed)
{
    if (!failed)
        return j;
    cJSON_Delete(j);
    return NULL;
}
