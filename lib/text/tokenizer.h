// SPDX-License-Identifier: Apache-2.0
// CLIP's tokenizer: the token ids of OpenAI's and open_clip's SimpleTokenizer.
//
//     struct tokenizer *t = tokenizer_open(model_folder, &e);
//     tokenizer_encode(t, text, len, 77, row, &n, &e);
//     tokenizer_free(t);
//
// A text is cleaned (repair/clean.h), cut by the pattern
//     <start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
// and each piece encoded as bytes (bpe.h). The special tokens go by open_clip's names whatever the
// vocabulary calls them, so that every form of one vocabulary gives the same ids; <|endoftext|> in
// a caption is text, as in open_clip (OpenAI's and Hugging Face's tokenizers take it as the token).
//
// Tokens that a folder's Hugging Face files add (tokenizer-vocab.h) are taken out first, by those
// tokenizers' rules: some from the caption as it is, the others from the cleaned one; what is left
// between them is cleaned and cut by itself.
//
// All 3044 golden rows of open_clip with ftfy 6.3 are equal. Rows may differ where characters came
// into Unicode after utf8proc's version (15.0 in Debian 12: for Python up to 3.12 none, for later
// ones the new letters and digits count as symbols) and as repair/clean.h says.
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "repair/clean.h"

enum { TOKENIZER_CONTEXT = 77 }; // of every published CLIP

struct tokenizer;
struct vocab;

// Opens the vocabulary at `path`: a file of one of these forms, or a folder that holds one (looked
// for in this order):
//   bpe_simple_vocab_16e6.txt[.gz]  OpenAI's merges; the first 48,894 of them make the vocabulary
//   vocab.json + merges.txt         Hugging Face's; ids from vocab.json, all merges
//   tokenizer.json                  Hugging Face's "fast" form (model.type BPE with </w>)
// To a folder's vocabulary come the tokens that tokenizer_config.json, tokenizer.json,
// special_tokens_map.json and added_tokens.json there add.
// A vocabulary may have any size; one that lacks a byte, a merge's parts or result, or the special
// tokens is refused. NULL with e set.
struct tokenizer *tokenizer_open(const char *path, struct err *e);
// Opens the same from a vocabulary that was read (tokenizer-vocab.h); it may be released
// afterwards.
struct tokenizer *tokenizer_build(const struct vocab *v, struct err *e);
void tokenizer_free(struct tokenizer *t); // NULL allowed

// How a tokenizer that is not CLIP's is used: by open_clip's HFTokenizer, as a model's config says,
// or (all false) by the class of transformers that the folder's tokenizer_config.json names.
struct tokenizer_style {
    bool open_clip;    // captions are cleaned by ftfy and their white space made even first
    bool canonicalize; // and lower case without punctuation made of them
    bool strip_sep;    // the end's id is written as 0
};
// The same for any tokenizer: `path` may also be a folder with tokenizer.json of the kinds Unigram,
// BPE with byte_fallback (Gemma) and WordPiece, or with spiece.model, tokenizer.model or
// sentencepiece.bpe.model (text/words.h). CLIP's has no style.
// The files that one of those consists of, NULL-terminated.
extern const char *const tokenizer_other_files[];
// 1: `path` is a folder with one of those; 0: it has none, or CLIP's; -1.
int tokenizer_is_other(const char *path, struct err *e);
struct tokenizer *tokenizer_open_as(const char *path, const struct tokenizer_style *style,
                                    struct err *e);

int32_t tokenizer_sot(const struct tokenizer *t); // start-of-text id (49406)
int32_t tokenizer_eot(const struct tokenizer *t); // end-of-text id (49407)
// Largest id + 1: a model's token table must have at least as many rows.
size_t tokenizer_vocab_size(const struct tokenizer *t);

// (Other tokenizers: -1 where a row has no start; the row is padded with their own id.)
// Writes one row: sot, the text's tokens, eot, zeros up to `context` (>= 2) ids. *n = ids up to and
// with eot (2 for a blank text); a text too long is cut, its last id eot. Thread-safe: t is only
// read. TEXT_OK; TEXT_BAD_UTF8 (e says where; the row is then that of a blank text); TEXT_ERROR.
enum text_status tokenizer_encode(const struct tokenizer *t, const char *text, size_t len,
                                  size_t context, int32_t *row, size_t *n, struct err *e);

#endif
