// SPDX-License-Identifier: Apache-2.0
// Writes a vocabulary in Hugging Face's form, so that transformers loads a model's folder with the
// tokenizer that the model was trained with.
#ifndef TEXT_TOKENIZER_WRITE_H
#define TEXT_TOKENIZER_WRITE_H

#include "text/tokenizer-vocab.h"

// vocab.json, merges.txt, tokenizer.json, tokenizer_config.json and special_tokens_map.json into
// `folder`, each whole or not at all, as a CLIP repository has them: the special tokens under
// Hugging Face's names, added tokens with their flags, model_max_length = context. The ids are
// those of `v`, whatever file it came from. 0 or -1.
int vocab_write_hf(const struct vocab *v, const char *folder, int context, struct err *e);

#endif
