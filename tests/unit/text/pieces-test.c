// SPDX-License-Identifier: Apache-2.0
// Small tokenizers of every kind give the ids that their tables say, and sentencepiece's rules that
// point outside of themselves are refused before the library follows them.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "text/pieces.h"
#include "text/tokenizer.h"
#include "unit/tap.h"

static struct err e;

enum { CONTEXT = 8, UNITS = 256, TRIE = 4 * UNITS };

static void check_ids(const char *from, const char *name, const char *text,
                      const struct tokenizer_style *style, const int32_t want[CONTEXT])
{
    char dir[] = "/tmp/pieces-test.XXXXXX", to[64], here[3000], target[4096];
    int32_t row[CONTEXT] = {0};
    size_t n;
    if (!mkdtemp(dir) || !getcwd(here, sizeof here))
        exit(1);
    snprintf(to, sizeof to, "%s/%s", dir, name);
    snprintf(target, sizeof target, "%s/tests/data/tokenizer/other/%s", here, from);
    if (symlink(target, to))
        exit(1);
    struct tokenizer *t = tokenizer_open_as(dir, style, &e);
    bool good = t && !tokenizer_encode(t, text, strlen(text), CONTEXT, row, &n, &e) &&
                !memcmp(row, want, sizeof row);
    ok(good, "%s%s%s", from, t ? "" : ": ", t ? "" : e.text);
    for (size_t i = 0; i < CONTEXT && !good; i++)
        printf("# %d\n", (int)row[i]);
    tokenizer_free(t);
    unlink(to);
    rmdir(dir);
}

// Rules that make A to a: the root, a unit for 'A' with a leaf, the leaf, its string.
struct rules {
    uint8_t size[4], trie[TRIE];
    char strings[2];
};

static void set(struct rules *r, size_t i, uint32_t unit)
{
    for (int k = 0; k < 4; k++)
        r->trie[4 * i + (size_t)k] = (uint8_t)(unit >> 8 * k);
}

static struct rules fine(void)
{
    struct rules r = {{TRIE & 0xff, TRIE >> 8, 0, 0}, {0}, "a"};
    set(&r, 'A', 'A' | 1u << 8 | ('A' ^ 2u) << 10);
    set(&r, 2, 1u << 31);
    return r;
}

static void refused(const struct rules *r, size_t n, const char *why, const char *what)
{
    e.text[0] = '\0';
    ok(piece_rules_check(r, n, &e) && strstr(e.text, why), "%s: %s", what, e.text);
}

static void test_rules(void)
{
    struct rules r = fine();
    ok(!piece_rules_check(&r, sizeof r, &e) && !piece_rules_check(NULL, 0, &e), "fine, and none");
    refused(&r, sizeof r - 3, "cut short", "without an end");
    refused(&r, 3, "cut short", "without a size");
    set(&r, 0, 1u << 9 | 1u << 10);
    refused(&r, sizeof r, "unit 0", "a root that leads out");
    set(&r, 0, 1u << 31);
    refused(&r, sizeof r, "unit 0", "a root with a leaf's bit");
    r = fine();
    set(&r, 0, 'b' | 1u << 8 | (uint32_t)'b' << 10);
    refused(&r, sizeof r, "no root", "a root that is its own child");
    r = fine();
    set(&r, 'A', 'A' | 1u << 8 | 512u << 10);
    refused(&r, sizeof r, "unit 65", "a unit that leads out");
    r = fine();
    set(&r, 2, 1u << 31 | 2);
    refused(&r, sizeof r, "no string for unit 65", "a leaf without string");
    r = fine();
    set(&r, 'A', 'A' | 1u << 8 | 'A' << 10);
    set(&r, 0, 0);
    refused(&r, sizeof r, "no trie", "a circle");
}

static void test_protos(void)
{
    static const uint8_t cut[] = {0x0a, 0x05, 'a'}, group[] = {0x0b};
    ok(piece_proto_check(cut, sizeof cut, &e), "a message cut short: %s", e.text);
    ok(piece_proto_check(group, sizeof group, &e), "a wire type that no model has: %s", e.text);
    ok(!piece_proto_check(NULL, 0, &e), "nothing is left to the library");
}

int main(void)
{
    static const struct tokenizer_style plain = {true, false, false};
    test_rules();
    test_protos();
    check_ids("bert.json", "tokenizer.json", "Red thing!", &plain,
              (int32_t[CONTEXT]){2, 6, 8, 9, 10, 3, 0, 0});
#ifdef CLIPCID_SENTENCEPIECE
    // Bytes are 5 to 260. In the other, the best of all cuts is the mark, "red", the mark with "a",
    // which the rules make of A.
    check_ids("gemma.json", "tokenizer.json", "red A", &plain,
              (int32_t[CONTEXT]){267, 261, 5 + 'A', 1, 0, 0, 0, 0});
    check_ids("spiece.model", "spiece.model", "red A", &plain,
              (int32_t[CONTEXT]){2, 9, 4, 1, 0, 0, 0, 0});
#endif
    return tap_done();
}
