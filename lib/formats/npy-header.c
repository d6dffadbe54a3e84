// SPDX-License-Identifier: Apache-2.0
// The NPY header: a Python dictionary of three entries, written and read here.
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "formats/npy-write.h"
#include "formats/npy.h"

#define MAGIC "\x93NUMPY"
#define PAIR "[('f0','<u8'),('f1','<u8')]"

enum {
    MAGIC_N = 6,
    DESCR_MAX = 256,
    ALIGN = 64,        // NumPy starts the rows at a multiple of this
    COUNT_DIGITS = 21, // and leaves room for as many digits in the number of rows
};

static const struct {
    const char *name;
    size_t size;
} types[] = {
    [NPY_F2] = {"<f2", 2}, [NPY_F4] = {"<f4", 4},
    [NPY_U1] = {"|u1", 1}, [NPY_I4] = {"<i4", 4},
    [NPY_I8] = {"<i8", 8}, [NPY_U8] = {"<u8", 8},
    [NPY_F8] = {"<f8", 8}, [NPY_U8_PAIR] = {"[('f0', '<u8'), ('f1', '<u8')]", 16},
};

size_t npy_type_size(enum npy_type t)
{
    return types[t].size;
}

const char *npy_type_name(enum npy_type t)
{
    return types[t].name;
}

struct npy_text {
    const char *p, *end;
};

static int peek(const struct npy_text *t)
{
    return t->p < t->end ? (unsigned char)*t->p : -1;
}

static void skip_space(struct npy_text *t)
{
    while (t->p < t->end && memchr(" \t\n\r", *t->p, 4))
        t->p++;
}

static bool take(struct npy_text *t, char c)
{
    skip_space(t);
    if (peek(t) != c)
        return false;
    t->p++;
    return true;
}

static bool take_word(struct npy_text *t, const char *word)
{
    size_t n = strlen(word);
    skip_space(t);
    if ((size_t)(t->end - t->p) < n || memcmp(t->p, word, n))
        return false;
    t->p += n;
    return true;
}

// A quoted string without escapes, which the names and types in question do not have.
static bool take_string(struct npy_text *t, char *out, size_t room)
{
    skip_space(t);
    int quote = peek(t);
    if (quote != '\'' && quote != '"')
        return false;
    const char *first = ++t->p;
    const char *last = memchr(first, quote, (size_t)(t->end - first));
    if (!last || (size_t)(last - first) >= room || memchr(first, '\\', (size_t)(last - first)))
        return false;
    memcpy(out, first, (size_t)(last - first));
    out[last - first] = '\0';
    t->p = last + 1;
    return true;
}

// A type: a string, or the list of a structured type, kept as text without its spaces and with
// single quotes.
static bool take_descr(struct npy_text *t, char *out, size_t room)
{
    skip_space(t);
    if (peek(t) != '[')
        return take_string(t, out, room);
    size_t n = 0;
    int depth = 0;
    for (; t->p < t->end; t->p++) {
        char c = *t->p == '"' ? '\'' : *t->p;
        if (c == ' ')
            continue;
        if (n + 1 >= room)
            return false;
        out[n++] = c;
        depth += (c == '[') - (c == ']');
        if (depth == 0) {
            out[n] = '\0';
            t->p++;
            return true;
        }
    }
    return false;
}

static bool take_u64(struct npy_text *t, uint64_t *out)
{
    uint64_t v = 0;
    skip_space(t);
    if (peek(t) < '0' || peek(t) > '9')
        return false;
    for (; peek(t) >= '0' && peek(t) <= '9'; t->p++) {
        unsigned d = (unsigned)(peek(t) - '0');
        if (v > (UINT64_MAX - d) / 10)
            return false;
        v = v * 10 + d;
    }
    if (peek(t) == 'L') // a Python 2 long
        t->p++;
    *out = v;
    return true;
}

// (), (n,), (n, m) ...
static int take_shape(struct npy_text *t, struct npy_header *h, struct err *e)
{
    bool comma = true;
    h->n_dims = 0;
    if (!take(t, '('))
        return err_set(e, "header: the shape is not a tuple");
    while (!take(t, ')')) {
        if (h->n_dims == NPY_MAX_DIMS)
            return err_set(e, "more than %d dimensions", NPY_MAX_DIMS);
        if (!comma || !take_u64(t, &h->shape[h->n_dims]))
            return err_set(e, "header: the shape is not a list of numbers");
        h->n_dims++;
        comma = take(t, ',');
    }
    if (h->n_dims == 1 && !comma)
        return err_set(e, "header: the shape is not a tuple");
    return 0;
}

static int set_type(struct npy_header *h, const char *descr, struct err *e)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(descr, i == NPY_U8_PAIR ? PAIR : types[i].name) == 0) {
            h->type = (enum npy_type)i;
            return 0;
        }
    if (strcmp(descr, "|b1") == 0 || strcmp(descr, "<u1") == 0) { // a NumPy mask of truth values
        h->type = NPY_U1;
        return 0;
    }
    if (strchr(descr, 'O'))
        return err_set(e, "holds Python objects ('%.40s'), which are not read", descr);
    if (strcmp(descr, "<V2") == 0 || strcmp(descr, "|V2") == 0 || strstr(descr, "bfloat16"))
        return err_set(e,
                       "holds bfloat16 ('%.40s'), which NPY has no type for; save it as float16 "
                       "or float32",
                       descr);
    if (descr[0] == '>')
        return err_set(e, "is big-endian ('%.40s'); save it as little-endian", descr);
    return err_set(e, "has type '%.40s'; only <f2 <f4 <f8 |u1 <i4 <i8 <u8 are read", descr);
}

enum { HAS_DESCR = 1, HAS_ORDER = 2, HAS_SHAPE = 4 };

static int take_entry(struct npy_text *t, struct npy_header *h, char *descr, int *has,
                      struct err *e)
{
    char name[32];
    int bit;
    if (!take_string(t, name, sizeof name) || !take(t, ':'))
        return err_set(e, "header is not a Python dictionary");
    if (strcmp(name, "descr") == 0) {
        bit = HAS_DESCR;
        if (!take_descr(t, descr, DESCR_MAX))
            return err_set(e, "header: cannot read the type");
    } else if (strcmp(name, "fortran_order") == 0) {
        bit = HAS_ORDER;
        if (take_word(t, "True"))
            return err_set(e, "is in Fortran order; save it in C order");
        if (!take_word(t, "False"))
            return err_set(e, "header: fortran_order is neither True nor False");
    } else if (strcmp(name, "shape") == 0) {
        bit = HAS_SHAPE;
        if (take_shape(t, h, e))
            return -1;
    } else {
        return err_set(e, "header: unknown entry '%s'", name);
    }
    if (*has & bit)
        return err_set(e, "header: '%s' stands twice", name);
    *has |= bit;
    return 0;
}

static int parse_dictionary(struct npy_header *h, const char *p, size_t n, struct err *e)
{
    struct npy_text t = {p, p + n};
    char descr[DESCR_MAX] = "";
    int has = 0;
    bool comma = true;
    if (!take(&t, '{'))
        return err_set(e, "header is not a Python dictionary");
    while (!take(&t, '}')) {
        if (!comma)
            return err_set(e, "header is not a Python dictionary");
        if (take_entry(&t, h, descr, &has, e))
            return -1;
        comma = take(&t, ',');
    }
    skip_space(&t);
    if (t.p < t.end)
        return err_set(e, "header: text after the dictionary");
    if (has != (HAS_DESCR | HAS_ORDER | HAS_SHAPE))
        return err_set(e, "header lacks descr, fortran_order or shape");
    return set_type(h, descr, e);
}

// Sizes that follow from shape and type, and the file must have.
static int check_sizes(struct npy_header *h, uint64_t file_bytes, struct err *e)
{
    size_t bytes;
    h->rows = h->n_dims ? h->shape[0] : 1;
    h->dim = 1;
    for (int i = 1; i < h->n_dims; i++)
        if (!mem_mul(h->dim, (size_t)h->shape[i], &h->dim))
            return err_set(e, "shape overflows");
    if (!mem_mul(h->dim, types[h->type].size, &h->row_bytes) ||
        !mem_mul((size_t)h->rows, h->row_bytes, &bytes) || !mem_add(bytes, h->data_at, &bytes))
        return err_set(e, "shape overflows");
    if (h->rows && !h->dim)
        return err_set(e, "has rows of no items");
    if (bytes > file_bytes)
        return err_set(e, "truncated: %" PRIu64 " bytes, its header needs %zu", file_bytes, bytes);
    if (bytes < file_bytes)
        return err_set(e, "too long: %" PRIu64 " bytes, its header says %zu", file_bytes, bytes);
    return 0;
}

int npy_parse(struct npy_header *h, const uint8_t *bytes, size_t n, uint64_t file_bytes,
              struct err *e)
{
    *h = (struct npy_header){0};
    if (n < MAGIC_N || memcmp(bytes, MAGIC, MAGIC_N))
        return err_set(e, "not an NPY file");
    if (n < 8)
        return err_set(e, "truncated in its header");
    int major = bytes[6], minor = bytes[7];
    if (major < 1 || major > 3 || minor != 0)
        return err_set(e, "NPY version %d.%d; only 1.0, 2.0 and 3.0 are read", major, minor);
    size_t at = major == 1 ? 10 : 12;
    if (n < at)
        return err_set(e, "truncated in its header");
    uint32_t len = bytes[8] | (uint32_t)bytes[9] << 8;
    if (major > 1)
        len |= (uint32_t)bytes[10] << 16 | (uint32_t)bytes[11] << 24;
    if (len > NPY_MAX_HEADER)
        return err_set(e, "header of %u bytes; at most %d are taken", len, NPY_MAX_HEADER);
    if (n - at < len)
        return err_set(e, "truncated in its header");
    h->data_at = at + len;
    if (parse_dictionary(h, (const char *)bytes + at, len, e))
        return -1;
    return check_sizes(h, file_bytes, e);
}

// Appends to out[0..room); the length it would have had in any case.
static size_t append(char *out, size_t room, size_t at, const char *s)
{
    size_t n = strlen(s);
    if (at < room)
        memcpy(out + at, s, n < room - at ? n : room - at);
    return at + n;
}

size_t npy_format_header(char *out, size_t room, enum npy_type type, int n_dims,
                         const uint64_t *shape)
{
    char s[64];
    size_t at = 10;
    bool list = type == NPY_U8_PAIR;
    at = append(out, room, at, list ? "{'descr': " : "{'descr': '");
    at = append(out, room, at, types[type].name);
    at = append(out, room, at, list ? ", " : "', ");
    at = append(out, room, at, "'fortran_order': False, 'shape': (");
    for (int i = 0; i < n_dims; i++) {
        snprintf(s, sizeof s, "%s%" PRIu64 "%s", i ? " " : "", shape[i],
                 i + 1 < n_dims || n_dims == 1 ? "," : "");
        at = append(out, room, at, s);
    }
    at = append(out, room, at, "), }");
    // Room for any number of rows, then up to the alignment, at least the line feed.
    size_t digits = n_dims ? (size_t)snprintf(s, sizeof s, "%" PRIu64, shape[0]) : COUNT_DIGITS;
    size_t end = at + (COUNT_DIGITS - digits) + 1;
    end += ALIGN - end % ALIGN;
    if (end > room || end - 10 > UINT16_MAX)
        return 0;
    memcpy(out, MAGIC "\x01", MAGIC_N + 1);
    out[7] = 0;
    out[8] = (char)((end - 10) & 0xff);
    out[9] = (char)((end - 10) >> 8);
    memset(out + at, ' ', end - 1 - at);
    out[end - 1] = '\n';
    return end;
}
