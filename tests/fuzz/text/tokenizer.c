// SPDX-License-Identifier: Apache-2.0
// Any bytes as a caption: refused as no UTF-8, or cleaned to UTF-8 and framed as a row of known
// ids.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "text/tokenizer-vocab.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tokenizer *open_small(void)
{
    static const char merges[] = "#version: 0.2\ni n\nt h\na n\nth e</w>\nin g</w>\na a\naa aa\n";
    struct vocab v = {0};
    struct err e;
    if (vocab_read_openai(&v, merges, sizeof merges - 1, &e))
        abort();
    struct tokenizer *t = tokenizer_build(&v, &e);
    vocab_release(&v);
    if (!t)
        abort();
    return t;
}

static void check_row(const struct tokenizer *t, const int32_t *row, size_t n, size_t context)
{
    if (n < 2 || n > context || row[0] != tokenizer_sot(t) || row[n - 1] != tokenizer_eot(t))
        abort();
    for (size_t i = 0; i < context; i++) {
        if (row[i] < 0 || (size_t)row[i] >= tokenizer_vocab_size(t) || (i >= n && row[i]))
            abort();
    }
}

static void check_utf8(const struct text_bytes *b)
{
    int32_t c;
    for (size_t i = 0; i < b->n;) {
        utf8proc_ssize_t k = utf8proc_iterate(b->data + i, (utf8proc_ssize_t)(b->n - i), &c);
        if (k <= 0)
            abort();
        i += (size_t)k;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tokenizer *t;
    if (!t)
        t = open_small();
    int32_t row[TOKENIZER_CONTEXT];
    size_t n, context = size ? 2 + data[0] % (TOKENIZER_CONTEXT - 1) : 2;
    struct err e;
    struct text_bytes clean = {0};
    enum text_status s = text_clean((const char *)data, size, &clean, &e);
    if (tokenizer_encode(t, (const char *)data, size, context, row, &n, &e) != s || s == TEXT_ERROR)
        abort();
    check_row(t, row, n, context);
    if (s == TEXT_OK)
        check_utf8(&clean);
    else if (n != 2)
        abort();
    text_bytes_release(&clean);
    return 0;
}
