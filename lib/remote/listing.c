// SPDX-License-Identifier: Apache-2.0
#include "remote/listing.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"

struct xml_span {
    const char *p, *end;
};

static bool is(struct xml_span s, const char *word)
{
    return (size_t)(s.end - s.p) == strlen(word) && !memcmp(s.p, word, (size_t)(s.end - s.p));
}

// The next element <NAME>...</NAME> of the text that is called `name`; moves *text behind it.
// Elements of one name do not contain each other in these pages.
static bool take_element(struct xml_span *text, const char *name, struct xml_span *inside)
{
    size_t n = strlen(name);
    for (const char *p = text->p; (p = memchr(p, '<', (size_t)(text->end - p))); p++) {
        if ((size_t)(text->end - p) < n + 2 || memcmp(p + 1, name, n) || p[n + 1] != '>')
            continue;
        const char *from = p + n + 2;
        for (const char *q = from; (q = memchr(q, '<', (size_t)(text->end - q))); q++)
            if ((size_t)(text->end - q) >= n + 3 && q[1] == '/' && !memcmp(q + 2, name, n) &&
                q[n + 2] == '>') {
                *inside = (struct xml_span){from, q};
                text->p = q + n + 3;
                return true;
            }
        return false;
    }
    return false;
}

static bool find(struct xml_span in, const char *name, struct xml_span *inside)
{
    return take_element(&in, name, inside);
}

// A code point as UTF-8 into to[4]; bytes written, 0 for one that XML does not allow.
static size_t utf8(unsigned long c, char *to)
{
    if (!c || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return 0;
    if (c < 0x80)
        return to[0] = (char)c, 1;
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char first[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n; i-- > 1; c >>= 6)
        to[i] = (char)(0x80 | (c & 0x3f));
    to[0] = (char)(first[n] | c);
    return n;
}

// An entity from its "&" on into to[4]. Bytes written and *used, or 0.
static size_t entity(struct xml_span s, char *to, size_t *used)
{
    static const struct {
        const char *name;
        char c;
    } names[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
    size_t left = (size_t)(s.end - s.p);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t n = strlen(names[i].name);
        if (left >= n && !memcmp(s.p, names[i].name, n)) {
            *used = n;
            *to = names[i].c;
            return 1;
        }
    }
    const char *semi = memchr(s.p, ';', left < 12 ? left : 12);
    if (!semi || left < 4 || s.p[1] != '#')
        return 0;
    char digits[12] = {0}, *stop;
    bool hex = s.p[2] == 'x';
    memcpy(digits, s.p + (hex ? 3 : 2), (size_t)(semi - s.p) - (hex ? 3 : 2));
    if (!strchr("0123456789abcdefABCDEF", digits[0]) || !digits[0])
        return 0;
    unsigned long c = strtoul(digits, &stop, hex ? 16 : 10);
    *used = (size_t)(semi - s.p) + 1;
    return *stop ? 0 : utf8(c, to);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

// %XX and + in place, as encoding-type=url writes them. False: a broken escape.
static bool url_decode(char *s)
{
    char *to = s;
    for (; *s; s++) {
        if (*s != '%') {
            *to++ = (char)(*s == '+' ? ' ' : *s);
            continue;
        }
        int a = hex_digit(s[1]), b = a < 0 ? -1 : hex_digit(s[2]);
        if (b < 0)
            return false;
        *to++ = (char)(a * 16 + b);
        if (!to[-1])
            return false;
        s += 2;
    }
    *to = '\0';
    return true;
}

static bool clean(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < ' ' || *s == 0x7f)
            return false;
    return true;
}

// The text of an element on the heap, NULL with e set.
static char *text_of(struct xml_span s, bool url, struct err *e)
{
    char *text = mem_alloc((size_t)(s.end - s.p) + 5, 1, e), *to = text;
    bool good = true;
    if (!text)
        return NULL;
    while (good && s.p < s.end) {
        size_t used = 1, n = 1;
        if (*s.p == '&')
            good = (n = entity(s, to, &used)) > 0;
        else
            *to = *s.p;
        good = good && *to;
        to += n;
        s.p += used;
    }
    *to = '\0';
    if (good && (!url || url_decode(text)) && clean(text))
        return text;
    free(text);
    err_set(e, "the store's listing has a name with bytes that no file name may have");
    return NULL;
}

static bool number(struct xml_span s, uint64_t *v)
{
    *v = 0;
    for (const char *p = s.p; p < s.end; p++) {
        if (*p < '0' || *p > '9' || p - s.p >= 18)
            return false;
        *v = *v * 10 + (uint64_t)(*p - '0');
    }
    return s.end > s.p;
}

// 2009-10-12T17:50:30.000Z
static int64_t time_of(struct xml_span s)
{
    char text[20] = {0};
    struct tm t = {0};
    if (s.end - s.p < 19)
        return -1;
    memcpy(text, s.p, 19);
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &t);
    return end && !*end ? (int64_t)timegm(&t) : -1;
}

static int add(struct listing *l, struct xml_span object, bool url, struct err *e)
{
    struct xml_span key, size, etag = {"", ""}, modified = {"", ""};
    struct listing_entry one = {0};
    find(object, "ETag", &etag);
    find(object, "LastModified", &modified);
    if (!find(object, "Key", &key) || !find(object, "Size", &size) || !number(size, &one.size))
        return err_set(e, "the store's listing has an object without a key or size");
    if (mem_grow(&l->entries, &l->cap, l->n + 1, sizeof *l->entries, e))
        return -1;
    one.modified = time_of(modified);
    one.key = text_of(key, url, e);
    one.etag = one.key ? text_of(etag, false, e) : NULL;
    if (!one.etag) {
        free(one.key);
        return -1;
    }
    l->entries[l->n++] = one;
    return 0;
}

int listing_page(struct listing *l, const char *xml, size_t n, struct err *e)
{
    struct xml_span text = {xml, xml + n}, in, object, word = {"", ""};
    const char *open = memmem(xml, n, "<ListBucketResult", 17);
    const char *gt = open ? memchr(open, '>', (size_t)(text.end - open)) : NULL;
    const char *close = gt ? memmem(gt, (size_t)(text.end - gt), "</ListBucketResult>", 19) : NULL;
    free(l->next);
    l->next = NULL;
    if (!close)
        return err_set(e, "the store's listing is no list of objects, or was cut off");
    in = (struct xml_span){gt + 1, close};
    bool url = find(in, "EncodingType", &word) && is(word, "url");
    struct xml_span rest = in;
    while (take_element(&rest, "Contents", &object))
        if (add(l, object, url, e))
            return -1;
    if (!find(in, "IsTruncated", &word) || !is(word, "true"))
        return 0;
    if (!find(in, "NextContinuationToken", &word) || word.p == word.end)
        return err_set(e, "the store's listing goes on but does not say where");
    l->next = text_of(word, false, e);
    return l->next ? 0 : -1;
}

void listing_release(struct listing *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->entries[i].key);
        free(l->entries[i].etag);
    }
    free(l->entries);
    free(l->next);
    *l = (struct listing){0};
}
