// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <string.h>

#include "formats/json.h"

#define EXACT 0x1p53 // whole numbers up to here are exact in a double

// The member; NULL when absent or null, and *rc then has the getter's return value.
static const cJSON *member(const cJSON *o, const char *name, enum json_need need, int *rc,
                           struct err *e)
{
    const cJSON *m = cJSON_GetObjectItemCaseSensitive(o, name);
    if (m && !cJSON_IsNull(m))
        return m;
    *rc = need == JSON_REQUIRED ? err_set(e, "'%s' is missing", name) : 0;
    return NULL;
}

static int wrong(struct err *e, const char *name, const char *what)
{
    return err_set(e, "'%s' is not %s", name, what);
}

int json_string(const cJSON *o, const char *name, enum json_need need, const char **out,
                struct err *e)
{
    int rc = 0;
    const cJSON *m = member(o, name, need, &rc, e);
    if (!m)
        return rc;
    if (!cJSON_IsString(m))
        return wrong(e, name, "a string");
    *out = m->valuestring;
    return 1;
}

int json_bool(const cJSON *o, const char *name, enum json_need need, bool *out, struct err *e)
{
    int rc = 0;
    const cJSON *m = member(o, name, need, &rc, e);
    if (!m)
        return rc;
    if (!cJSON_IsBool(m))
        return wrong(e, name, "true or false");
    *out = cJSON_IsTrue(m);
    return 1;
}

int json_double(const cJSON *o, const char *name, enum json_need need, double *out, struct err *e)
{
    int rc = 0;
    const cJSON *m = member(o, name, need, &rc, e);
    if (!m)
        return rc;
    if (!cJSON_IsNumber(m))
        return wrong(e, name, "a number");
    *out = m->valuedouble;
    return 1;
}

int json_int(const cJSON *o, const char *name, enum json_need need, int64_t lo, int64_t hi,
             int64_t *out, struct err *e)
{
    double v;
    int rc = json_double(o, name, need, &v, e);
    if (rc <= 0)
        return rc;
    if (v != floor(v) || fabs(v) > EXACT || v < (double)lo || v > (double)hi)
        return err_set(e, "'%s' is %g, not a whole number from %lld to %lld", name, v,
                       (long long)lo, (long long)hi);
    *out = (int64_t)v;
    return 1;
}

static int u64_of_digits(const char *s, uint64_t *out)
{
    uint64_t v = 0;
    if (!*s || strspn(s, "0123456789") != strlen(s))
        return -1;
    for (; *s; s++) {
        unsigned d = (unsigned)(*s - '0');
        if (v > (UINT64_MAX - d) / 10)
            return -1;
        v = v * 10 + d;
    }
    *out = v;
    return 0;
}

int json_u64(const cJSON *o, const char *name, enum json_need need, uint64_t *out, struct err *e)
{
    int rc = 0;
    const cJSON *m = member(o, name, need, &rc, e);
    if (!m)
        return rc;
    if (cJSON_IsString(m))
        return u64_of_digits(m->valuestring, out) ? wrong(e, name, "a 64-bit number") : 1;
    if (!cJSON_IsNumber(m) || m->valuedouble != floor(m->valuedouble) || m->valuedouble < 0 ||
        m->valuedouble > EXACT)
        return wrong(e, name, "a whole number");
    *out = (uint64_t)m->valuedouble;
    return 1;
}

int json_object(const cJSON *o, const char *name, enum json_need need, const cJSON **out,
                struct err *e)
{
    int rc = 0;
    const cJSON *m = member(o, name, need, &rc, e);
    if (!m)
        return rc;
    if (!cJSON_IsObject(m))
        return wrong(e, name, "an object");
    *out = m;
    return 1;
}

int json_array(const cJSON *o, const char *name, enum json_need need, const cJSON **out,
               struct err *e)
{
    int rc = 0;
    const cJSON *m = member(o, name, need, &rc, e);
    if (!m)
        return rc;
    if (!cJSON_IsArray(m))
        return wrong(e, name, "an array");
    *out = m;
    return 1;
}

int json_doubles(const cJSON *o, const char *name, enum json_need need, double *out, size_t n,
                 struct err *e)
{
    const cJSON *a;
    int rc = json_array(o, name, need, &a, e);
    if (rc <= 0)
        return rc;
    size_t have = 0;
    for (const cJSON *c = a->child; c; c = c->next, have++)
        if (!cJSON_IsNumber(c))
            return wrong(e, name, "an array of numbers");
    if (have != n)
        return err_set(e, "'%s' has %zu numbers, not %zu", name, have, n);
    for (const cJSON *c = a->child; c; c = c->next)
        *out++ = c->valuedouble;
    return 1;
}

int json_only(const cJSON *o, const char *const *known, struct err *e)
{
    for (const cJSON *c = o ? o->child : NULL; c; c = c->next) {
        const char *const *k = known;
        while (*k && strcmp(*k, c->string))
            k++;
        if (!*k)
            return err_set(e, "unknown name '%s'", c->string);
    }
    return 0;
}
