// SPDX-License-Identifier: Apache-2.0
// What pieces.h is without libsentencepiece.
#include "text/pieces.h"

#ifndef CLIPCID_SENTENCEPIECE
struct piece_model *piece_model_new(const void *proto, size_t n, struct err *e)
{
    (void)proto, (void)n;
    err_set(e, "a sentencepiece tokenizer: this build has no libsentencepiece (Debian: "
               "libsentencepiece-dev, then make again)");
    return NULL;
}

void piece_model_free(struct piece_model *m)
{
    (void)m;
}

size_t piece_model_size(const struct piece_model *m)
{
    (void)m;
    return 0;
}

int32_t piece_model_find(const struct piece_model *m, const char *piece)
{
    (void)m, (void)piece;
    return -1;
}

int32_t piece_model_end(const struct piece_model *m)
{
    (void)m;
    return -1;
}

int piece_model_normalize(const struct piece_model *m, const uint8_t *text, size_t n,
                          struct text_bytes *out, struct err *e)
{
    (void)m, (void)text, (void)n, (void)out;
    return err_set(e, "this build has no libsentencepiece");
}

int piece_model_encode(const struct piece_model *m, const uint8_t *text, size_t n, int32_t *ids,
                       size_t max, size_t *used, struct err *e)
{
    (void)m, (void)text, (void)n, (void)ids, (void)max, (void)used;
    return err_set(e, "this build has no libsentencepiece");
}
#endif
