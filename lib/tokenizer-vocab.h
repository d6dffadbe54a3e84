// SPDX-License-Identifier: Apache-2.0
// Vocabulary files of CLIP's tokenizer, read into one form. Tokens are kept as the files write
// them: each byte as a printable character, "</w>" after the last byte of a word.
#ifndef TOKENIZER_VOCAB_H
#define TOKENIZER_VOCAB_H

#include <stddef.h>
#include <stdint.h>

#include "bpe.h"
#include "err.h"

enum {
    VOCAB_ID_MAX = 1 << 24,      // no published vocabulary is near
    VOCAB_FILE_MAX = 64 << 20,   // bytes, unpacked
    VOCAB_OPENAI_MERGES = 48894, // 49152 - 256 - 2: those of the file that CLIP uses
    VOCAB_TOKEN_MAX = 4 * 1024,  // bytes
};

struct vocab_token {
    const char *text; // not NUL-terminated; in the pool
    uint32_t n;
    int32_t id; // -1 = empty slot
};

struct vocab {
    struct vocab_token *slots; // by hash of the text
    size_t mask, n_tokens;
    char **pools; // blocks that hold the texts
    size_t n_pools, cap_pools;
    char *pool;
    size_t pool_left;
    struct bpe_merge *merges;
    size_t n_merges, cap_merges;
    int32_t id_max;
};

// Reads the vocabulary at `path` (file or folder, see tokenizer.h). 0, or -1 with nothing left to
// release.
int vocab_read(struct vocab *v, const char *path, struct err *e);
void vocab_release(struct vocab *v);

// Id of a token, -1 = none.
int32_t vocab_find(const struct vocab *v, const char *text, size_t n);
// Adds a token; one that is there already gets the new id. 0 or -1.
int vocab_add(struct vocab *v, const char *text, size_t n, int32_t id, struct err *e);
// Adds the merge of two tokens that are there, as is their concatenation. 0 or -1.
int vocab_merge(struct vocab *v, const char *left, size_t n_left, const char *right, size_t n_right,
                struct err *e);
// Bytes that the token's characters stand for, without "</w>": their number, or -1 (a character
// that stands for none, or more than `max`).
int vocab_bytes(const char *text, size_t n, uint8_t *bytes, size_t max);
// The character that stands for a byte, in UTF-8: 1 or 2 bytes.
size_t vocab_byte_text(uint8_t byte, char out[2]);

// The forms (tokenizer-json.c, tokenizer-vocab.c); `data` is a whole file, NUL-terminated.
int vocab_read_openai(struct vocab *v, const char *data, size_t n, struct err *e);
int vocab_read_merges(struct vocab *v, const char *data, size_t n, size_t max, struct err *e);
int vocab_read_vocab_json(struct vocab *v, const char *data, size_t n, struct err *e);
int vocab_read_tokenizer_json(struct vocab *v, const char *data, size_t n, struct err *e);

#endif
