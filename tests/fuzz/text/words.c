// SPDX-License-Identifier: Apache-2.0
// Any JSON as the tokenizer.json of a folder (Unigram, Gemma's BPE, WordPiece): refused, or a
// tokenizer whose rows have known ids, whatever the caption.
#include <string.h>

#include "fuzz/file.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CONTEXT = 16 };

static void encode(const struct tokenizer *t, const char *text, size_t len)
{
    int32_t row[CONTEXT];
    size_t n;
    struct err e;
    if (tokenizer_encode(t, text, len, CONTEXT, row, &n, &e) == TEXT_ERROR)
        return; // more special ids than the row has room for
    for (size_t i = 0; i < CONTEXT; i++)
        if (row[i] < 0 || (size_t)row[i] >= tokenizer_vocab_size(t))
            abort();
}

static void encode_all(const char *dir, const struct tokenizer_style *style, const uint8_t *data,
                       size_t size)
{
    static const char *const texts[] = {
        "", "a red thing", "  two\tspaces <eos> [SEP]</s>x ",
        "\xc3\xa9\xe2\x96\x81 \xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x98\x80!"};
    struct err e;
    struct tokenizer *t = tokenizer_open_as(dir, style, &e);
    if (!t)
        return;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        encode(t, texts[i], strlen(texts[i]));
    encode(t, (const char *)data, size < 300 ? size : 300);
    tokenizer_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct tokenizer_style styles[] = {{false, false, false}, {true, true, true}};
    static char dir[] = "/tmp/fuzz-words.XXXXXX";
    char path[128];
    memcpy(dir + sizeof dir - 7, "XXXXXX", 6);
    if (!mkdtemp(dir))
        abort();
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    fuzz_file_put(path, data, size);
    encode_all(dir, &styles[size % 2], data, size);
    unlink(path);
    rmdir(dir);
    return 0;
}
