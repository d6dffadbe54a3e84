// SPDX-License-Identifier: Apache-2.0
#include "model/tokenizer-check.h"

int clip_check_tokenizer(const struct tokenizer *t, const struct clip_config *c, struct err *e)
{
    size_t size = tokenizer_vocab_size(t);
    int32_t eot = tokenizer_eot(t);
    if (size > (size_t)c->vocab)
        return err_set(e, "the tokenizer has %zu tokens, the model's vocab_size is %d", size,
                       c->vocab);
    // Reads the text at the first or last position, whatever token is there.
    if (c->text.read != CLIP_READ_END)
        return 0;
    if (c->eos_id >= 0 && eot != c->eos_id)
        return err_set(e,
                       "the tokenizer's end-of-text id is %d, the model reads a text at id %d: a "
                       "tokenizer of another model",
                       (int)eot, c->eos_id);
    if (c->eos_id < 0 && (size_t)eot + 1 != size)
        return err_set(e,
                       "the tokenizer's end-of-text id %d is not its largest, where the model "
                       "reads a text: a tokenizer of another model",
                       (int)eot);
    return 0;
}

struct tokenizer *clip_tokenizer_open(const char *path, const struct clip_config *c, struct err *e)
{
    struct tokenizer_style style = {.open_clip = c->hf == CLIP_HF_NONE,
                                    .canonicalize = c->words.canonicalize,
                                    .strip_sep = c->words.strip_sep};
    struct tokenizer *t = tokenizer_open_as(path, &style, e);
    if (t && clip_check_tokenizer(t, c, e)) {
        tokenizer_free(t);
        return NULL;
    }
    return t;
}
