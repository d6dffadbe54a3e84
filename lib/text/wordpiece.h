// SPDX-License-Identifier: Apache-2.0
// BERT's tokenizer: BertNormalizer and BertPreTokenizer of Hugging Face's tokenizers, and the
// greedy longest-first pieces of WordPiece.
#ifndef TEXT_WORDPIECE_H
#define TEXT_WORDPIECE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct wordpiece_token {
    const char *text; // "##ing": inside a word
    int32_t id;
};

struct wordpiece;

// `tokens` and their texts are copied. `unknown`: id of a word that has no pieces. `lower`: lower
// case, accents stripped. NULL with e set.
struct wordpiece *wordpiece_new(const struct wordpiece_token *tokens, size_t n, int32_t unknown,
                                bool lower, struct err *e);
void wordpiece_free(struct wordpiece *w); // NULL allowed

// Ids of UTF-8 text: the first `max` of them to ids, their number to *used. 0 or -1.
int wordpiece_encode(const struct wordpiece *w, const uint8_t *text, size_t n, int32_t *ids,
                     size_t max, size_t *used, struct err *e);

#endif
