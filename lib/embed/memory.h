// SPDX-License-Identifier: Apache-2.0
// Whether embedding fits into memory: the model on its device, the batches on the host.
#ifndef EMBED_MEMORY_H
#define EMBED_MEMORY_H

#include "model/model.h"
#include "embed/batch.h"
#include "base/err.h"

enum { EMBED_MEMORY_TEXT = 240 };

// `text` gets what it takes. -1: more than there is, with the batch that would fit.
int embed_check_memory(const struct clip_table *t, const struct clip_model_options *o,
                       struct dev *d, const struct embed_shape *s, char text[EMBED_MEMORY_TEXT],
                       struct err *e);

#endif
