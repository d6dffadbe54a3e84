// SPDX-License-Identifier: Apache-2.0
// The writer of safetensors.h.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/safetensors.h"

// A growing text; the first failure sticks.
struct header_text {
    char *s;
    size_t n, cap;
    bool failed;
    struct err *e;
};

static void add(struct header_text *t, const char *s, size_t n)
{
    size_t need;
    if (t->failed || !mem_add(t->n, n, &need) || mem_grow(&t->s, &t->cap, need + 1, 1, t->e)) {
        t->failed = true;
        return;
    }
    memcpy(t->s + t->n, s, n);
    t->n += n;
}

static void add_text(struct header_text *t, const char *s)
{
    add(t, s, strlen(s));
}

static void add_number(struct header_text *t, uint64_t v)
{
    char s[24];
    add(t, s, (size_t)snprintf(s, sizeof s, "%llu", (unsigned long long)v));
}

static void add_string(struct header_text *t, const char *s)
{
    add_text(t, "\"");
    for (; *s; s++) {
        char u[8];
        if (*s == '"' || *s == '\\')
            add_text(t, "\\");
        if ((unsigned char)*s < 0x20)
            add(t, u, (size_t)snprintf(u, sizeof u, "\\u%04x", (unsigned)*s));
        else
            add(t, s, 1);
    }
    add_text(t, "\"");
}

static int by_dtype(const void *a, const void *b)
{
    const struct st_spec *x = a, *y = b;
    return x->dtype != y->dtype ? (x->dtype < y->dtype ? 1 : -1) : strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_names(const struct st_spec *s, size_t n, struct err *e)
{
    const char **names = mem_alloc(n, sizeof *names, e);
    if (!names)
        return -1;
    for (size_t i = 0; i < n; i++)
        names[i] = s[i].name;
    if (n)
        qsort(names, n, sizeof *names, by_name);
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++)
        if (strcmp(names[i], "__metadata__") == 0 || (i && strcmp(names[i], names[i - 1]) == 0))
            rc = err_set(e, "duplicate or reserved tensor name '%.200s'", names[i]);
    free(names);
    return rc;
}

static int spec_bytes(const struct st_spec *s, size_t *out, struct err *e)
{
    *out = st_dtype_size(s->dtype);
    bool fits = s->rank >= 0 && s->rank <= ST_MAX_RANK;
    for (int i = 0; fits && i < s->rank; i++)
        fits = s->shape[i] <= SIZE_MAX && mem_mul(*out, (size_t)s->shape[i], out);
    return fits ? 0 : err_set(e, "tensor '%.200s': size overflows", s->name);
}

static int add_spec(struct header_text *t, const struct st_spec *s, uint64_t *at, struct err *e)
{
    size_t n;
    if (spec_bytes(s, &n, e))
        return -1;
    if (__builtin_add_overflow(*at, (uint64_t)n, &(uint64_t){0}))
        return err_set(e, "tensor '%.200s': size overflows", s->name);
    add_string(t, s->name);
    add_text(t, ":{\"dtype\":\"");
    add_text(t, st_dtype_name(s->dtype));
    add_text(t, "\",\"shape\":[");
    for (int i = 0; i < s->rank; i++) {
        add_text(t, i ? "," : "");
        add_number(t, s->shape[i]);
    }
    add_text(t, "],\"data_offsets\":[");
    add_number(t, *at);
    add_text(t, ",");
    add_number(t, *at += n);
    add_text(t, "]}");
    return 0;
}

static int build_header(struct header_text *t, const struct st_spec *specs, size_t n,
                        const struct st_meta *meta, size_t n_meta, uint64_t *total)
{
    static const char pad[8] = "        ";
    *total = 0;
    add_text(t, n_meta ? "{\"__metadata__\":{" : "{");
    for (size_t i = 0; i < n_meta; i++) {
        add_text(t, i ? "," : "");
        add_string(t, meta[i].key);
        add_text(t, ":");
        add_string(t, meta[i].value);
    }
    add_text(t, n_meta ? "}" : "");
    for (size_t i = 0; i < n; i++) {
        add_text(t, i || n_meta ? "," : "");
        if (add_spec(t, &specs[i], total, t->e))
            return -1;
    }
    add_text(t, "}");
    add(t, pad, -t->n % 8);
    if (!t->failed && t->n > ST_MAX_HEADER)
        return err_set(t->e, "header of %zu bytes is too long", t->n);
    return t->failed ? -1 : 0;
}

int st_writer_begin(struct st_writer *w, struct out *o, struct st_spec *specs, size_t n,
                    const struct st_meta *meta, size_t n_meta, struct err *e)
{
    struct header_text t = {.e = e};
    uint8_t len[8];
    *w = (struct st_writer){.out = o};
    if (check_names(specs, n, e))
        return -1;
    if (n)
        qsort(specs, n, sizeof *specs, by_dtype);
    int rc = build_header(&t, specs, n, meta, n_meta, &w->left);
    for (int i = 0; i < 8; i++)
        len[i] = (uint8_t)((uint64_t)t.n >> (8 * i));
    if (!rc)
        rc = out_write(o, len, 8, e) || out_write(o, t.s, t.n, e) ? -1 : 0;
    free(t.s);
    return rc;
}

int st_writer_put(struct st_writer *w, const void *data, size_t n, struct err *e)
{
    if (n > w->left)
        return err_set(e, "more data than the tensors hold");
    w->left -= n;
    return n ? out_write(w->out, data, n, e) : 0;
}

int st_writer_end(struct st_writer *w, struct err *e)
{
    return w->left ? err_set(e, "%llu bytes of data missing", (unsigned long long)w->left) : 0;
}
