// SPDX-License-Identifier: Apache-2.0
// Any bytes as a vocabulary file of each form: refused, or a tokenizer that encodes.
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer-vocab.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void encode_with(const struct vocab *v)
{
    static const char text[] = "The singing thing: 12 \xc3\xa9t\xc3\xa9s, don't! <end_of_text>";
    struct err e;
    struct tokenizer *t = tokenizer_build(v, &e);
    if (!t)
        return;
    int32_t row[TOKENIZER_CONTEXT];
    size_t n;
    if (tokenizer_encode(t, text, sizeof text - 1, TOKENIZER_CONTEXT, row, &n, &e))
        abort();
    for (size_t i = 0; i < n; i++) {
        if (row[i] < 0 || (size_t)row[i] >= tokenizer_vocab_size(t))
            abort();
    }
    tokenizer_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e;
    struct vocab v = {0};
    char *text = malloc(size + 1); // the readers want a NUL after the data
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = 0;
    bool object = size && text[0] == '{';
    if (object && memmem(text, size, "\"model\"", 7)
            ? !vocab_read_tokenizer_json(&v, text, size, &e)
        : object ? !vocab_read_vocab_json(&v, text, size, &e)
                 : !vocab_read_openai(&v, text, size, &e))
        encode_with(&v);
    vocab_release(&v);
    free(text);
    return 0;
}
