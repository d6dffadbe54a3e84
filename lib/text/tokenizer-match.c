// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer-match.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"

static int by_first_and_length(const void *a, const void *b)
{
    const struct match_token *x = a, *y = b;
    if (x->text[0] != y->text[0])
        return x->text[0] < y->text[0] ? -1 : 1;
    if (x->n != y->n)
        return x->n > y->n ? -1 : 1;
    return memcmp(x->text, y->text, x->n);
}

int token_matcher_init(struct token_matcher *m, const struct match_token *tokens, size_t n,
                       struct err *e)
{
    size_t bytes = 0;
    memset(m, 0, sizeof *m);
    if (!n)
        return 0;
    for (size_t i = 0; i < n; i++)
        bytes += tokens[i].n;
    m->tokens = mem_alloc(n, sizeof *m->tokens, e);
    m->pool = m->tokens ? mem_alloc(bytes, 1, e) : NULL;
    if (!m->pool) {
        token_matcher_release(m);
        return -1;
    }
    uint8_t *at = m->pool;
    for (size_t i = 0; i < n; i++) {
        m->tokens[i] = tokens[i];
        m->tokens[i].text = memcpy(at, tokens[i].text, tokens[i].n);
        at += tokens[i].n;
    }
    qsort(m->tokens, n, sizeof *m->tokens, by_first_and_length);
    for (size_t i = 0; i < n; i++)
        m->first[m->tokens[i].text[0] + 1]++;
    for (int b = 0; b < 256; b++)
        m->first[b + 1] += m->first[b];
    return 0;
}

void token_matcher_release(struct token_matcher *m)
{
    free(m->tokens);
    free(m->pool);
    memset(m, 0, sizeof *m);
}

// \w of regular expressions over Unicode.
static bool is_word(int32_t c)
{
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return c == 0x200c || c == 0x200d; // the joiners
    }
}

static bool word_at(const uint8_t *text, size_t n, size_t at)
{
    int32_t c;
    return at < n && utf8proc_iterate(text + at, (utf8proc_ssize_t)(n - at), &c) > 0 && is_word(c);
}

static bool word_before(const uint8_t *text, size_t n, size_t at)
{
    size_t start = at;
    while (start && at - start < 4) {
        start--;
        if ((text[start] & 0xc0) != 0x80)
            break;
    }
    return start < at && word_at(text, n, start);
}

static const struct match_token *match_at(const struct token_matcher *m, const uint8_t *text,
                                          size_t n, size_t at)
{
    for (size_t i = m->first[text[at]]; i < m->first[text[at] + 1]; i++) {
        const struct match_token *t = &m->tokens[i];
        if (t->n <= n - at && memcmp(text + at, t->text, t->n) == 0)
            return t;
    }
    return NULL;
}

bool token_matcher_next(const struct token_matcher *m, const uint8_t *text, size_t n, size_t from,
                        struct token_hit *hit)
{
    for (size_t at = m->tokens ? from : n; at < n;) {
        const struct match_token *t = match_at(m, text, n, at);
        if (t && !(t->single_word && (word_before(text, n, at) || word_at(text, n, at + t->n)))) {
            *hit = (struct token_hit){at, t->n, t->id};
            return true;
        }
        at += t ? t->n : 1; // one that is part of a word is passed over whole
    }
    return false;
}
