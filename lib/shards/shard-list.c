// SPDX-License-Identifier: Apache-2.0
#include "shards/shard-list.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/path.h"
#include "base/url.h"

enum { BYTES_MAX = 256 << 20, GROUPS_MAX = 64 };

struct list_state {
    struct shard_list *list;
    char name[SHARD_NAME_MAX];
    size_t len;
    int depth;
    struct err *e;
};

void shard_list_release(struct shard_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->names[i]);
    free(l->names);
    *l = (struct shard_list){0};
}

static int check_name(const struct shard_list *l, const char *name, struct err *e)
{
    if (!*name)
        return err_set(e, "empty shard name");
    if (strncmp(name, "pipe:", 5) == 0)
        return err_set(e, "%s: commands are not run; pipe the shard in and name it '-'", name);
    if (strstr(name, "://") && !url_is(name))
        return err_set(e,
                       "%s: only s3://, https:// and http:// are fetched; pipe the shard in and "
                       "name it '-'",
                       name);
    for (size_t i = 0; strcmp(name, "-") == 0 && i < l->n; i++)
        if (strcmp(l->names[i], "-") == 0)
            return err_set(e, "'-' is given twice");
    return 0;
}

static int put_name(struct list_state *t)
{
    struct shard_list *l = t->list;
    t->name[t->len] = 0;
    if (check_name(l, t->name, t->e))
        return -1;
    l->bytes += t->len + 1;
    if (l->n >= SHARD_LIST_MAX || l->bytes > BYTES_MAX)
        return err_set(t->e, "more than %d shards", SHARD_LIST_MAX);
    void *names = l->names;
    int rc = mem_grow(&names, &l->cap, l->n + 1, sizeof *l->names, t->e);
    l->names = names;
    if (rc)
        return -1;
    char *copy = mem_strdup(t->name, t->e);
    if (!copy)
        return -1;
    l->names[l->n++] = copy;
    return 0;
}

static int put(struct list_state *t, const char *p, size_t n)
{
    if (n >= sizeof t->name - t->len)
        return err_set(t->e, "shard name over %d bytes", SHARD_NAME_MAX - 1);
    memcpy(t->name + t->len, p, n);
    t->len += n;
    return 0;
}

// The end of the part that starts at p: the first character of `stops` outside braces, or the end
// of the string.
static const char *part_end(const char *p, const char *stops)
{
    int depth = 0;
    for (; *p; p++) {
        if (depth == 0 && strchr(stops, *p))
            return p;
        if (*p == '\\' && p[1])
            p++;
        else if (*p == '{')
            depth++;
        else if (*p == '}')
            depth--;
    }
    return p;
}

static bool read_number(const char **p, unsigned long long *v, int *digits)
{
    *digits = 0;
    *v = 0;
    for (; isdigit((unsigned char)**p && *digits < 19 ? (unsigned char)**p : 0); (*p)++) {
        *v = *v * 10 + (unsigned long long)(**p - '0');
        if (++*digits > 18)
            return false;
    }
    return *digits > 0;
}

struct number_range {
    unsigned long long from, to, step;
    int width; // zero padding, 0 for none
};

// `A..B` or `A..B..STEP` up to end; padded to the wider side when either starts with a zero.
static bool read_range(const char *p, const char *end, struct number_range *r)
{
    int a, b, c;
    const char *first = p;
    r->step = 1;
    if (!read_number(&p, &r->from, &a) || strncmp(p, "..", 2) != 0)
        return false;
    p += 2;
    const char *second = p;
    if (!read_number(&p, &r->to, &b))
        return false;
    if (p != end && strncmp(p, "..", 2) == 0) {
        p += 2;
        if (!read_number(&p, &r->step, &c) || !r->step)
            return false;
    }
    bool pad = (*first == '0' && a > 1) || (*second == '0' && b > 1);
    r->width = pad ? (a > b ? a : b) : 0;
    return p == end;
}

static int expand(struct list_state *t, const char *p);

static int expand_range(struct list_state *t, const struct number_range *r, const char *rest)
{
    size_t len = t->len;
    unsigned long long span = r->from < r->to ? r->to - r->from : r->from - r->to;
    if (span / r->step >= SHARD_LIST_MAX)
        return err_set(t->e, "more than %d shards", SHARD_LIST_MAX);
    for (unsigned long long i = 0; i <= span / r->step; i++) {
        unsigned long long d = i * r->step, v = r->from < r->to ? r->from + d : r->from - d;
        char text[24], *q = text + sizeof text;
        int n = 0;
        for (; v || n < r->width || n == 0; v /= 10, n++)
            *--q = (char)('0' + v % 10);
        t->len = len;
        if (put(t, q, (size_t)n) || expand(t, rest))
            return -1;
    }
    return 0;
}

static int expand_list(struct list_state *t, const char *p, const char *end, const char *rest)
{
    size_t len = t->len, tail = strlen(rest);
    for (;; p++) {
        const char *stop = part_end(p, ",}");
        size_t n = (size_t)(stop - p);
        char *alt = mem_alloc(n + tail + 1, 1, t->e);
        if (!alt)
            return -1;
        memcpy(alt, p, n);
        memcpy(alt + n, rest, tail + 1);
        t->len = len;
        int rc = expand(t, alt);
        free(alt);
        if (rc)
            return -1;
        p = stop;
        if (p >= end)
            return 0;
    }
}

static int expand_group(struct list_state *t, const char *open)
{
    const char *end = part_end(open + 1, "}");
    struct number_range r;
    if (!*end)
        return err_set(t->e, "brace not closed: %s", open);
    if (t->depth >= GROUPS_MAX)
        return err_set(t->e, "more than %d braces in a name", GROUPS_MAX);
    t->depth++;
    int rc;
    if (read_range(open + 1, end, &r))
        rc = expand_range(t, &r, end + 1);
    else if (*part_end(open + 1, ",}") == ',')
        rc = expand_list(t, open + 1, end, end + 1);
    else
        rc = err_set(t->e, "neither a range nor a list: %.*s", (int)(end - open + 1), open);
    t->depth--;
    return rc;
}

static int expand(struct list_state *t, const char *p)
{
    for (; *p; p++) {
        if (*p == '{')
            return expand_group(t, p);
        if (*p == '}')
            return err_set(t->e, "brace not opened: %s", p);
        if (*p == '\\' && p[1])
            p++;
        if (put(t, p, 1))
            return -1;
    }
    return put_name(t);
}

int shard_list_add_name(struct shard_list *l, const char *name, struct err *e)
{
    struct list_state t = {.list = l, .e = e};
    return put(&t, name, strlen(name)) || put_name(&t) ? -1 : 0;
}

// The next `::` outside braces, or the end.
static const char *source_end(const char *p)
{
    p = part_end(p, ":");
    while (*p && p[1] != ':')
        p = part_end(p + 1, ":");
    return p;
}

int shard_list_add(struct shard_list *l, const char *spec, struct err *e)
{
    struct list_state t = {.list = l, .e = e};
    if (strlen(spec) >= SHARD_NAME_MAX * 16)
        return err_set(e, "shard list over %d bytes", SHARD_NAME_MAX * 16);
    for (const char *p = spec;; p += 2) {
        const char *end = source_end(p);
        char *one = mem_alloc((size_t)(end - p) + 1, 1, e);
        if (!one)
            return -1;
        memcpy(one, p, (size_t)(end - p));
        t.len = 0;
        int rc = expand(&t, one);
        free(one);
        if (rc)
            return -1;
        p = end;
        if (!*p)
            return 0;
    }
}

// Orders paths by their stems, equal stems by the whole path.
static int by_stem(const void *a, const void *b)
{
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    const char *p = path_base(x), *q = path_base(y);
    size_t n = path_stem(p), m = path_stem(q);
    int c = memcmp(p, q, n < m ? n : m);
    if (c == 0 && n != m)
        return n < m ? -1 : 1;
    return c ? c : strcmp(x, y);
}

static bool same_stem(const char *x, const char *y)
{
    const char *p = path_base(x), *q = path_base(y);
    size_t n = path_stem(p);
    return n == path_stem(q) && memcmp(p, q, n) == 0;
}

static int one_name(const char *x, const char *y, struct err *e)
{
    char a[SHARD_NAME_MAX], b[SHARD_NAME_MAX];
    url_show(x, a, sizeof a);
    url_show(y, b, sizeof b);
    return err_set(e,
                   "'%s' and '%s' have one name: the rows of a shard's other files, its mask "
                   "and its random numbers are found by it; rename one",
                   a, b);
}

// Two paths of one stem. 0 when both are one file that can be read twice.
static int check_pair(const char *x, const char *y, struct err *e)
{
    struct stat a, b;
    if (strcmp(x, y) == 0 && url_is(x))
        return 0;
    if (url_is(x) || url_is(y))
        return one_name(x, y, e);
    if (stat(x, &a) || stat(y, &b))
        return err_errno(e, "cannot open '%s'", y);
    if (a.st_dev != b.st_dev || a.st_ino != b.st_ino)
        return one_name(x, y, e);
    if (!S_ISREG(a.st_mode))
        return err_set(e, "'%s' is given twice and can be read only once", y);
    return 0;
}

int shard_list_check_names(const struct shard_list *l, struct err *e)
{
    if (l->n < 2)
        return 0;
    char **sorted = mem_alloc(l->n, sizeof *sorted, e);
    if (!sorted)
        return -1;
    memcpy(sorted, l->names, l->n * sizeof *sorted);
    qsort(sorted, l->n, sizeof *sorted, by_stem);
    int rc = 0;
    for (size_t i = 1; !rc && i < l->n; i++)
        if (same_stem(sorted[i - 1], sorted[i]))
            rc = check_pair(sorted[i - 1], sorted[i], e);
    free(sorted);
    return rc;
}
