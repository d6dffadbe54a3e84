// SPDX-License-Identifier: Apache-2.0
// Whether a tokenizer is the one that a model was made for, as far as the two can tell.
#ifndef MODEL_TOKENIZER_CHECK_H
#define MODEL_TOKENIZER_CHECK_H

#include "config/config.h"
#include "base/err.h"
#include "text/tokenizer.h"

// Refuses a tokenizer with more ids than the model's table has rows, and one whose end-of-text id
// is not that at which the model reads a text: its own where it names one, else the largest. 0 or
// -1.
int clip_check_tokenizer(const struct tokenizer *t, const struct clip_config *c, struct err *e);

// The tokenizer at `path` (tokenizer.h) as the model's config uses it, checked. NULL with e set.
struct tokenizer *clip_tokenizer_open(const char *path, const struct clip_config *c, struct err *e);

#endif
