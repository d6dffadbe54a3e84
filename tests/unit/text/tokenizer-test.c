// SPDX-License-Identifier: Apache-2.0
// The tokenizer against cases of tests/data/tokenizer and, where they are, the full goldens.
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cjson/cJSON.h>

#include "repair/html-entities.h"
#include "system/io.h"
#include "unit/tap.h"
#include "text/tokenizer-vocab.h"
#include "text/tokenizer.h"
#include "unit/text/texts.h"

#define DATA "tests/data/tokenizer/"

enum { CONTEXT = TOKENIZER_CONTEXT };

static struct err err;

static bool clean_is(const char *text, size_t len, const char *want)
{
    struct text_bytes b = {0};
    bool good = text_clean(text, len, &b, &err) == TEXT_OK && b.n == strlen(want) &&
                (!b.n || memcmp(b.data, want, b.n) == 0);
    if (!good)
        printf("# got '%.*s', want '%s'\n", (int)b.n, b.data ? (char *)b.data : "", want);
    text_bytes_release(&b);
    return good;
}

static bool row_is(const struct tokenizer *t, const char *text, const cJSON *ids)
{
    int32_t row[CONTEXT];
    size_t n;
    if (tokenizer_encode(t, text, strlen(text), CONTEXT, row, &n, &err))
        return false;
    int i = 0;
    for (const cJSON *id = ids->child; id; id = id->next, i++) {
        if (i >= CONTEXT || row[i] != id->valueint)
            return false;
    }
    return i == CONTEXT;
}

static void test_cases(const char *form)
{
    char path[256];
    snprintf(path, sizeof path, DATA "%s", form);
    struct tokenizer *t = tokenizer_open(path, &err);
    ok(t != NULL, "%s opens", form);
    cJSON *cases = texts_read(DATA "cases.json", &err);
    int n = 0, clean = 0, ids = 0;
    for (const cJSON *c = cases ? cases->child : NULL; c && t; c = c->next, n++) {
        const char *text = cJSON_GetObjectItem(c, "text")->valuestring;
        const char *want = cJSON_GetObjectItem(c, "clean")->valuestring;
        clean += clean_is(text, strlen(text), want);
        bool same = row_is(t, text, cJSON_GetObjectItem(c, "ids"));
        ids += same;
        if (!same)
            printf("# other ids: %s\n", text);
    }
    ok(n > 60 && clean == n, "%s: %d of %d texts cleaned as open_clip does", form, clean, n);
    ok(n > 60 && ids == n, "%s: %d of %d rows equal", form, ids, n);
    if (t)
        ok(tokenizer_vocab_size(t) == 1214 && tokenizer_sot(t) == 1212 && tokenizer_eot(t) == 1213,
           "%s: ids from the file", form);
    cJSON_Delete(cases);
    tokenizer_free(t);
}

static void test_bytes_that_json_cannot_hold(void)
{
    ok(clean_is("a\0b \0 c", 7, "ab c"), "NUL bytes vanish");
    ok(clean_is("", 0, ""), "an empty text");
    ok(clean_is(" \t\r\n\f ", 6, ""), "a blank text");
    ok(clean_is("A  B\tC\n", 7, "a b c"), "white space collapses");
}

static void test_framing(const struct tokenizer *t)
{
    int32_t row[8];
    size_t n;
    int32_t sot = tokenizer_sot(t), eot = tokenizer_eot(t);
    ok(tokenizer_encode(t, " ", 1, 8, row, &n, &err) == TEXT_OK && n == 2 && row[0] == sot &&
           row[1] == eot && row[2] == 0 && row[7] == 0,
       "a blank text is start and end");
    ok(tokenizer_encode(t, "1 2 3 4 5 6", 11, 8, row, &n, &err) == TEXT_OK && n == 8 &&
           row[7] == eot && row[6] != eot,
       "a text that just fits");
    ok(tokenizer_encode(t, "1 2 3 4 5 6 7 8", 15, 8, row, &n, &err) == TEXT_OK && n == 8 &&
           row[7] == eot && row[6] != eot,
       "a text too long ends in eot");
    ok(tokenizer_encode(t, "abcxyzqqq", 9, 4, row, &n, &err) == TEXT_OK && n == 4 && row[3] == eot,
       "a word cut in its middle");
    ok(tokenizer_encode(t, "1", 1, 2, row, &n, &err) == TEXT_OK && n == 2 && row[1] == eot,
       "the smallest context");
    ok(tokenizer_encode(t, "1", 1, 1, row, &n, &err) == TEXT_ERROR, "no smaller: %s", err.text);
    ok(tokenizer_encode(t, "<start_of_text>a<END_OF_TEXT>", 29, 8, row, &n, &err) == TEXT_OK &&
           n == 5 && row[1] == sot && row[3] == eot,
       "special tokens by their names");
}

static void test_bad_utf8(const struct tokenizer *t)
{
    static const struct {
        const char *text, *what;
        size_t n;
    } cases[] = {
        {"caf\xe9 bar", "Latin-1", 8},        {"caf\xc3", "cut", 4},
        {"\xc0\x80", "overlong NUL", 2},      {"\xed\xa0\x80", "a surrogate", 3},
        {"\xf4\x90\x80\x80", "too large", 4}, {"a\x80", "a lone continuation", 2},
        {"\xe2\x82", "cut in three", 2},      {"\xff\xfe", "UTF-16 mark", 2},
    };
    int32_t row[8];
    size_t n;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ok(tokenizer_encode(t, cases[i].text, cases[i].n, 8, row, &n, &err) == TEXT_BAD_UTF8 &&
               n == 2 && row[1] == tokenizer_eot(t),
           "%s: %s", cases[i].what, err.text);
}

static bool entity_is(const char *name, bool bare, int n, int32_t first)
{
    int32_t out[2] = {0};
    return html_entity_find(name, strlen(name), bare, out) == n && (!n || out[0] == first);
}

static void test_mojibake(void)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"L\u00c3\u00a9zard", "l\u00e9zard"},
        {"\u00c3\u0192\u00c2\u00a9t\u00c3\u0192\u00c2\u00a9", "\u00e9t\u00e9"}, // twice
        {"voil\u00c3 le travail", "voil\u00e0 le travail"},                // lost no-break space
        {"\u00e2\u20ac\u0153quoted\u00e2\u20ac\ufffd", "\"quoted\ufffd"},  // lost byte
        {"\u043f\u0440\u0438\u0432\u0435\u0442 \u00c3\u00a9t\u00c3\u00a9", // only a part of it
         "\u043f\u0440\u0438\u0432\u0435\u0442 \u00e9t\u00e9"},
        {"\u00c3\u00a9t\u00c3\u00a9 \u00e9t\u00e9", "\u00e9t\u00e9 \u00e9t\u00e9"},
        {"S\u00c3O PAULO, \u00c5ngstr\u00f6m, 5\u00b2 \u00a3",
         "s\u00e3o paulo, \u00e5ngstr\u00f6m, 5\u00b2 \u00a3"},
        {"&Atilde;&copy;", "\u00e9"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ok(clean_is(cases[i].text, strlen(cases[i].text), cases[i].want), "mojibake: %s",
           cases[i].want);
}

static void test_entities(void)
{
    ok(entity_is("AElig", true, 1, 0xc6) && entity_is("zwnj", false, 1, 0x200c), "first and last");
    ok(entity_is("zwnj", true, 0, 0) && entity_is("amp", true, 1, '&'), "bare names");
    ok(entity_is("NotEqualTilde", false, 2, 0x2242), "a name of two characters");
    ok(entity_is("CounterClockwiseContourIntegral", false, 1, 0x2233), "the longest name");
    ok(entity_is("am", false, 0, 0) && entity_is("ampx", false, 0, 0), "no such name");
}

// Time that a text of n bytes, `unit` over and over, takes.
static double seconds_for(const struct tokenizer *t, const char *unit, size_t n)
{
    size_t k = strlen(unit);
    n -= n % k;
    char *text = malloc(n);
    int32_t row[CONTEXT];
    size_t used;
    for (size_t i = 0; i < n; i++)
        text[i] = unit[i % k];
    clock_t start = clock();
    enum text_status s = tokenizer_encode(t, text, n, CONTEXT, row, &used, &err);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    free(text);
    return s == TEXT_OK ? seconds : 1e9;
}

// A megabyte each: anything quadratic would take minutes.
static void test_hostile(const struct tokenizer *t)
{
    static const char *const units[] = {"x",
                                        "the",
                                        "!",
                                        "\xcc\x81\xcc\xa3",
                                        "&amp;amp;",
                                        "&#3",
                                        "&notit;<",
                                        " ",
                                        "\xce\xa3'",
                                        "\x1b[1;",
                                        "a\n",
                                        "<",
                                        "&",
                                        "\xef\xbd\xb6",
                                        "\xc3\x83\xc2\xa9",
                                        "\xc3\x82 ",
                                        "\xe2\x82\xac\xc3\xa9 ",
                                        "\xc3\x90\xef\xbf\xbd",
                                        "\xc3\x83\xc6\x92\xe6\x97\xa5"};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        double s = seconds_for(t, units[i], 1 << 20);
        ok(s < 20, "a megabyte of unit %zu takes %.2f s", i, s);
    }
}

static void *encode_many(void *arg)
{
    int32_t row[CONTEXT], first[CONTEXT];
    size_t n;
    struct err e;
    static const char text[] = "Caf\xc3\xa9 &amp; the singing things' \xe2\x80\x9cx\xe2\x80\x9d";
    tokenizer_encode(arg, text, sizeof text - 1, CONTEXT, first, &n, &e);
    for (int i = 0; i < 2000; i++) {
        if (tokenizer_encode(arg, text, sizeof text - 1, CONTEXT, row, &n, &e) ||
            memcmp(row, first, sizeof row))
            return arg;
    }
    return NULL;
}

static void test_threads(struct tokenizer *t)
{
    pthread_t thread[4];
    void *failed = NULL, *result;
    for (int i = 0; i < 4; i++)
        pthread_create(&thread[i], NULL, encode_many, t);
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], &result);
        failed = result ? result : failed;
    }
    ok(!failed, "four threads share one tokenizer");
}

static bool refuses(int (*read)(struct vocab *, const char *, size_t, struct err *),
                    const char *data)
{
    struct vocab v = {0};
    struct tokenizer *t = NULL;
    bool refused = read(&v, data, strlen(data), &err) || !(t = tokenizer_build(&v, &err));
    vocab_release(&v);
    tokenizer_free(t);
    return refused;
}

static void test_bad_vocabularies(void)
{
    ok(!tokenizer_open("/nonexistent/x", &err), "no such file: %s", err.text);
    ok(!tokenizer_open("tests/data", &err), "no tokenizer: %s", err.text);
    ok(!tokenizer_open(DATA "cases.json", &err), "another JSON file: %s", err.text);
    ok(!tokenizer_open(DATA "README.md", &err), "another text: %s", err.text);
    ok(refuses(vocab_read_openai, ""), "empty: %s", err.text);
    ok(refuses(vocab_read_openai, "#version\ni n\nq\n"), "one token: %s", err.text);
    ok(refuses(vocab_read_openai, "#version\ni n\na b c\n"), "three: %s", err.text);
    ok(refuses(vocab_read_openai, "#version\nin g\n"), "an unknown part: %s", err.text);
    ok(refuses(vocab_read_vocab_json, "{\"a\": 1}"), "few tokens: %s", err.text);
    ok(refuses(vocab_read_vocab_json, "{\"a\": 1.5}"), "a fraction: %s", err.text);
    ok(refuses(vocab_read_vocab_json, "{\"a\": -1}"), "below 0: %s", err.text);
    ok(refuses(vocab_read_vocab_json, "{\"a\": 1e300}"), "too large: %s", err.text);
    ok(refuses(vocab_read_vocab_json, "{\"\": 1}"), "no text: %s", err.text);
    ok(refuses(vocab_read_vocab_json, "[]"), "an array: %s", err.text);
    ok(refuses(vocab_read_vocab_json, "{}"), "nothing: %s", err.text);
    ok(refuses(vocab_read_vocab_json, "{\"a\":"), "cut: %s", err.text);
    ok(refuses(vocab_read_tokenizer_json, "{\"model\":{\"type\":\"Unigram\"}}"), "%s", err.text);
    ok(refuses(vocab_read_tokenizer_json, "{\"model\":{\"type\":\"BPE\"}}"), "%s", err.text);
    ok(refuses(vocab_read_tokenizer_json,
               "{\"model\":{\"end_of_word_suffix\":\"</w>\",\"vocab\":{},\"merges\":[1]}}"),
       "%s", err.text);
    ok(!refuses(vocab_read_openai, "#version\n"), "no merges at all will do");
}

static void test_golden(void)
{
    const char *root = getenv("CLIP_CID_SHARED");
    char path[1024];
    snprintf(path, sizeof path, "%s/golden/tokenizer/", root ? root : "../shared");
    size_t k = strlen(path);
    if (access(path, R_OK)) {
        ok(1, "# skip goldens are not here");
        return;
    }
    struct tokenizer *t = tokenizer_open(path, &err);
    snprintf(path + k, sizeof path - k, "captions.json");
    cJSON *captions = texts_read(path, &err);
    snprintf(path + k, sizeof path - k, "tokens.npy");
    struct map m;
    int rows = cJSON_GetArraySize(captions), same = 0, i = 0;
    size_t row_bytes = CONTEXT * sizeof(int32_t), need = (size_t)rows * row_bytes;
    bool open = t && captions && !map_open(&m, path, &err) && m.n >= need;
    for (const cJSON *c = open ? captions->child : NULL; c; c = c->next, i++) {
        int32_t row[CONTEXT];
        size_t n;
        const uint8_t *want = m.data + (m.n - need) + (size_t)i * row_bytes;
        bool equal = tokenizer_encode(t, c->valuestring, strlen(c->valuestring), CONTEXT, row, &n,
                                      &err) == TEXT_OK &&
                     memcmp(row, want, row_bytes) == 0;
        same += equal;
        if (!equal)
            printf("# row %d differs: %s\n", i, c->valuestring);
    }
    ok(open && rows > 0 && same == rows, "golden: %d of %d rows equal", same, rows);
    cJSON_Delete(captions);
    tokenizer_free(t);
    if (open)
        map_close(&m);
}

int main(void)
{
    test_cases("openai");
    test_cases("hf");
    test_cases("fast");
    test_cases("fast/tokenizer.json");
    test_cases("openai/bpe_simple_vocab_16e6.txt.gz");
    test_bytes_that_json_cannot_hold();
    test_entities();
    test_mojibake();
    test_bad_vocabularies();
    struct tokenizer *t = tokenizer_open(DATA "openai", &err);
    if (t) {
        test_framing(t);
        test_bad_utf8(t);
        test_hostile(t);
        test_threads(t);
    }
    tokenizer_free(t);
    test_golden();
    return tap_done();
}
