// SPDX-License-Identifier: Apache-2.0
// Private to words-open.c: a tokenizer.json that is not CLIP's.
#ifndef TEXT_WORDS_JSON_H
#define TEXT_WORDS_JSON_H

#include <cjson/cJSON.h>

#include "text/words.h"

// Whether its model is Unigram, WordPiece, or BPE with byte_fallback.
bool words_json_is(const cJSON *fast);
// All but the padding. Strict: a normalizer, pre-tokenizer or post-processor that is not
// implemented is refused by its type. 0 or -1.
int words_from_json(struct other_words *w, const cJSON *fast, struct err *e);
// Id of a token or added token, -1: none.
int32_t words_json_find(const cJSON *fast, const char *text);

#endif
