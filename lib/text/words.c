// SPDX-License-Identifier: Apache-2.0
// A caption to a row of ids: cleaned, cut at added tokens, each part normalized, cut and looked up.
#include "text/words.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"
#include "repair/fix.h"

static const uint8_t MARK[3] = {0xe2, 0x96, 0x81}; // U+2581

struct words_row {
    int32_t *id;
    size_t n, max;
};

struct words_work {
    bool behind; // an added token
    struct text_bytes whole, clean, normal, spaced, marked;
};

static void put(struct words_row *r, int32_t id)
{
    if (r->n < r->max)
        r->id[r->n++] = id;
}

// Bytes of the white space (Unicode White_Space) that begins at s; 0: none.
static size_t white_at(const uint8_t *s, size_t n)
{
    int32_t c;
    if (!n)
        return 0;
    if (*s < 0x80)
        return text_is_white(*s);
    utf8proc_ssize_t k = utf8proc_iterate(s, (utf8proc_ssize_t)n, &c);
    return k > 0 && text_is_white(c) ? (size_t)k : 0;
}

// Length of s without the white space at its end.
static size_t without_end(const uint8_t *s, size_t n)
{
    for (;;) {
        size_t at = n;
        while (at > 0 && n - at < 4 && (at == n || (s[at] & 0xc0) == 0x80))
            at--;
        if (at == n || white_at(s + at, n - at) != n - at)
            return n;
        n = at;
    }
}

static int append(struct text_bytes *b, const void *s, size_t n, struct err *e)
{
    if (mem_grow((void **)&b->data, &b->cap, b->n + n, 1, e))
        return -1;
    if (n)
        memcpy(b->data + b->n, s, n);
    b->n += n;
    return 0;
}

// A part of the text without runs to replace: its spaces become marks, and one mark is put before
// it.
static int add_marked(const struct other_words *w, struct text_bytes *to, const uint8_t *s,
                      size_t n, struct err *e)
{
    if (w->prefix && n && *s != ' ' && (n < 3 || memcmp(s, MARK, 3) != 0) && append(to, MARK, 3, e))
        return -1;
    for (size_t i = 0; i < n;) {
        size_t k = i;
        while (k < n && s[k] != ' ')
            k++;
        if (append(to, s + i, k - i, e) || (k < n && append(to, MARK, 3, e)))
            return -1;
        i = k + 1;
    }
    return 0;
}

static int replace_spaces(const struct other_words *w, const uint8_t *s, size_t n,
                          struct text_bytes *to, struct err *e)
{
    to->n = 0;
    for (size_t i = 0; i < n;) {
        size_t k = i;
        while (k < n && s[k] == ' ')
            k++;
        int rc = k - i > 1 ? append(to, w->spaces, strlen(w->spaces), e)
                           : append(to, s + i, k > i ? 1 : 0, e);
        i = k;
        while (k < n && s[k] != ' ')
            k++;
        if (rc || append(to, s + i, k - i, e))
            return -1;
        i = k;
    }
    return 0;
}

static int add_words(const struct other_words *w, const uint8_t *s, size_t n, struct text_bytes *to,
                     struct err *e)
{
    for (size_t i = 0, k; i < n;) {
        if ((k = white_at(s + i, n - i))) {
            i += k;
            continue;
        }
        for (k = i; k < n && !white_at(s + k, n - k);)
            k++;
        if (add_marked(w, to, s + i, k - i, e))
            return -1;
        i = k;
    }
    return 0;
}

// Writes what the model reads for a part into k->marked.
static int normalize(const struct other_words *w, struct words_work *k, const uint8_t *s, size_t n,
                     struct err *e)
{
    k->marked.n = 0;
    if (w->charsmap) {
        if (piece_model_normalize(w->charsmap, s, n, &k->normal, e))
            return -1;
        s = k->normal.data;
        n = k->normal.n;
    }
    for (size_t skip; w->strip_left && (skip = white_at(s, n));) {
        s += skip;
        n -= skip;
    }
    if (w->strip_right)
        n = without_end(s, n);
    if (w->spaces) {
        if (replace_spaces(w, s, n, &k->spaced, e))
            return -1;
        s = k->spaced.data;
        n = k->spaced.n;
    }
    if (w->split)
        return add_words(w, s, n, &k->marked, e);
    return w->mark ? add_marked(w, &k->marked, s, n, e) : append(&k->marked, s, n, e);
}

static int look_up(const struct other_words *w, const uint8_t *s, size_t n, struct words_row *r,
                   struct err *e)
{
    size_t used = 0;
    if (!n || r->n == r->max)
        return 0;
    int rc = w->wordpiece
                 ? wordpiece_encode(w->wordpiece, s, n, r->id + r->n, r->max - r->n, &used, e)
                 : piece_model_encode(w->pieces, s, n, r->id + r->n, r->max - r->n, &used, e);
    for (size_t i = 0; w->fairseq && i < used; i++) {
        int32_t *id = &r->id[r->n + i];
        *id = *id == 0 ? 3 : *id + 1;
    }
    r->n += used;
    return rc;
}

// As SiglipTokenizer does it: the part is encoded after "<unk>", whose pieces are then removed.
static int look_up_behind(const struct other_words *w, struct words_work *k, const uint8_t *s,
                          size_t n, struct words_row *r, struct err *e)
{
    static const char before[] = "<unk>";
    enum { BEFORE = sizeof before - 1 };
    size_t gone = 0, used = 0;
    int32_t pieces[BEFORE + 1], *ids = mem_alloc(r->max + BEFORE + 1, sizeof *ids, e);
    k->marked.n = 0;
    int rc = !ids || append(&k->marked, before, BEFORE, e) || append(&k->marked, s, n, e) ||
             piece_model_encode(w->pieces, (const uint8_t *)before, BEFORE, pieces, BEFORE + 1,
                                &gone, e) ||
             piece_model_encode(w->pieces, k->marked.data, k->marked.n, ids, r->max + BEFORE + 1,
                                &used, e);
    for (size_t i = gone; !rc && i < used; i++)
        put(r, ids[i]);
    free(ids);
    return rc ? -1 : 0;
}

static int encode_part(const struct other_words *w, struct words_work *k, const uint8_t *s,
                       size_t n, struct words_row *r, struct err *e)
{
    if (!n)
        return 0;
    if (w->cut_first && k->behind)
        return look_up_behind(w, k, s, n, r, e);
    if (w->own || w->wordpiece)
        return look_up(w, s, n, r, e);
    if (normalize(w, k, s, n, e))
        return -1;
    return look_up(w, k->marked.data, k->marked.n, r, e);
}

static bool eats_left(const struct other_words *w, int32_t id)
{
    for (size_t i = 0; i < w->n_eats_left; i++)
        if (w->eats_left[i] == id)
            return true;
    return false;
}

static enum text_status clean_part(const struct other_words *w, struct words_work *k,
                                   const char *text, size_t n, struct words_row *r, struct err *e)
{
    enum text_status status = text_clean_as(w->form, text, n, &k->clean, e);
    if (!status && encode_part(w, k, k->clean.data, k->clean.n, r, e))
        status = TEXT_ERROR;
    return status;
}

// Encodes s, cut at the added tokens in it; with cut_first its parts are cleaned afterwards.
static enum text_status encode_cut(const struct other_words *w, struct words_work *k,
                                   const uint8_t *s, size_t n, struct words_row *r, struct err *e)
{
    size_t at = 0;
    enum text_status status = TEXT_OK;
    struct token_hit hit = {n, 0, -1};
    for (bool more = true; more && !status && r->n < r->max; at = hit.at + hit.n) {
        more = token_matcher_next(&w->added, s, n, at, &hit);
        size_t len = (more ? hit.at : n) - at;
        if (more && eats_left(w, hit.id))
            len = without_end(s + at, len);
        if (w->cut_first)
            status = clean_part(w, k, (const char *)s + at, len, r, e);
        else if (encode_part(w, k, s + at, len, r, e))
            status = TEXT_ERROR;
        if (more && !status)
            put(r, hit.id);
        k->behind = true;
    }
    return status;
}

static enum text_status encode_all(const struct other_words *w, struct words_work *k,
                                   const char *text, size_t len, struct words_row *r, struct err *e)
{
    // Checks the whole text, whatever fits into the row.
    enum text_status status =
        text_clean_as(w->cut_first ? TEXT_RAW : w->form, text, len, &k->whole, e);
    return status ? status : encode_cut(w, k, k->whole.data, k->whole.n, r, e);
}

static void finish(const struct other_words *w, struct words_row *r, size_t context, size_t *n)
{
    bool there = w->once && r->n > w->n_first && r->id[r->n - 1] == w->eot;
    r->max = context;
    for (size_t i = 0; i < w->n_last && !there; i++)
        put(r, w->last[i]);
    *n = r->n;
    while (r->n < context)
        put(r, w->pad);
    for (size_t i = 0; w->strip_eot && i < context; i++)
        r->id[i] = r->id[i] == w->eot ? 0 : r->id[i];
}

enum text_status words_encode(const struct other_words *w, const char *text, size_t len,
                              size_t context, int32_t *row, size_t *n, struct err *e)
{
    struct words_work k = {0};
    struct words_row r = {row, 0, context};
    *n = 0;
    if (context <= w->n_first + w->n_last) {
        err_set(e, "a context of %zu ids has no room for the start and end of a text", context);
        return TEXT_ERROR;
    }
    for (size_t i = 0; i < w->n_first; i++)
        put(&r, w->first[i]);
    r.max = context - w->n_last;
    enum text_status status = encode_all(w, &k, text, len, &r, e);
    if (status)
        r.n = w->n_first;
    finish(w, &r, context, n);
    text_bytes_release(&k.whole);
    text_bytes_release(&k.clean);
    text_bytes_release(&k.normal);
    text_bytes_release(&k.spaced);
    text_bytes_release(&k.marked);
    return status;
}
