// SPDX-License-Identifier: Apache-2.0
// sentencepiece_model.proto's ModelProto in the wire format of protocol buffers: fields of a
// message are a key (number << 3 | type: 0 varint, 2 bytes with their length, 5 four bytes) and a
// value.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/pieces.h"

struct wire {
    uint8_t *data;
    size_t n, cap;
    bool bad;
    struct err *e;
};

static void put(struct wire *w, const void *from, size_t n)
{
    if (w->bad || mem_grow((void **)&w->data, &w->cap, w->n + n, 1, w->e)) {
        w->bad = true;
        return;
    }
    if (n)
        memcpy(w->data + w->n, from, n);
    w->n += n;
}

static void varint(struct wire *w, uint64_t v)
{
    uint8_t b[10];
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        b[n++] = (uint8_t)(v | 0x80);
    b[n++] = (uint8_t)v;
    put(w, b, n);
}

static void number(struct wire *w, unsigned field, uint64_t v)
{
    varint(w, field << 3);
    varint(w, v);
}

static void bytes(struct wire *w, unsigned field, const void *from, size_t n)
{
    varint(w, field << 3 | 2);
    varint(w, n);
    put(w, from, n);
}

static void real(struct wire *w, unsigned field, float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    uint8_t b[4] = {(uint8_t)u, (uint8_t)(u >> 8), (uint8_t)(u >> 16), (uint8_t)(u >> 24)};
    varint(w, field << 3 | 5);
    put(w, b, sizeof b);
}

// A nested message: it is written separately, because its length comes first.
static void message(struct wire *w, unsigned field, struct wire *inner)
{
    w->bad |= inner->bad;
    bytes(w, field, inner->data, inner->n);
    inner->n = 0;
}

static void put_pieces(struct wire *w, const struct piece_table *t, struct wire *inner)
{
    for (size_t i = 0; i < t->n; i++) {
        bytes(inner, 1, t->pieces[i].text, strlen(t->pieces[i].text));
        real(inner, 2, t->pieces[i].score);
        number(inner, 3, t->pieces[i].type);
        message(w, 1, inner);
    }
}

struct piece_model *piece_model_of(const struct piece_table *t, struct err *e)
{
    struct wire w = {.e = e}, inner = {.e = e};
    struct piece_model *m = NULL;
    uint64_t unknown = 0;
    while (unknown + 1 < t->n && t->pieces[unknown].type != PIECE_UNKNOWN)
        unknown++;
    put_pieces(&w, t, &inner);
    number(&inner, 3, t->bpe ? 2 : 1); // model_type
    number(&inner, 35, t->byte_fallback);
    number(&inner, 40, unknown); // unk_id
    message(&w, 2, &inner);      // trainer_spec
    bytes(&inner, 1, "given", 5);
    bytes(&inner, 2, t->charsmap, t->n_charsmap);
    number(&inner, 3, 0);   // add_dummy_prefix
    number(&inner, 4, 0);   // remove_extra_whitespaces
    number(&inner, 5, 0);   // escape_whitespaces
    message(&w, 3, &inner); // normalizer_spec
    if (!w.bad)
        m = piece_model_new(w.data, w.n, e);
    free(w.data);
    free(inner.data);
    return m;
}
