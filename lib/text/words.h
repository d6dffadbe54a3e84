// SPDX-License-Identifier: Apache-2.0
// Private to tokenizer.c: tokenizers other than CLIP's, as Hugging Face's files describe them.
// tokenizer.json comes first: model Unigram, BPE with byte_fallback (Gemma) or WordPiece (BERT);
// its normalizer, pre_tokenizer, added_tokens and post_processor decide. Where there is none,
// spiece.model, tokenizer.model or sentencepiece.bpe.model is sentencepiece's own.
// tokenizer_config.json (or special_tokens_map.json) names the padding and, for folders of
// transformers, the class, which says what is done to a caption first.
#ifndef TEXT_WORDS_H
#define TEXT_WORDS_H

#include "repair/clean.h"
#include "text/pieces.h"
#include "text/tokenizer-match.h"
#include "text/tokenizer.h"
#include "text/wordpiece.h"

enum { WORDS_ENDS = 4 };

struct other_words {
    // one of them
    struct piece_model *pieces;
    struct wordpiece *wordpiece;
    struct piece_model *charsmap; // normalizes what is cut, before the rest; or NULL
    bool own;                     // the model's own normalizer does all (spiece.model alone)
    bool fairseq;                 // ids are the model's + 1, its unknown piece is 3
    // between charsmap and model
    bool strip_left, strip_right;
    const char *spaces; // what runs of two and more spaces become, or NULL
    bool split;         // at white space
    bool mark;          // ' ' becomes U+2581; with `prefix` one stands before all
    bool prefix;
    struct token_matcher added;
    int32_t *eats_left; // ids of added tokens that take the white space before them
    size_t n_eats_left;
    int32_t first[WORDS_ENDS], last[WORDS_ENDS]; // what the row begins and ends with
    size_t n_first, n_last;
    int32_t pad, sot, eot;
    bool strip_eot, once; // eot is written as 0; not after an eot that the text ends with
    enum text_form form;
    bool cut_first; // added tokens are looked for before the caption is cleaned; what stands behind
                    // one begins no word (SiglipTokenizer)
    size_t size;
};

// Opens `path`, a folder or a file. 1: *w is set; 0: it holds none of these; -1.
int words_open(struct other_words **w, const char *path, const struct tokenizer_style *s,
               struct err *e);
void words_free(struct other_words *w);
// As tokenizer_encode.
enum text_status words_encode(const struct other_words *w, const char *text, size_t len,
                              size_t context, int32_t *row, size_t *n, struct err *e);

#endif
