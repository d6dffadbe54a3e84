// SPDX-License-Identifier: Apache-2.0
// Tokens that a model's files add to CLIP's vocabulary, in each file that may name them. The ids
// are those of Hugging Face's tokenizers.
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "system/io.h"
#include "unit/tap.h"
#include "text/tokenizer.h"

#define VOCAB "tests/data/tokenizer/hf/"

enum { CONTEXT = 24, A_WORD = 320, B_WORD = 321, SOT = 1212, EOT = 1213 };

static char dir[] = "/tmp/added-tokens-test.XXXXXX";
static struct err err;

static const char *in_dir(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void put(const char *name, const void *data, size_t n)
{
    FILE *f = fopen(in_dir(name), "wb");
    fwrite(data, 1, n, f);
    fclose(f);
}

static void put_text(const char *name, const char *text)
{
    if (text)
        put(name, text, strlen(text));
    else
        unlink(in_dir(name));
}

static void copy(const char *from, const char *name)
{
    struct map m;
    if (map_open(&m, from, &err))
        exit(1);
    put(name, m.data, m.n);
    map_close(&m);
}

static struct tokenizer *open_with(const char *config, const char *fast, const char *map,
                                   const char *plain)
{
    err.text[0] = 0;
    put_text("tokenizer_config.json", config);
    put_text("tokenizer.json", fast);
    put_text("special_tokens_map.json", map);
    put_text("added_tokens.json", plain);
    struct tokenizer *t = tokenizer_open(dir, &err);
    if (!t)
        printf("# %s\n", err.text);
    return t;
}

// Is the caption's row SOT, the ids up to -1, EOT?
static bool gives(const struct tokenizer *t, const char *text, const int32_t *want)
{
    int32_t row[CONTEXT];
    size_t n, k = 0;
    if (!t || tokenizer_encode(t, text, strlen(text), CONTEXT, row, &n, &err))
        return false;
    while (want[k] >= 0)
        k++;
    bool same = n == k + 2 && row[0] == SOT && row[k + 1] == EOT &&
                memcmp(row + 1, want, k * sizeof *want) == 0;
    for (size_t i = 0; !same && i < n; i++)
        printf("# %d\n", (int)row[i]);
    return same;
}

#define IDS(...) ((const int32_t[]){__VA_ARGS__, -1})

static void test_each_file(void)
{
    static const char one[] = "\"content\":\"<toy>\",\"special\":false,\"normalized\":false,"
                              "\"lstrip\":true,\"rstrip\":true,\"single_word\":false}";
    char config[300], fast[300];
    snprintf(config, sizeof config, "{\"added_tokens_decoder\":{\"1214\":{%s}}", one);
    snprintf(fast, sizeof fast, "{\"added_tokens\":[{\"id\":1214,%s]}", one);
    const struct {
        const char *what, *config, *fast, *map, *plain;
    } files[] = {
        {"tokenizer_config.json", config, NULL, NULL, NULL},
        {"tokenizer.json", NULL, fast, NULL, NULL},
        {"added_tokens.json", NULL, NULL, NULL, "{\"<toy>\":1214}"},
        {"all of them", config, fast, "{}", "{\"<toy>\":1214}"},
        {"added_tokens.json after a byte order mark", NULL, NULL, NULL,
         "\xef\xbb\xbf{\"<toy>\":1214}"},
        {"a special token's name", NULL, NULL,
         "{\"additional_special_tokens\":[{\"content\":\"<toy>\"}]}", "{\"<toy>\":1214}"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct tokenizer *t =
            open_with(files[i].config, files[i].fast, files[i].map, files[i].plain);
        ok(gives(t, "a <toy> b", IDS(A_WORD, 1214, B_WORD)), "%s", files[i].what);
        ok(gives(t, "A<toy>b<toy>", IDS(A_WORD, 1214, B_WORD, 1214)) &&
               gives(t, "<toy>", IDS(1214)) && t && tokenizer_vocab_size(t) == 1215,
           "%s: between letters, at both ends", files[i].what);
        tokenizer_free(t);
    }
    struct tokenizer *t = open_with(NULL, NULL, NULL, NULL);
    ok(t && gives(t, "a b", IDS(A_WORD, B_WORD)) && tokenizer_vocab_size(t) == 1214,
       "no such file, no token");
    tokenizer_free(t);
}

static void test_flags(void)
{
    struct tokenizer *t = open_with("{\"added_tokens_decoder\":{"
                                    "\"1214\":{\"content\":\"<Raw>\",\"normalized\":false},"
                                    "\"1215\":{\"content\":\"<Any>\",\"normalized\":true},"
                                    "\"1216\":{\"content\":\"toy\",\"single_word\":true},"
                                    "\"1217\":{\"content\":\"<Mark>\",\"special\":true},"
                                    "\"1218\":{\"content\":\"<Mark>er\",\"special\":true},"
                                    "\"1219\":{\"content\":\"caf\\u00e9\"}}}",
                                    NULL, NULL, NULL);
    ok(gives(t, "a <Raw> b", IDS(A_WORD, 1214, B_WORD)), "not normalised: as it is written");
    ok(!gives(t, "a <raw> b", IDS(A_WORD, 1214, B_WORD)), "and no other way");
    ok(gives(t, "a <aNY> b", IDS(A_WORD, 1215, B_WORD)), "normalised: in any case of letters");
    ok(gives(t, "a toy b", IDS(A_WORD, 1216, B_WORD)) && gives(t, "toy,toy", IDS(1216, 267, 1216)),
       "a single word");
    ok(!gives(t, "a toyb", IDS(A_WORD, 1216, B_WORD)) &&
           !gives(t, "\u00e9toy b", IDS(A_WORD, 1216, B_WORD)) && !gives(t, "toy_", IDS(1216, 318)),
       "no part of another");
    ok(gives(t, "a <Mark> b", IDS(A_WORD, 1217, B_WORD)) &&
           gives(t, "a <Mark>er b", IDS(A_WORD, 1218, B_WORD)),
       "of two that start alike the longer one");
    ok(gives(t, "CAFE\u0301", IDS(1219)), "normalised means composed too");
    ok(gives(t, "a b\u00e9", IDS(A_WORD, 65, 127, 358)), "its characters are no byte symbols");
    int32_t row[4];
    size_t n;
    ok(t && !tokenizer_encode(t, "<Raw><Raw><Raw><Raw>", 20, 4, row, &n, &err) && n == 4 &&
           row[2] == 1214 && row[3] == EOT,
       "a row that is full");
    ok(t && tokenizer_encode(t, "<Raw>\xff", 6, 4, row, &n, &err) == TEXT_BAD_UTF8 && n == 2,
       "bytes that are no UTF-8 behind a token: %s", err.text);
    ok(t && tokenizer_encode(t, "<Raw><Raw><Raw><Raw>\xff", 21, 4, row, &n, &err) == TEXT_BAD_UTF8,
       "and behind the end of the row");
    ok(t && tokenizer_encode(t, "\xff", 1, 2, row, &n, &err) == TEXT_BAD_UTF8,
       "and in a row without room");
    tokenizer_free(t);
}

static void test_ordinary(void)
{
    struct tokenizer *t = open_with("{\"added_tokens_decoder\":{\"0\":{\"content\":\"!\","
                                    "\"special\":true,\"normalized\":false},"
                                    "\"1212\":{\"content\":\"<|startoftext|>\",\"special\":true},"
                                    "\"1213\":{\"content\":\"<|endoftext|>\",\"special\":true}}}",
                                    NULL, "{\"pad_token\":\"!\"}", NULL);
    ok(gives(t, "a!", IDS(A_WORD, 256)), "a padding that is a character stays one");
    ok(t && tokenizer_sot(t) == SOT && tokenizer_eot(t) == EOT, "start and end");
    ok(!gives(t, "<|endoftext|>", IDS(EOT)), "which a caption does not spell this way");
    tokenizer_free(t);
}

static bool refused(const char *config, const char *fast, const char *map, const char *plain,
                    const char *why)
{
    struct tokenizer *t = open_with(config, fast, map, plain);
    bool good = !t && strstr(err.text, why);
    tokenizer_free(t);
    return good;
}

static void test_refused(void)
{
    ok(refused("{\"added_tokens_decoder\":{\"1214\":{\"content\":\"<toy>\"}}}", NULL, NULL,
               "{\"<toy>\":1215}", "<toy>"),
       "two ids");
    ok(refused("{\"added_tokens_decoder\":{\"7\":{\"content\":\"<|endoftext|>\"}}}", NULL, NULL,
               NULL, "<|endoftext|>"),
       "another end");
    ok(refused("{\"added_tokens_decoder\":{\"x\":{\"content\":\"<toy>\"}}}", NULL, NULL, NULL,
               "'x'"),
       "no id");
    ok(refused(NULL, "{\"added_tokens\":[{\"id\":1214}]}", NULL, NULL, "content"), "no content");
    ok(refused(NULL, NULL, NULL, "{\"<toy>\":-1}", "<toy>"), "below 0");
    ok(refused(NULL, NULL, NULL, "{\"<toy>\":1214,\"<toy>\":1215}", "stands twice"), "twice");
    ok(refused(NULL, NULL, NULL, "{\"\xff\":1214}", "UTF-8"), "no UTF-8");
    ok(refused(NULL, NULL, "{\"additional_special_tokens\":[\"<toy>\"]}", NULL, "no id"),
       "a mark that nothing gives an id");
    ok(refused(NULL, NULL, NULL, "[]", "added_tokens.json"), "an array");
}

// vocab.json and merges.txt may start with a byte order mark; names may not stand twice.
static void test_strict(void)
{
    struct map m;
    char *text;
    if (map_open(&m, VOCAB "vocab.json", &err) || !(text = malloc(m.n + 64)))
        exit(1);
    memcpy(text, "\xef\xbb\xbf", 3);
    memcpy(text + 3, m.data, m.n);
    put("vocab.json", text, m.n + 3);
    map_close(&m);
    put("merges.txt", "\xef\xbb\xbf#version: 0.2\n", 17);
    struct tokenizer *t = open_with(NULL, NULL, NULL, NULL);
    ok(gives(t, "a b", IDS(A_WORD, B_WORD)), "byte order marks");
    tokenizer_free(t);
    put_text("vocab.json", "{\"a\":1,\"a\":2}");
    ok(refused(NULL, NULL, NULL, NULL, "stands twice"), "a token twice");
    free(text);
}

int main(void)
{
    if (!mkdtemp(dir))
        return 1;
    copy(VOCAB "vocab.json", "vocab.json");
    copy(VOCAB "merges.txt", "merges.txt");
    test_each_file();
    test_flags();
    test_ordinary();
    test_refused();
    test_strict();
    put_text("vocab.json", NULL);
    put_text("merges.txt", NULL);
    rmdir(dir);
    return tap_done();
}
