// SPDX-License-Identifier: Apache-2.0
#include "formats/safetensors-header.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/json-scan.h"

// The header grammar is so small that a parser for just it is safer than a tree of 100 MB: one
// pass, no recursion, no tree, strings decoded into an arena no longer than the header.
struct parser {
    struct json_scan s;
    char *arena; // next free byte
    struct err *e;
};

static int bad(struct parser *p, const char *what)
{
    return err_set(p->e, "header: %s at byte %zu", what, p->s.at);
}

// Takes the character c if it is next.
static bool take(struct parser *p, char c)
{
    json_scan_space(&p->s);
    if (json_scan_peek(&p->s) != c)
        return false;
    p->s.at++;
    return true;
}

static int expect(struct parser *p, char c)
{
    char what[] = "expected '?'";
    what[sizeof what - 3] = c;
    return take(p, c) ? 0 : bad(p, what);
}

// The terminating NUL takes the place of a quote, so the arena never outgrows the header.
static int string(struct parser *p, const char **out)
{
    *out = p->arena;
    json_scan_space(&p->s);
    if (json_scan_string(&p->s, &p->arena))
        return bad(p, p->s.why);
    *p->arena++ = 0;
    return 0;
}

static int number(struct parser *p, uint64_t *out)
{
    json_scan_space(&p->s);
    size_t from = p->s.at;
    uint64_t v = 0;
    for (int c; (c = json_scan_peek(&p->s)) >= '0' && c <= '9'; p->s.at++)
        if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(c - '0'), &v))
            return bad(p, "number too large");
    if (p->s.at == from || (p->s.text[from] == '0' && p->s.at - from > 1))
        return bad(p, "expected a whole number");
    *out = v;
    return 0;
}

// Reads `[a, b, ...]` of at most max numbers.
static int numbers(struct parser *p, uint64_t *out, int max, int *n)
{
    *n = 0;
    if (expect(p, '['))
        return -1;
    if (take(p, ']'))
        return 0;
    do {
        if (*n == max)
            return bad(p, "too many numbers");
        if (number(p, &out[(*n)++]))
            return -1;
    } while (take(p, ','));
    return expect(p, ']');
}

static int parse_dtype(struct parser *p, enum st_dtype *out)
{
    const char *s;
    if (string(p, &s))
        return -1;
    for (int i = 0; i < ST_N_DTYPES; i++)
        if (strcmp(s, st_dtype_name((enum st_dtype)i)) == 0) {
            *out = (enum st_dtype)i;
            return 0;
        }
    return err_set(p->e, "header: unknown dtype '%.64s'", s);
}

static int parse_field(struct parser *p, struct st_tensor *t, uint64_t offsets[2], unsigned *seen)
{
    const char *key;
    int n;
    if (string(p, &key) || expect(p, ':'))
        return -1;
    unsigned bit = strcmp(key, "dtype") == 0          ? 1
                   : strcmp(key, "shape") == 0        ? 2
                   : strcmp(key, "data_offsets") == 0 ? 4
                                                      : 0;
    if (!bit)
        return err_set(p->e, "header: tensor '%.200s': unknown key '%.64s'", t->name, key);
    if (*seen & bit)
        return err_set(p->e, "header: tensor '%.200s': duplicate key '%s'", t->name, key);
    *seen |= bit;
    if (bit == 1)
        return parse_dtype(p, &t->dtype);
    if (bit == 2)
        return numbers(p, t->shape, ST_MAX_RANK, &t->rank);
    if (numbers(p, offsets, 2, &n))
        return -1;
    return n == 2 ? 0 : bad(p, "data_offsets must be two numbers");
}

static int check_size(struct st_tensor *t, const struct st_range *r, struct err *e)
{
    t->numel = 1;
    // A zero dimension does not excuse an overflow among the others: readers differ in the order.
    for (int i = 0; i < t->rank; i++)
        if (t->shape[i] > SIZE_MAX || !mem_mul(t->numel, (size_t)t->shape[i], &t->numel))
            return err_set(e, "header: tensor '%.200s': size overflows", t->name);
    if (!mem_mul(t->numel, st_dtype_size(t->dtype), &t->n_bytes))
        return err_set(e, "header: tensor '%.200s': size overflows", t->name);
    if (r->end < r->begin || r->end - r->begin != t->n_bytes)
        return err_set(e, "header: tensor '%.200s': shape and data_offsets disagree", t->name);
    return 0;
}

static int parse_tensor(struct parser *p, struct st_header *h, const char *name)
{
    struct st_tensor t = {.name = name};
    uint64_t offsets[2];
    unsigned seen = 0;
    if (expect(p, '{'))
        return -1;
    do
        if (parse_field(p, &t, offsets, &seen))
            return -1;
    while (take(p, ','));
    if (expect(p, '}'))
        return -1;
    if (seen != 7)
        return err_set(p->e, "header: tensor '%.200s' lacks %s", name,
                       seen & 1 ? seen & 2 ? "data_offsets" : "shape" : "dtype");
    struct st_range r = {offsets[0], offsets[1], h->n_tensors};
    if (check_size(&t, &r, p->e) ||
        mem_grow(&h->tensors, &h->cap_tensors, h->n_tensors + 1, sizeof t, p->e) ||
        mem_grow(&h->ranges, &h->cap_ranges, h->n_tensors + 1, sizeof r, p->e))
        return -1;
    h->tensors[h->n_tensors] = t;
    h->ranges[h->n_tensors++] = r;
    return 0;
}

static int parse_meta(struct parser *p, struct st_header *h)
{
    if (h->has_meta)
        return bad(p, "duplicate __metadata__");
    h->has_meta = true;
    json_scan_space(&p->s);
    if (json_scan_peek(&p->s) == 'n') // the reference reader's None
        return json_scan_value(&p->s) ? bad(p, p->s.why) : 0;
    if (expect(p, '{'))
        return -1;
    if (take(p, '}'))
        return 0;
    do {
        struct st_meta m;
        if (string(p, &m.key) || expect(p, ':') || string(p, &m.value) ||
            mem_grow(&h->meta, &h->cap_meta, h->n_meta + 1, sizeof m, p->e))
            return -1;
        h->meta[h->n_meta++] = m;
    } while (take(p, ','));
    return expect(p, '}');
}

static int parse_header(struct parser *p, struct st_header *h)
{
    if (json_scan_peek(&p->s) != '{')
        return bad(p, "expected '{'");
    p->s.at++;
    if (!take(p, '}')) {
        do {
            const char *name;
            if (string(p, &name) || expect(p, ':') ||
                (strcmp(name, "__metadata__") == 0 ? parse_meta(p, h) : parse_tensor(p, h, name)))
                return -1;
        } while (take(p, ','));
        if (expect(p, '}'))
            return -1;
    }
    json_scan_space(&p->s);
    return p->s.at == p->s.n ? 0 : bad(p, "something after the end");
}

static int by_range(const void *a, const void *b)
{
    const struct st_range *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct st_tensor *)a)->name, ((const struct st_tensor *)b)->name);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct st_meta *)a)->key, ((const struct st_meta *)b)->key);
}

// The ranges must tile the buffer: nothing hidden between tensors, nothing shared.
static int place(struct st_header *h, const uint8_t *buf, size_t n, struct err *e)
{
    uint64_t at = 0;
    if (h->n_tensors)
        qsort(h->ranges, h->n_tensors, sizeof *h->ranges, by_range);
    for (size_t i = 0; i < h->n_tensors; i++) {
        const struct st_range *r = &h->ranges[i];
        struct st_tensor *t = &h->tensors[r->tensor];
        if (r->begin != at)
            return err_set(e, "header: tensor '%.200s': %s before its data", t->name,
                           r->begin > at ? "gap" : "overlap");
        if (r->end > n)
            return err_set(e, "header: tensor '%.200s' ends past the end of the file", t->name);
        t->data = buf + at;
        at = r->end;
    }
    if (at != n)
        return err_set(e, "%zu bytes after the last tensor", n - (size_t)at);
    return 0;
}

// Sorting instead of hashing: no input can make it slow.
int st_sort_tensors(struct st_tensor *t, size_t n, struct err *e)
{
    if (n)
        qsort(t, n, sizeof *t, by_name);
    for (size_t i = 1; i < n; i++)
        if (strcmp(t[i - 1].name, t[i].name) == 0)
            return err_set(e, "duplicate tensor '%.200s'", t[i].name);
    return 0;
}

static int sort_meta(struct st_header *h, struct err *e)
{
    if (h->n_meta)
        qsort(h->meta, h->n_meta, sizeof *h->meta, by_key);
    for (size_t i = 1; i < h->n_meta; i++)
        if (strcmp(h->meta[i - 1].key, h->meta[i].key) == 0)
            return err_set(e, "header: duplicate __metadata__ key '%.200s'", h->meta[i].key);
    return 0;
}

static int read_header(struct st_header *h, char *arena, const uint8_t *d, size_t len, size_t rest,
                       struct err *e)
{
    struct parser p = {.s = {.text = (const char *)d, .n = len}, .arena = arena, .e = e};
    if (parse_header(&p, h) || place(h, d + len, rest, e) || sort_meta(h, e))
        return -1;
    return st_sort_tensors(h->tensors, h->n_tensors, e);
}

// Parses one file and takes its header's arrays; the arena goes to *arena.
int st_header_read(struct st_header *h, char **arena, const uint8_t *d, size_t n, struct err *e)
{
    uint64_t len = 0;
    if (n < 8)
        return err_set(e, "not a safetensors file: shorter than 8 bytes");
    for (int i = 0; i < 8; i++)
        len |= (uint64_t)d[i] << (8 * i);
    if (len > ST_MAX_HEADER)
        return err_set(e, "not a safetensors file: header of %llu bytes", (unsigned long long)len);
    if (len > n - 8)
        return err_set(e, "header of %llu bytes goes past the end of the file",
                       (unsigned long long)len);
    *arena = mem_alloc((size_t)len + 1, 1, e);
    if (!*arena)
        return -1;
    memset(h, 0, sizeof *h);
    int rc = read_header(h, *arena, d + 8, (size_t)len, n - 8 - (size_t)len, e);
    free(h->ranges);
    h->ranges = NULL;
    if (rc) {
        free(h->tensors);
        free(h->meta);
        free(*arena);
        *arena = NULL;
    }
    return rc;
}
