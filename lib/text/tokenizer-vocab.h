// SPDX-License-Identifier: Apache-2.0
// Vocabulary files of CLIP's tokenizer, read into one form. Tokens are kept as the files write
// them: each byte as a printable character, "</w>" after the last byte of a word.
#ifndef TEXT_TOKENIZER_VOCAB_H
#define TEXT_TOKENIZER_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text/bpe.h"
#include "base/err.h"

enum {
    VOCAB_ID_MAX = 1 << 24,      // no published vocabulary is near
    VOCAB_FILE_MAX = 64 << 20,   // bytes, unpacked
    VOCAB_OPENAI_MERGES = 48894, // 49152 - 256 - 2: those of the file that CLIP uses
    VOCAB_TOKEN_MAX = 4 * 1024,  // bytes
    VOCAB_ADDED_MAX = 1 << 14,   // tokens that a file may add
};

struct vocab_token {
    const char *text; // not NUL-terminated; in the pool
    uint32_t n;
    int32_t id; // -1 = empty slot
};

// A token that the tokenizer's files add to the vocabulary (a learned word, a mark). It is taken
// out of a caption as a whole, before the rest is cut into words. White space beside it does not
// matter (lstrip and rstrip change no id), because words lose theirs.
struct vocab_added {
    const char *text; // UTF-8 as a caption has it, not byte symbols; not NUL-terminated
    uint32_t n;
    int32_t id;
    bool special;    // a mark, no word
    bool normalized; // looked for in the cleaned caption, its own text cleaned too; else in the raw
    bool single_word; // only where no letter, digit or underscore stands next to it
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
    struct vocab_added *added; // texts in the pool
    size_t n_added, cap_added;
    int32_t id_max;
};

// Start and end of a text: open_clip's names, which captions are searched for, and Hugging Face's.
enum { VOCAB_SOT, VOCAB_EOT, VOCAB_SPECIALS };
extern const char *const vocab_special_names[VOCAB_SPECIALS][2];

// Reads the vocabulary at `path` (file or folder, see tokenizer.h). 0, or -1 with nothing left to
// release.
int vocab_read(struct vocab *v, const char *path, struct err *e);
void vocab_release(struct vocab *v);

// Id of a token, -1 = none.
int32_t vocab_find(const struct vocab *v, const char *text, size_t n);
// Id of VOCAB_SOT or VOCAB_EOT under either name, -1 = none.
int32_t vocab_special(const struct vocab *v, int which);
// Adds a token; if it exists already it gets the new id. 0 or -1.
int vocab_add(struct vocab *v, const char *text, size_t n, int32_t id, struct err *e);
// Adds the merge of two existing tokens whose concatenation is also a token. 0 or -1.
int vocab_merge(struct vocab *v, const char *left, size_t n_left, const char *right, size_t n_right,
                struct err *e);
// Adds a token that captions are searched for. The start and end of a text become ordinary tokens,
// as captions are searched for those by open_clip's names alone, and so does a mark of one byte
// that is a token anyway (Stable Diffusion's padding "!"): for a caption it is that character. The
// same token again changes nothing; with another id it is refused. 0 or -1.
int vocab_add_token(struct vocab *v, const struct vocab_added *t, struct err *e);
// The bytes that the token's characters stand for, without "</w>": returns their number, or -1 (a
// character that stands for none, or more than `max` bytes).
int vocab_bytes(const char *text, size_t n, uint8_t *bytes, size_t max);
// The character that stands for a byte, in UTF-8: 1 or 2 bytes.
size_t vocab_byte_text(uint8_t byte, char out[2]);

// The forms (tokenizer-json.c, tokenizer-vocab.c); `data` is a whole file, which may start with a
// byte order mark.
int vocab_read_openai(struct vocab *v, const char *data, size_t n, struct err *e);
int vocab_read_merges(struct vocab *v, const char *data, size_t n, size_t max, struct err *e);
int vocab_read_vocab_json(struct vocab *v, const char *data, size_t n, struct err *e);
int vocab_read_tokenizer_json(struct vocab *v, const char *data, size_t n, struct err *e);

// Reads the files of a folder that name added tokens (tokenizer-added.c): tokenizer_config.json,
// tokenizer.json, special_tokens_map.json and added_tokens.json, if they exist. Call it after the
// vocabulary itself. 0 or -1.
int vocab_read_added(struct vocab *v, const char *folder, struct err *e);
// `added_tokens` of a tokenizer.json. 0 or -1.
struct cJSON;
int vocab_read_added_list(struct vocab *v, const struct cJSON *added, struct err *e);

#endif
