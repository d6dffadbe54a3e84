// SPDX-License-Identifier: Apache-2.0
// Any JSON as each of the files that add tokens to a vocabulary: refused, or a tokenizer whose rows
// have known ids.
#include <string.h>

#include "fuzz/file.h"
#include "text/tokenizer-vocab.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void encode(const struct vocab *v, const uint8_t *data, size_t size)
{
    int32_t row[TOKENIZER_CONTEXT];
    size_t n;
    struct err e;
    struct tokenizer *t = tokenizer_build(v, &e);
    if (!t)
        abort();
    if (tokenizer_encode(t, (const char *)data, size, TOKENIZER_CONTEXT, row, &n, &e) == TEXT_ERROR)
        abort();
    for (size_t i = 0; i < n; i++)
        if (row[i] < 0 || (size_t)row[i] >= tokenizer_vocab_size(t))
            abort();
    tokenizer_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"tokenizer_config.json", "tokenizer.json",
                                        "special_tokens_map.json", "added_tokens.json"};
    static const char merges[] = "#version: 0.2\ni n\nt h\n";
    static char dir[] = "/tmp/fuzz-added.XXXXXX";
    char path[128];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct vocab v = {0};
        struct err e;
        memcpy(dir + sizeof dir - 7, "XXXXXX", 6);
        if (!mkdtemp(dir) || vocab_read_openai(&v, merges, sizeof merges - 1, &e))
            abort();
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        fuzz_file_put(path, data, size);
        if (!vocab_read_added(&v, dir, &e))
            encode(&v, data, size);
        vocab_release(&v);
        unlink(path);
        rmdir(dir);
    }
    return 0;
}
