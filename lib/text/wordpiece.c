// SPDX-License-Identifier: Apache-2.0
#include "text/wordpiece.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"
#include "system/digest.h"
#include "repair/fix.h"

enum { WORD_MAX = 100, WORD_BYTES = 4 * WORD_MAX }; // characters; a longer word is unknown

struct wordpiece_slot {
    const char *text;
    size_t n;
    int32_t id; // -1: empty
};

struct wordpiece {
    struct wordpiece_slot *slots;
    size_t mask, longest; // bytes of the longest token
    char *pool;
    int32_t unknown;
    bool lower;
};

static struct wordpiece_slot *find_slot(const struct wordpiece *w, const char *text, size_t n)
{
    size_t i = digest_u64(text, n) & w->mask;
    while (w->slots[i].id >= 0 && (w->slots[i].n != n || memcmp(w->slots[i].text, text, n) != 0))
        i = (i + 1) & w->mask;
    return &w->slots[i];
}

static int fill(struct wordpiece *w, const struct wordpiece_token *tokens, size_t n, struct err *e)
{
    size_t bytes = 0, size = 16;
    while (size < 2 * n)
        size *= 2;
    for (size_t i = 0; i < n; i++)
        bytes += strlen(tokens[i].text);
    if (!(w->slots = mem_alloc(size, sizeof *w->slots, e)) ||
        !(w->pool = mem_alloc(bytes + 1, 1, e)))
        return -1;
    w->mask = size - 1;
    for (size_t i = 0; i < size; i++)
        w->slots[i].id = -1;
    char *at = w->pool;
    for (size_t i = 0; i < n; i++) {
        size_t k = strlen(tokens[i].text);
        *find_slot(w, tokens[i].text, k) =
            (struct wordpiece_slot){memcpy(at, tokens[i].text, k), k, tokens[i].id};
        at += k;
        w->longest = k > w->longest ? k : w->longest;
    }
    return 0;
}

struct wordpiece *wordpiece_new(const struct wordpiece_token *tokens, size_t n, int32_t unknown,
                                bool lower, struct err *e)
{
    struct wordpiece *w = mem_alloc(1, sizeof *w, e);
    if (!w)
        return NULL;
    w->unknown = unknown;
    w->lower = lower;
    if (fill(w, tokens, n, e)) {
        wordpiece_free(w);
        return NULL;
    }
    return w;
}

void wordpiece_free(struct wordpiece *w)
{
    if (!w)
        return;
    free(w->slots);
    free(w->pool);
    free(w);
}

static bool is_cjk(int32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) ||
           (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b73f) ||
           (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
           (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

static bool is_control(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    if (c == '\t' || c == '\n' || c == '\r')
        return false;
    // Unassigned characters stay, as in tokenizers.
    return k == UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_CF || k == UTF8PROC_CATEGORY_CO;
}

static bool is_punctuation(int32_t c)
{
    if (c < 0x80)
        return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
               (c >= 123 && c <= 126);
    utf8proc_category_t k = utf8proc_category(c);
    return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}

// BertNormalizer's clean_text and handle_chinese_chars, into *to.
static int tidy(const uint8_t *s, size_t n, struct text *to, struct err *e)
{
    for (size_t i = 0; i < n;) {
        int32_t c;
        utf8proc_ssize_t k = utf8proc_iterate(s + i, (utf8proc_ssize_t)(n - i), &c);
        if (k <= 0)
            return err_set(e, "not UTF-8 at byte %zu", i);
        i += (size_t)k;
        if (c == 0 || c == 0xfffd || is_control(c))
            continue;
        int32_t out[3] = {' ', c, ' '};
        bool apart = is_cjk(c);
        if (text_is_white(c))
            out[1] = ' ';
        if (text_append(to, apart ? out : out + 1, apart ? 3 : 1, e))
            return -1;
    }
    return 0;
}

// Decomposes accents, removes marks, and lower-cases each character.
static int fold(struct text *t, struct text *tmp, struct err *e)
{
    tmp->n = 0;
    for (size_t i = 0; i < t->n; i++) {
        utf8proc_int32_t parts[32];
        int last = 0;
        utf8proc_ssize_t k = utf8proc_decompose_char(t->c[i], parts, 32, UTF8PROC_DECOMPOSE, &last);
        for (utf8proc_ssize_t j = 0; j < k; j++) {
            int32_t low = utf8proc_tolower(parts[j]);
            if (utf8proc_category(parts[j]) != UTF8PROC_CATEGORY_MN && text_append(tmp, &low, 1, e))
                return -1;
        }
    }
    struct text swap = *t;
    *t = *tmp;
    *tmp = swap;
    return 0;
}

struct wordpiece_row {
    int32_t *ids;
    size_t n, max;
};

static void put(struct wordpiece_row *r, int32_t id)
{
    if (r->n < r->max)
        r->ids[r->n++] = id;
}

// Bytes of the longest piece at the start of word[0..n) that is a token; 0: none.
static size_t longest_piece(const struct wordpiece *w, const char *word, size_t n, bool inside,
                            int32_t *id)
{
    char text[2 + WORD_BYTES];
    size_t before = inside ? 2 : 0, k = n < WORD_BYTES ? n : WORD_BYTES;
    if (k + before > w->longest)
        k = w->longest > before ? w->longest - before : 0;
    memcpy(text, "##", before);
    memcpy(text + before, word, k);
    for (; k; k--) {
        const struct wordpiece_slot *s = find_slot(w, text, before + k);
        if (s->id < 0)
            continue;
        *id = s->id;
        return k;
    }
    return 0;
}

static void encode_word(const struct wordpiece *w, const int32_t *c, size_t n,
                        struct wordpiece_row *r)
{
    char word[WORD_BYTES];
    size_t bytes = 0, first = r->n;
    if (n > WORD_MAX) {
        put(r, w->unknown);
        return;
    }
    for (size_t i = 0; i < n; i++)
        bytes += (size_t)utf8proc_encode_char(c[i], (utf8proc_uint8_t *)word + bytes);
    for (size_t at = 0; at < bytes;) {
        int32_t id;
        size_t k = longest_piece(w, word + at, bytes - at, at > 0, &id);
        if (!k) {
            r->n = first;
            put(r, w->unknown);
            return;
        }
        put(r, id);
        at += k;
    }
}

int wordpiece_encode(const struct wordpiece *w, const uint8_t *text, size_t n, int32_t *ids,
                     size_t max, size_t *used, struct err *e)
{
    struct text t = {0}, tmp = {0};
    struct wordpiece_row r = {ids, 0, max};
    int rc = tidy(text, n, &t, e);
    if (!rc && w->lower)
        rc = fold(&t, &tmp, e);
    for (size_t i = 0; i < t.n && !rc && r.n < max;) {
        size_t end = i + 1;
        if (t.c[i] == ' ' || text_is_white(t.c[i])) {
            i++;
            continue;
        }
        while (!is_punctuation(t.c[i]) && end < t.n && !text_is_white(t.c[end]) &&
               !is_punctuation(t.c[end]))
            end++;
        encode_word(w, t.c + i, end - i, &r);
        i = end;
    }
    text_release(&t);
    text_release(&tmp);
    *used = r.n;
    return rc;
}
