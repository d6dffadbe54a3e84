// SPDX-License-Identifier: Apache-2.0
// sentencepiece's models (libsentencepiece) behind a C interface: unigram and BPE with byte
// fallback. Built without the library, every model is refused with a line that says so.
#ifndef TEXT_PIECES_H
#define TEXT_PIECES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "repair/clean.h"

struct piece_model;

// From a serialized ModelProto (sentencepiece_model.proto), which may be freed. NULL with e set.
struct piece_model *piece_model_new(const void *proto, size_t n, struct err *e);
void piece_model_free(struct piece_model *m); // NULL allowed

// Returns the number of pieces; the id of a piece by its text, -1: none; the id of the end of a
// text, -1: none.
size_t piece_model_size(const struct piece_model *m);
int32_t piece_model_find(const struct piece_model *m, const char *piece);
int32_t piece_model_end(const struct piece_model *m);
// The model's normalized form of UTF-8 text, replacing what was in *out. 0 or -1.
int piece_model_normalize(const struct piece_model *m, const uint8_t *text, size_t n,
                          struct text_bytes *out, struct err *e);
// Ids of a text's pieces: the first `max` of them to ids, their number to *used. 0 or -1.
int piece_model_encode(const struct piece_model *m, const uint8_t *text, size_t n, int32_t *ids,
                       size_t max, size_t *used, struct err *e);

// -- pieces-check.c: checks that all that a ModelProto's rules point at lies within them, which the
// library does not check; and the same for such rules (precompiled_charsmap) alone. 0 or -1.
int piece_proto_check(const void *proto, size_t n, struct err *e);
int piece_rules_check(const void *rules, size_t n, struct err *e);

// -- pieces-proto.c: a ModelProto written from tables
enum piece_type { PIECE_NORMAL = 1, PIECE_UNKNOWN = 2, PIECE_CONTROL = 3, PIECE_BYTE = 6 };

struct piece {
    const char *text;
    float score;
    enum piece_type type;
};

struct piece_table {
    const struct piece *pieces;
    size_t n;
    bool bpe, byte_fallback;
    const void *charsmap; // precompiled rules of the normalizer, or NULL
    size_t n_charsmap;
};

// The model of a table, its normalizer without prefix, escapes and removal of white space. NULL
// with e set.
struct piece_model *piece_model_of(const struct piece_table *t, struct err *e);

#endif
