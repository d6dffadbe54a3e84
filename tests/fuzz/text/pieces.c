// SPDX-License-Identifier: Apache-2.0
// Any bytes as a sentencepiece model: refused, or one whose ids are its own, whatever the text.
#include <stdlib.h>
#include <string.h>

#include "text/pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void encode(const struct piece_model *m, const void *text, size_t n)
{
    enum { IDS = 32 };
    int32_t ids[IDS];
    size_t used = 0;
    struct text_bytes normal = {0};
    struct err e;
    if (!piece_model_encode(m, text, n, ids, IDS, &used, &e))
        for (size_t i = 0; i < used; i++)
            if (ids[i] < 0 || (size_t)ids[i] >= piece_model_size(m))
                abort();
    piece_model_normalize(m, text, n, &normal, &e);
    text_bytes_release(&normal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const texts[] = {
        "", "a red thing", "  two  spaces </s>",
        "\xc3\xa9\xe2\x96\x81\xe6\x97\xa5 \xf0\x9f\x98\x80 \xef\xbc\xa1"};
    struct err e;
    struct piece_model *m = piece_model_new(data, size, &e);
    if (!m)
        return 0;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        encode(m, texts[i], strlen(texts[i]));
    encode(m, data, size < 200 ? size : 200);
    if (piece_model_end(m) >= (int32_t)piece_model_size(m) || piece_model_find(m, "a") < -1)
        abort();
    piece_model_free(m);
    return 0;
}
