// SPDX-License-Identifier: Apache-2.0
#include "formats/safetensors-header.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

// The header grammar is so small that a parser for just it is safer than a tree of 100 MB: one
// pass, no recursion, no tree, strings decoded into an arena no longer than the header.
struct parser {
    const uint8_t *p, *end, *start;
    char *arena; // next free byte
    struct err *e;
};

static int bad(struct parser *p, const char *what)
{
    return err_set(p->e, "header: %s at byte %zu", what, (size_t)(p->p - p->start));
}

static void skip_space(struct parser *p)
{
    while (p->p < p->end && (*p->p == ' ' || *p->p == '\n' || *p->p == '\r' || *p->p == '\t'))
        p->p++;
}

// Takes the character c if it is next.
static bool take(struct parser *p, char c)
{
    skip_space(p);
    if (p->p == p->end || *p->p != (uint8_t)c)
        return false;
    p->p++;
    return true;
}

static int expect(struct parser *p, char c)
{
    char what[] = "expected '?'";
    what[sizeof what - 3] = c;
    return take(p, c) ? 0 : bad(p, what);
}

static int hex4(struct parser *p, uint32_t *out)
{
    if (p->end - p->p < 4)
        return bad(p, "short escape");
    *out = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t c = *p->p++;
        uint32_t d;
        if (c >= '0' && c <= '9')
            d = c - '0';
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            d = (c | 32) - 'a' + 10u;
        else
            return bad(p, "bad escape");
        *out = *out << 4 | d;
    }
    return 0;
}

static void put_utf8(struct parser *p, uint32_t c)
{
    if (c < 0x80) {
        *p->arena++ = (char)c;
    } else if (c < 0x800) {
        *p->arena++ = (char)(0xc0 | c >> 6);
        *p->arena++ = (char)(0x80 | (c & 63));
    } else if (c < 0x10000) {
        *p->arena++ = (char)(0xe0 | c >> 12);
        *p->arena++ = (char)(0x80 | (c >> 6 & 63));
        *p->arena++ = (char)(0x80 | (c & 63));
    } else {
        *p->arena++ = (char)(0xf0 | c >> 18);
        *p->arena++ = (char)(0x80 | (c >> 12 & 63));
        *p->arena++ = (char)(0x80 | (c >> 6 & 63));
        *p->arena++ = (char)(0x80 | (c & 63));
    }
}

static int escape(struct parser *p)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (p->p == p->end)
        return bad(p, "unfinished string");
    char c = (char)*p->p++;
    if (c != 'u') {
        const char *at = c ? strchr(from, c) : NULL;
        if (!at)
            return bad(p, "bad escape");
        *p->arena++ = to[at - from];
        return 0;
    }
    uint32_t u, low;
    if (hex4(p, &u))
        return -1;
    if (u == 0)
        return bad(p, "NUL in a string");
    if (u >= 0xd800 && u < 0xe000) {
        if (u >= 0xdc00 || p->end - p->p < 2 || p->p[0] != '\\' || p->p[1] != 'u')
            return bad(p, "lone surrogate");
        p->p += 2;
        if (hex4(p, &low))
            return -1;
        if (low < 0xdc00 || low > 0xdfff)
            return bad(p, "lone surrogate");
        u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
    }
    put_utf8(p, u);
    return 0;
}

// Copies one UTF-8 sequence, refusing overlong forms, surrogates and what is past U+10FFFF.
static int copy_utf8(struct parser *p)
{
    uint8_t c = *p->p;
    int n = c < 0x80 ? 0 : c < 0xc2 ? -1 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : c < 0xf5 ? 3 : -1;
    if (n < 0 || p->end - p->p <= n)
        return bad(p, "not UTF-8");
    uint8_t d = n ? p->p[1] : 0;
    if ((c == 0xe0 && d < 0xa0) || (c == 0xed && d > 0x9f) || (c == 0xf0 && d < 0x90) ||
        (c == 0xf4 && d > 0x8f))
        return bad(p, "not UTF-8");
    for (int i = 1; i <= n; i++)
        if ((p->p[i] & 0xc0) != 0x80)
            return bad(p, "not UTF-8");
    memcpy(p->arena, p->p, (size_t)n + 1);
    p->arena += n + 1;
    p->p += n + 1;
    return 0;
}

// The terminating NUL takes the place of a quote, so the arena never outgrows the header.
static int string(struct parser *p, const char **out)
{
    if (expect(p, '"'))
        return -1;
    *out = p->arena;
    for (;;) {
        if (p->p == p->end)
            return bad(p, "unfinished string");
        if (*p->p == '"')
            break;
        if (*p->p < 0x20)
            return bad(p, "control character in a string");
        if (*p->p == '\\') {
            p->p++;
            if (escape(p))
                return -1;
        } else if (copy_utf8(p)) {
            return -1;
        }
    }
    p->p++;
    *p->arena++ = 0;
    return 0;
}

static int number(struct parser *p, uint64_t *out)
{
    skip_space(p);
    const uint8_t *from = p->p;
    uint64_t v = 0;
    while (p->p < p->end && *p->p >= '0' && *p->p <= '9') {
        if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*p->p - '0'), &v))
            return bad(p, "number too large");
        p->p++;
    }
    if (p->p == from || (*from == '0' && p->p - from > 1))
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
    skip_space(p);
    if (p->end - p->p >= 4 && memcmp(p->p, "null", 4) == 0) { // the reference reader's None
        p->p += 4;
        return 0;
    }
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
    if (p->p == p->end || *p->p != '{')
        return bad(p, "expected '{'");
    p->p++;
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
    skip_space(p);
    return p->p == p->end ? 0 : bad(p, "something after the end");
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
    struct parser p = {.p = d, .start = d, .end = d + len, .arena = arena, .e = e};
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
