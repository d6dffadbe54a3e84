// SPDX-License-Identifier: Apache-2.0
// Private to tokenizer*.c: finds added tokens in a text, as Hugging Face's tokenizers do: leftmost,
// of those that start there the longest.
#ifndef TEXT_TOKENIZER_MATCH_H
#define TEXT_TOKENIZER_MATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct match_token {
    const uint8_t *text; // not empty
    size_t n;
    int32_t id;
    bool single_word; // only where no letter, digit or underscore stands next to it
};

struct token_matcher {
    struct match_token *tokens; // by first byte, longest first
    uint8_t *pool;              // their texts
    size_t first[257];          // tokens of first byte b: [first[b], first[b + 1])
};

// Copies n tokens. With none the matcher finds nothing. 0, or -1 with nothing to release.
int token_matcher_init(struct token_matcher *m, const struct match_token *tokens, size_t n,
                       struct err *e);
void token_matcher_release(struct token_matcher *m); // safe on a zeroed one

struct token_hit {
    size_t at, n;
    int32_t id;
};

// Finds the first token at or after `from` in text[0..n); false if there is none. Linear in the
// text.
bool token_matcher_next(const struct token_matcher *m, const uint8_t *text, size_t n, size_t from,
                        struct token_hit *hit);

#endif
