// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "text/bpe.h"
#include "base/mem.h"
#include "text/tokenizer-match.h"
#include "text/tokenizer-vocab.h"
#include "text/words.h"

enum { SPECIALS = VOCAB_SPECIALS, YPOGEGRAMMENI = 0x345 };

struct special {
    const char *text; // as a caption may spell it
    size_t n;
    int32_t id;
};

struct tokenizer {
    struct bpe bpe;
    struct special special[SPECIALS];  // start and end of text
    struct token_matcher raw, cleaned; // added tokens, by what they are looked for in
    size_t vocab_size;
    struct other_words *words; // in place of all that, a tokenizer that is not CLIP's
};

static int find_specials(struct tokenizer *t, const struct vocab *v, struct err *e)
{
    for (int i = 0; i < SPECIALS; i++) {
        const char *const *names = vocab_special_names[i];
        int32_t id = vocab_special(v, i);
        if (id < 0)
            return err_set(e, "no token '%s' or '%s': not CLIP's vocabulary", names[0], names[1]);
        t->special[i] = (struct special){names[0], strlen(names[0]), id};
    }
    return 0;
}

static int find_bytes(struct bpe *b, const struct vocab *v, struct err *e)
{
    for (int i = 0; i < 256; i++) {
        char text[8];
        size_t n = vocab_byte_text((uint8_t)i, text);
        memcpy(text + n, "</w>", 4);
        b->byte_id[i] = vocab_find(v, text, n);
        b->last_id[i] = vocab_find(v, text, n + 4);
        if (b->byte_id[i] < 0 || b->last_id[i] < 0)
            return err_set(e, "no token for byte 0x%02x%s: not CLIP's vocabulary", (unsigned)i,
                           b->byte_id[i] < 0 ? "" : " at a word's end");
    }
    return 0;
}

static bool ends_word(const struct vocab_token *t)
{
    return t->id >= 0 && t->n > 4 && t->n <= 2 * BPE_SHORT &&
           memcmp(t->text + t->n - 4, "</w>", 4) == 0;
}

// The vocabulary's whole words as bytes, for bpe_init. `pool` gets the bytes.
static size_t list_words(const struct vocab *v, struct bpe_word *words, uint8_t *pool)
{
    size_t n = 0;
    for (size_t i = 0; i <= v->mask; i++) {
        const struct vocab_token *t = &v->slots[i];
        int k = ends_word(t) ? vocab_bytes(t->text, t->n, pool, t->n) : -1;
        if (k <= 0)
            continue;
        words[n++] = (struct bpe_word){pool, (size_t)k, t->id};
        pool += k;
    }
    return n;
}

static int build_bpe(struct bpe *b, const struct vocab *v, struct err *e)
{
    size_t bytes = 0;
    for (size_t i = 0; i <= v->mask; i++)
        bytes += ends_word(&v->slots[i]) ? v->slots[i].n : 0;
    struct bpe_word *words = mem_alloc(v->n_tokens, sizeof *words, e);
    uint8_t *pool = words ? mem_alloc(bytes, 1, e) : NULL;
    int status = -1;
    if (pool)
        status = bpe_init(b, v->merges, v->n_merges, words, list_words(v, words, pool), e);
    free(words);
    free(pool);
    return status;
}

// The text by which an added token is searched; if that is a cleaned text, *clean gets its bytes.
static int match_text(const struct vocab_added *a, struct text_bytes *clean, struct match_token *to,
                      struct err *e)
{
    *to = (struct match_token){(const uint8_t *)a->text, a->n, a->id, a->single_word};
    if (!a->normalized)
        return 0;
    if (text_clean(a->text, a->n, clean, e))
        return err_wrap(e, "the added token %ld", (long)a->id);
    to->text = clean->data;
    to->n = clean->n; // 0: white space, which is in no cleaned text
    return 0;
}

static int build_matchers(struct tokenizer *t, const struct vocab *v, struct err *e)
{
    size_t n[2] = {0, 0};
    struct text_bytes *clean = mem_alloc(v->n_added, sizeof *clean, e);
    struct match_token *list[2] = {mem_alloc(v->n_added, sizeof **list, e),
                                   mem_alloc(v->n_added, sizeof **list, e)};
    int rc = clean && list[0] && list[1] ? 0 : -1;
    for (size_t i = 0; i < v->n_added && !rc; i++) {
        bool in_clean = v->added[i].normalized;
        struct match_token *to = &list[in_clean][n[in_clean]];
        rc = match_text(&v->added[i], &clean[i], to, e);
        n[in_clean] += !rc && to->n;
    }
    if (!rc)
        rc = token_matcher_init(&t->raw, list[0], n[0], e) ||
                     token_matcher_init(&t->cleaned, list[1], n[1], e)
                 ? -1
                 : 0;
    for (size_t i = 0; clean && i < v->n_added; i++)
        text_bytes_release(&clean[i]);
    free(clean);
    free(list[0]);
    free(list[1]);
    return rc;
}

static int build(struct tokenizer *t, const struct vocab *v, struct err *e)
{
    if (!v->slots)
        return err_set(e, "an empty vocabulary");
    t->vocab_size = (size_t)v->id_max + 1;
    return find_bytes(&t->bpe, v, e) || find_specials(t, v, e) || build_bpe(&t->bpe, v, e) ||
                   build_matchers(t, v, e)
               ? -1
               : 0;
}

struct tokenizer *tokenizer_build(const struct vocab *v, struct err *e)
{
    struct tokenizer *t = mem_alloc(1, sizeof *t, e);
    if (t && build(t, v, e)) {
        tokenizer_free(t);
        t = NULL;
    }
    return t;
}

struct tokenizer *tokenizer_open(const char *path, struct err *e)
{
    return tokenizer_open_as(path, &(struct tokenizer_style){0}, e);
}

struct tokenizer *tokenizer_open_as(const char *path, const struct tokenizer_style *style,
                                    struct err *e)
{
    struct vocab v;
    struct other_words *words;
    int other = words_open(&words, path, style, e);
    if (other) {
        struct tokenizer *w = other < 0 ? NULL : mem_alloc(1, sizeof *w, e);
        if (w)
            w->words = words;
        else
            words_free(words);
        return w;
    }
    if (vocab_read(&v, path, e))
        return NULL;
    struct tokenizer *t = tokenizer_build(&v, e);
    if (!t)
        err_wrap(e, "%s", path);
    vocab_release(&v);
    return t;
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t)
        return;
    words_free(t->words);
    bpe_release(&t->bpe);
    token_matcher_release(&t->raw);
    token_matcher_release(&t->cleaned);
    free(t);
}

int32_t tokenizer_sot(const struct tokenizer *t)
{
    return t->words ? t->words->sot : t->special[0].id;
}

int32_t tokenizer_eot(const struct tokenizer *t)
{
    return t->words ? t->words->eot : t->special[1].id;
}

size_t tokenizer_vocab_size(const struct tokenizer *t)
{
    return t->words ? t->words->size : t->vocab_size;
}

enum kind { SPACE, LETTER, NUMBER, OTHER };

static enum kind kind_of_category(utf8proc_category_t category)
{
    switch (category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return NUMBER;
    default:
        return OTHER;
    }
}

// Kind of the character at s; its length in *used. s is valid UTF-8 and cleaned, so that U+0020 is
// the only white space left. U+0345 has a kind of its own: it is a mark that folds to a letter
// (iota), and Python's regex module, ignoring case, finds it neither inside nor outside the
// pattern's sets of letters.
static enum kind kind_at(const uint8_t *s, size_t n, size_t *used)
{
    uint8_t c = s[0];
    *used = 1;
    if (c < 0x80) {
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
            return LETTER;
        if (c >= '0' && c <= '9')
            return NUMBER;
        return c == ' ' ? SPACE : OTHER;
    }
    int32_t code;
    utf8proc_ssize_t k = utf8proc_iterate(s, (utf8proc_ssize_t)n, &code);
    if (k <= 0)
        return OTHER;
    *used = (size_t)k;
    if (code == YPOGEGRAMMENI)
        return SPACE;
    return kind_of_category(utf8proc_category(code));
}

// Bytes of s that match the pattern, letter case ignored: an s also matches a long s (U+017F), as
// in Python's regex module; no other letter of the patterns has such an equivalent outside ASCII
// after lower-casing. 0 = no match.
static size_t match(const uint8_t *s, size_t n, const char *pattern)
{
    size_t i = 0;
    for (; *pattern; pattern++) {
        if (i < n && s[i] == (uint8_t)*pattern)
            i++;
        else if (*pattern == 's' && n - i >= 2 && s[i] == 0xc5 && s[i + 1] == 0xbf)
            i += 2;
        else
            return 0;
    }
    return i;
}

static size_t match_contraction(const uint8_t *s, size_t n)
{
    static const char *const endings[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    size_t k = 0;
    for (size_t i = 0; s[0] == '\'' && !k && i < sizeof endings / sizeof *endings; i++)
        k = match(s, n, endings[i]);
    return k;
}

// Length of the run of `kind` at s.
static size_t run_length(const uint8_t *s, size_t n, enum kind kind)
{
    size_t i = 0, used;
    while (i < n && kind_at(s + i, n - i, &used) == kind)
        i += used;
    return i;
}

// A row that is being filled: ids up to `max`, which leaves one place for eot.
struct token_row {
    int32_t *id;
    size_t n, max;
};

// The special token at s, if any: its length, and which one. A name spelled with a long s is no
// token (only the exact name is), but it is still one piece.
static size_t match_special(const struct tokenizer *t, const uint8_t *s, size_t n,
                            const struct special **which)
{
    *which = NULL;
    for (int i = 0; s[0] == '<' && i < SPECIALS; i++) {
        const struct special *sp = &t->special[i];
        size_t k = match(s, n, sp->text);
        if (k) {
            *which = k == sp->n && memcmp(s, sp->text, k) == 0 ? sp : NULL;
            return k;
        }
    }
    return 0;
}

// Length of the piece at s; *skip is set if it is white space.
static size_t piece_length(const uint8_t *s, size_t n, bool *skip)
{
    size_t used, k = match_contraction(s, n);
    *skip = false;
    if (k)
        return k;
    enum kind kind = kind_at(s, n, &used);
    *skip = kind == SPACE;
    return kind == NUMBER || kind == SPACE ? used : run_length(s, n, kind);
}

static int encode_pieces(const struct tokenizer *t, const uint8_t *s, size_t n,
                         struct token_row *row, struct err *e)
{
    for (size_t i = 0; i < n && row->n < row->max;) {
        const struct special *special;
        bool skip = false;
        size_t used = 0, k = match_special(t, s + i, n - i, &special);
        if (!k)
            k = piece_length(s + i, n - i, &skip);
        if (special)
            row->id[row->n++] = special->id;
        else if (!skip &&
                 bpe_encode(&t->bpe, s + i, k, row->id + row->n, row->max - row->n, &used, e))
            return -1;
        row->n += used;
        i += k;
    }
    return 0;
}

static void put(struct token_row *row, int32_t id)
{
    if (row->n < row->max)
        row->id[row->n++] = id;
}

// Encodes a cleaned text, cut at the added tokens in it.
static int encode_cleaned(const struct tokenizer *t, const uint8_t *s, size_t n,
                          struct token_row *row, struct err *e)
{
    size_t at = 0;
    struct token_hit hit;
    while (row->n < row->max && token_matcher_next(&t->cleaned, s, n, at, &hit)) {
        if (encode_pieces(t, s + at, hit.at - at, row, e))
            return -1;
        put(row, hit.id);
        at = hit.at + hit.n;
    }
    return encode_pieces(t, s + at, n - at, row, e);
}

static enum text_status encode_part(const struct tokenizer *t, const char *text, size_t n,
                                    struct text_bytes *clean, struct token_row *row, struct err *e)
{
    enum text_status status = text_clean(text, n, clean, e);
    return !status && encode_cleaned(t, clean->data, clean->n, row, e) ? TEXT_ERROR : status;
}

// Encodes a text, cut at the added tokens that are searched for before it is cleaned.
static enum text_status encode_text(const struct tokenizer *t, const char *text, size_t n,
                                    struct token_row *row, struct err *e)
{
    const uint8_t *s = (const uint8_t *)text;
    struct text_bytes clean = {0};
    struct token_hit hit;
    size_t at = 0;
    enum text_status status = TEXT_OK;
    bool cut = token_matcher_next(&t->raw, s, n, at, &hit);
    if (cut) // bytes that are no UTF-8 are an error wherever they stand
        status = text_clean(text, n, &clean, e);
    while (!status && cut && row->n < row->max) {
        status = encode_part(t, text + at, hit.at - at, &clean, row, e);
        put(row, hit.id);
        at = hit.at + hit.n;
        cut = token_matcher_next(&t->raw, s, n, at, &hit);
    }
    if (!status && (at == 0 || row->n < row->max)) // a text without tokens is checked here only
        status = encode_part(t, text + at, n - at, &clean, row, e);
    text_bytes_release(&clean);
    return status;
}

enum text_status tokenizer_encode(const struct tokenizer *t, const char *text, size_t len,
                                  size_t context, int32_t *row, size_t *n, struct err *e)
{
    if (t->words)
        return words_encode(t->words, text, len, context, row, n, e);
    *n = 0;
    if (context < 2) {
        err_set(e, "a context of %zu ids has no room for the start and end of a text", context);
        return TEXT_ERROR;
    }
    struct token_row r = {row, 0, context - 1};
    r.id[r.n++] = t->special[0].id;
    enum text_status status = encode_text(t, text, len, &r, e);
    r.n = status ? 1 : r.n;
    r.id[r.n++] = t->special[1].id;
    memset(row + r.n, 0, (context - r.n) * sizeof *row);
    *n = r.n;
    return status;
}
