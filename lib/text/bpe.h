// SPDX-License-Identifier: Apache-2.0
// Byte-pair encoding of one word, as CLIP has it (Sennrich et al. 2016 over bytes, the end of a
// word marked in its last symbol): merge the pair of lowest rank until no known pair is left.
#ifndef TEXT_BPE_H
#define TEXT_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct bpe_merge {
    int32_t left, right, merged; // token ids; the merge's rank is its index
};

struct bpe_word {
    const uint8_t *bytes; // raw bytes of a token that ends a word; need not outlive bpe_init
    size_t n;
    int32_t id;
};

struct bpe {
    int32_t byte_id[256]; // token of a byte inside a word
    int32_t last_id[256]; // token of a byte at a word's end
    struct bpe_pair *pairs;
    size_t pair_mask;
    struct bpe_entry *words; // whole words that merge to one token
    size_t word_mask;
    uint8_t *pool; // their bytes
};

// Builds the tables. `words` are candidates for the whole-word table: each is kept if merging
// really ends in its token. The caller must have filled in byte_id and last_id. 0, or -1 with
// nothing to release.
int bpe_init(struct bpe *b, const struct bpe_merge *merges, size_t n_merges,
             const struct bpe_word *words, size_t n_words, struct err *e);
void bpe_release(struct bpe *b);

// Encodes word[0..n), writes the first `max` token ids to out and the number of ids to *used. Only
// reads b. If a later merge of the file makes a pair of an earlier rank (no trained vocabulary has
// one), words over BPE_SHORT bytes may be cut differently than in Python. 0, or -1 (out of memory).
enum { BPE_SHORT = 96 };
int bpe_encode(const struct bpe *b, const uint8_t *word, size_t n, int32_t *out, size_t max,
               size_t *used, struct err *e);

#endif
