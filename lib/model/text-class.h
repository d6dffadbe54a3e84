// SPDX-License-Identifier: Apache-2.0
// A text tower whose class token stands behind the text (CoCa): its rows, and its attention.
#ifndef MODEL_TEXT_CLASS_H
#define MODEL_TEXT_CLASS_H

#include "model/tower.h"

// Tokens of a caption that are computed, the class token not counted: up to the last one that it
// attends to.
size_t clip_class_tokens(const struct clip_config *c, const int32_t *tokens);
// clip_tape_texts for such a tower; t->start has the rows of tokens alone.
void clip_class_texts(struct dev *d, struct clip_tape *t, const int32_t *tokens, bool whole);
// The class tokens' rows of t->x[0].
void clip_class_embed(struct dev *d, struct clip_tape *t);
// Attention of a block: of tokens, where they are queries, and of class tokens. `a` is the block's
// (clip_block_attention).
void clip_class_attention(struct dev *d, struct clip_tape *t, const struct dev_attention *a);

#endif
