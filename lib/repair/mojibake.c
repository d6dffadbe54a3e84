// SPDX-License-Identifier: Apache-2.0
#include "repair/mojibake.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"

enum {
    STEPS = 64, // mojibake of mojibake: each layer doubles its length, so no text has this many
    DEPTH = 8,  // of repairs inside a repaired piece
    SUBSTITUTE = 0x1a,
    REPLACEMENT = 0xfffd,
};

struct bytes {
    uint8_t *b;
    size_t n, cap;
};

static int grow(struct bytes *x, size_t n, size_t factor, struct err *e)
{
    size_t need;
    if (!mem_mul(n, factor, &need))
        return err_set(e, "text too long");
    return mem_grow((void **)&x->b, &x->cap, need ? need : 1, 1, e);
}

// t in a single-byte encoding; out has room. False if a character is not in it.
static bool encode(const struct text *t, int encoding, struct bytes *out)
{
    bool sloppy = mojibake_is_sloppy(encoding);
    for (size_t i = 0; i < t->n; i++) {
        int32_t c = t->c[i];
        uint8_t b = c < 0x80 ? (uint8_t)c : mojibake_char(c)->byte[encoding];
        // windows-*: the byte of a substitute means U+FFFD
        if ((b == 0 && c != 0) || (sloppy && c == SUBSTITUTE))
            return false;
        out->b[i] = b;
    }
    out->n = t->n;
    return true;
}

static bool in(uint8_t b, uint8_t first, uint8_t last)
{
    return b >= first && b <= last;
}

// A continuation byte that likely was one: not 0x85 (ellipsis) or 0xa0 (no-break space).
static bool is_strict_next(uint8_t b)
{
    return in(b, 0x80, 0xbf) && b != 0x85 && b != 0xa0;
}

static bool is_next(uint8_t b)
{
    return in(b, 0x80, 0xbf);
}

// Length of a sequence at b that would be UTF-8 if its one space were byte 0xa0; 0 = none.
static size_t altered_length(const uint8_t *b, size_t n)
{
    if (n >= 2 && b[1] == ' ' && b[0] && memchr("\xc2\xc3\xc5\xce\xd0\xd9", b[0], 6))
        return 2;
    if (n >= 3 && in(b[0], 0xe2, 0xe3) && b[1] == ' ' && is_strict_next(b[2]))
        return 3;
    if (n >= 3 && in(b[0], 0xe0, 0xe3) && is_strict_next(b[1]) && b[2] == ' ')
        return 3;
    if (n < 4 || b[0] != 0xf0)
        return 0;
    int spaces = 0, next = 0;
    for (int k = 1; k < 4; k++) {
        spaces += b[k] == ' ';
        next += is_next(b[k]);
    }
    return spaces == 1 && next == 2 ? 4 : 0;
}

static bool has_altered(const struct bytes *x)
{
    for (size_t i = 0; i < x->n; i++) {
        if (altered_length(x->b + i, x->n - i))
            return true;
    }
    return false;
}

// Whether the "\xc3 " at b is the word "a" with grave: a word follows that is not the end of one
// that starts with it ("aquele" in Portuguese).
static bool is_a_grave_word(const uint8_t *b, size_t n)
{
    static const char *const ends[] = {" ", "quele", "quela", "quilo", "s "};
    if (n < 2 || b[0] != 0xc3 || b[1] != ' ')
        return false;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t k = strlen(ends[i]);
        if (n - 2 >= k && memcmp(b + 2, ends[i], k) == 0)
            return false;
    }
    return true;
}

// Puts back byte 0xa0 where it became a space. out has room for twice x.
static void restore_a0(const struct bytes *x, struct bytes *out)
{
    out->n = 0;
    for (size_t i = 0; i < x->n; i++) {
        out->b[out->n++] = x->b[i];
        if (is_a_grave_word(x->b + i, x->n - i))
            out->b[out->n++] = 0xa0; // and the space stays
    }
    for (size_t i = 0; i < out->n;) {
        size_t k = altered_length(out->b + i, out->n - i);
        for (size_t j = 0; j < k; j++)
            out->b[i + j] = out->b[i + j] == ' ' ? 0xa0 : out->b[i + j];
        i += k ? k : 1;
    }
}

static bool is_lost(uint8_t b)
{
    return b == SUBSTITUTE || b == '?';
}

static bool is_kept_or_lost(uint8_t b)
{
    return b == SUBSTITUTE || is_next(b);
}

// b[1..k]: exactly one place may hold '?', and some place is lost; the others are as
// is_kept_or_lost.
static bool one_lost(const uint8_t *b, size_t k)
{
    for (size_t at = 1; at <= k; at++) {
        bool good = is_lost(b[at]);
        for (size_t j = 1; j <= k && good; j++)
            good = j == at || is_kept_or_lost(b[j]);
        if (good)
            return true;
    }
    return false;
}

// Six bytes of a surrogate pair, one half's last byte lost.
static bool is_lossy_pair(const uint8_t *b, size_t n)
{
    if (n < 6 || b[0] != 0xed || !in(b[1], 0xa0, 0xaf) || b[3] != 0xed || !in(b[4], 0xb0, 0xbf))
        return false;
    bool first = is_lost(b[2]), second = is_lost(b[5]);
    return (first && (second || is_next(b[5]))) || ((first || is_next(b[2])) && second);
}

// Length of a UTF-8 sequence at b of which a byte was lost (read as U+FFFD or '?'); 0 = none.
static size_t lossy_length(const uint8_t *b, size_t n)
{
    if (n >= 2 && in(b[0], 0xc2, 0xdf) && b[1] == SUBSTITUTE)
        return 2;
    if (n >= 2 && in(b[0], 0xc2, 0xc3) && b[1] == '?')
        return 2;
    if (is_lossy_pair(b, n))
        return 6;
    if (n >= 3 && in(b[0], 0xe0, 0xef) && one_lost(b, 2))
        return 3;
    if (n >= 4 && in(b[0], 0xf0, 0xf4) && one_lost(b, 3))
        return 4;
    return b[0] == SUBSTITUTE;
}

// Lossy sequences become U+FFFD. out has room for three times x.
static void replace_lossy(const struct bytes *x, struct bytes *out)
{
    out->n = 0;
    for (size_t i = 0; i < x->n;) {
        size_t k = lossy_length(x->b + i, x->n - i);
        if (k) {
            memcpy(out->b + out->n, "\xef\xbf\xbd", 3);
            out->n += 3;
            i += k;
        } else {
            out->b[out->n++] = x->b[i++];
        }
    }
}

// One character of UTF-8 or of its variants: Java's long NUL, surrogate pairs as six bytes
// (CESU-8). Bytes used, 0 = none.
static size_t decode_one(const uint8_t *b, size_t n, int32_t *c)
{
    if (n >= 2 && b[0] == 0xc0 && (b[1] == 0x80 || (n == 2 && b[1] == '\n'))) {
        *c = 0;
        return 2;
    }
    if (n >= 6 && b[0] == 0xed && in(b[1], 0xa0, 0xaf) && is_next(b[2]) && b[3] == 0xed &&
        in(b[4], 0xb0, 0xbf) && is_next(b[5])) {
        *c = 0x10000 + ((b[1] & 15) << 16) + ((b[2] & 63) << 10) + ((b[4] & 15) << 6) + (b[5] & 63);
        return 6;
    }
    utf8proc_ssize_t k = utf8proc_iterate(b, (utf8proc_ssize_t)(n < 4 ? n : 4), c);
    return k > 0 ? (size_t)k : 0;
}

// Decodes all of x into out, which has room for x->n characters. False if it is not UTF-8.
static bool decode(const struct bytes *x, struct text *out)
{
    out->n = 0;
    for (size_t i = 0; i < x->n;) {
        size_t k = decode_one(x->b + i, x->n - i, &out->c[out->n]);
        if (!k)
            return false;
        out->n++;
        i += k;
    }
    return true;
}

static void swap_bytes(struct bytes *a, struct bytes *b)
{
    struct bytes x = *a;
    *a = *b;
    *b = x;
}

struct decode_scratch {
    struct bytes raw, other;
    struct text decoded;
};

static void release(struct decode_scratch *s)
{
    free(s->raw.b);
    free(s->other.b);
    text_release(&s->decoded);
}

static bool same_text(const struct text *a, const struct text *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->c, b->c, a->n * sizeof *a->c) == 0);
}

// Reads t as UTF-8 that went through `encoding`, into s->decoded. 1, 0 if it did not, -1.
static int decode_through(const struct text *t, int encoding, struct decode_scratch *s,
                          struct err *e)
{
    if (grow(&s->raw, t->n, 1, e))
        return -1;
    if (!encode(t, encoding, &s->raw))
        return 0;
    // MacRoman would see an en dash and a space
    if (encoding != MOJI_MACROMAN && has_altered(&s->raw)) {
        if (grow(&s->other, s->raw.n, 2, e))
            return -1;
        restore_a0(&s->raw, &s->other);
        swap_bytes(&s->raw, &s->other);
    }
    if (mojibake_is_sloppy(encoding)) {
        if (grow(&s->other, s->raw.n, 3, e))
            return -1;
        replace_lossy(&s->raw, &s->other);
        swap_bytes(&s->raw, &s->other);
    }
    if (text_reserve(&s->decoded, s->raw.n ? s->raw.n : 1, e))
        return -1;
    return decode(&s->raw, &s->decoded);
}

// Length of the run of UTF-8-like sequences at c[0..n).
static size_t detect(const int32_t *c, size_t n)
{
    size_t i = 0;
    while (i < n) {
        unsigned first = mojibake_char(c[i])->clues;
        size_t next = 0; // continuations that follow, up to 3
        while (next < 3 && i + 1 + next < n && (mojibake_char(c[i + 1 + next])->clues & CLUE_NEXT))
            next++;
        if ((first & CLUE_FIRST_OF_2) && next >= 1)
            i += 2;
        else if ((first & CLUE_FIRST_OF_3) && next >= 2)
            i += 3;
        else if ((first & CLUE_FIRST_OF_4) && next >= 3)
            i += 4;
        else
            break;
    }
    return i;
}

static int fix_steps(struct text *t, int depth, bool *changed, struct err *e);

// Appends c[0..n), a piece of a text, to out, repaired if it is bad by itself.
static int append_piece(struct text *out, const int32_t *c, size_t n, bool whole, int depth,
                        struct err *e)
{
    if (whole || !mojibake_is_bad(c, n) || depth >= DEPTH)
        return text_append(out, c, n, e);
    struct text piece = {0};
    bool ignored = false;
    int status = text_append(&piece, c, n, e) || fix_steps(&piece, depth + 1, &ignored, e) ||
                         text_append(out, piece.c, piece.n, e)
                     ? -1
                     : 0;
    text_release(&piece);
    return status;
}

// Repairs the pieces that look like UTF-8 one by one, where the text is not in one encoding.
static int fix_pieces(const struct text *t, struct text *out, int depth, struct err *e)
{
    out->n = 0;
    for (size_t i = 0; i < t->n;) {
        bool after_next = i && (mojibake_char(t->c[i - 1])->clues & CLUE_NEXT_STRICT);
        size_t k = after_next ? 0 : detect(t->c + i, t->n - i);
        if (k ? append_piece(out, t->c + i, k, k == t->n, depth, e)
              : text_append(out, t->c + i, 1, e))
            return -1;
        i += k ? k : 1;
    }
    return 0;
}

static void take(struct text *t, struct text *from)
{
    struct text x = *t;
    *t = *from;
    *from = x;
}

// One step of repair; *stepped if it changed the text. 0 or -1.
static int fix_step(struct text *t, struct decode_scratch *s, int depth, bool *stepped,
                    struct err *e)
{
    *stepped = false;
    for (int k = 0; k < MOJI_ENCODINGS; k++) {
        int got = decode_through(t, k, s, e);
        if (got < 0)
            return -1;
        if (got) {
            *stepped = !same_text(t, &s->decoded);
            take(t, &s->decoded);
            return 0;
        }
    }
    if (fix_pieces(t, &s->decoded, depth, e))
        return -1;
    *stepped = !same_text(t, &s->decoded);
    if (*stepped)
        take(t, &s->decoded);
    else
        text_fix_c1(t, stepped);
    return 0;
}

static int fix_steps(struct text *t, int depth, bool *changed, struct err *e)
{
    struct decode_scratch s = {0};
    int status = 0;
    bool stepped = true;
    for (int k = 0; k < STEPS && stepped && !status && mojibake_is_bad(t->c, t->n); k++) {
        status = fix_step(t, &s, depth, &stepped, e);
        *changed |= stepped;
    }
    release(&s);
    return status;
}

int text_fix_mojibake(struct text *t, bool *changed, struct err *e)
{
    return fix_steps(t, 0, changed, e);
}
