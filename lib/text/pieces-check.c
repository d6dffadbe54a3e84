// SPDX-License-Identifier: Apache-2.0
// libsentencepiece (up to 0.2.1 at least) follows the places in a model's precompiled rules
// wherever they point, so they are held against the rules' size before it gets them.
//
// The rules: four bytes, the size of a trie; the trie, a double array of Darts-clone's units of
// four bytes; then strings that end in NUL, which its leaves number by their first byte. A unit's
// bits: 0-7 label, 8 whether a leaf hangs on it, 9 whether the offset in 10-30 counts by 256, 31
// set in a leaf, whose other bits are the place of its string. From unit i its children by byte c
// are at i ^ offset ^ c, and the leaf at i ^ offset.
#include <stdlib.h>

#include "base/mem.h"
#include "text/pieces.h"

// The remaining bytes of a message.
struct message {
    const uint8_t *at, *end;
};

static uint32_t u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static size_t children(uint32_t i, uint32_t unit)
{
    return i ^ (unit >> 10 << ((unit & 1u << 9) >> 6));
}

struct trie {
    const uint8_t *at;
    uint32_t units;
    size_t strings; // bytes
    uint8_t *below; // [units]: 0, or 1 + the most leaves on a way through it; ON_WAY
};

enum { ON_WAY = 0xff, LEAVES = 32, DEPTH = 256 };

static uint32_t unit_of(const struct trie *t, size_t i)
{
    return u32(t->at + 4 * i);
}

static int check_unit(const struct trie *t, size_t i, size_t at, bool leaf, struct err *e)
{
    if ((at | 0xff) >= t->units)
        return err_set(e, "its rules point outside of themselves, at unit %zu", i);
    if (leaf && (unit_of(t, at) & 0x7fffffff) >= t->strings)
        return err_set(e, "its rules have no string for unit %zu", i);
    return 0;
}

// Checks all units that a text can lead to. Ends may be shared, but no path may be a circle, and
// the library has memory for 32 leaves on one path.
static int walk(const struct trie *t, size_t i, int depth, struct err *e)
{
    uint32_t unit = unit_of(t, i);
    size_t at = children((uint32_t)i, unit);
    bool leaf = unit >> 8 & 1;
    int most = 0;
    if (check_unit(t, i, at, leaf, e))
        return -1;
    t->below[i] = ON_WAY;
    for (size_t c = 0; c < 256; c++) {
        size_t child = at ^ c;
        if ((unit_of(t, child) & 0x800000ff) != c || !child)
            continue;
        if (t->below[child] == ON_WAY || depth == DEPTH)
            return err_set(e, "its rules are no trie, at unit %zu", child);
        if (!t->below[child] && walk(t, child, depth + 1, e))
            return -1;
        most = t->below[child] > most ? t->below[child] : most;
    }
    most += leaf - !!most;
    t->below[i] = (uint8_t)(most + 1);
    return most > LEAVES ? err_set(e, "its rules have more than %d leaves on a way", LEAVES) : 0;
}

int piece_rules_check(const void *rules, size_t n, struct err *e)
{
    const uint8_t *p = rules;
    if (!n)
        return 0;
    size_t trie = n < 4 ? 0 : u32(p);
    if (n < 4 || trie > n - 4 || trie % 4 || trie < 4 * 256)
        return err_set(e, "its rules are cut short");
    struct trie t = {p + 4, (uint32_t)(trie / 4), n - 4 - trie, NULL};
    if (!(t.below = mem_alloc(t.units, 1, e)))
        return -1;
    // With a label, a path could return to the root.
    int rc = unit_of(&t, 0) & 0x800001ff ? err_set(e, "its rules have no root, at unit 0")
                                         : walk(&t, 0, 0, e);
    free(t.below);
    return rc;
}

static bool varint(struct message *m, uint64_t *v)
{
    *v = 0;
    for (int shift = 0; m->at < m->end && shift < 64; shift += 7) {
        uint8_t b = *m->at++;
        *v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80))
            return true;
    }
    return false;
}

static bool skip(struct message *m, size_t n)
{
    if ((size_t)(m->end - m->at) < n)
        return false;
    m->at += n;
    return true;
}

// Reads the next field: its number, and its contents if they are bytes. 1; 0: the end; -1.
static int next(struct message *m, uint64_t *field, struct message *inner)
{
    uint64_t key, v;
    *inner = (struct message){0};
    if (m->at == m->end)
        return 0;
    if (!varint(m, &key))
        return -1;
    *field = key >> 3;
    switch (key & 7) {
    case 0:
        return varint(m, &v) ? 1 : -1;
    case 1:
        return skip(m, 8) ? 1 : -1;
    case 5:
        return skip(m, 4) ? 1 : -1;
    case 2:
        if (!varint(m, &v) || v > (uint64_t)(m->end - m->at))
            return -1;
        inner->at = m->at;
        m->at += v;
        inner->end = m->at;
        return 1;
    }
    return -1;
}

enum { NORMALIZER = 3, DENORMALIZER = 5, RULES = 2 };

static int check_normalizer(struct message m, struct err *e)
{
    uint64_t field;
    struct message in;
    int rc;
    while ((rc = next(&m, &field, &in)) > 0)
        if (field == RULES && in.at && piece_rules_check(in.at, (size_t)(in.end - in.at), e))
            return -1;
    return rc ? err_set(e, "its normalizer is damaged") : 0;
}

int piece_proto_check(const void *proto, size_t n, struct err *e)
{
    struct message m = {proto, (const uint8_t *)proto + n}, in;
    uint64_t field;
    int rc;
    while ((rc = next(&m, &field, &in)) > 0)
        if ((field == NORMALIZER || field == DENORMALIZER) && in.at && check_normalizer(in, e))
            return -1;
    return rc ? err_set(e, "it is cut short or no ModelProto") : 0;
}
