// SPDX-License-Identifier: Apache-2.0
// Private to model/weights.c and model/folder.c: the names a tensor of the table has in files.
// Hugging Face's CLIPModel keeps q, k and v apart and the two projections as [out, in].
#ifndef MODEL_NAMES_H
#define MODEL_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "model/table.h"

enum { CLIP_FILE_NAME_MAX = CLIP_NAME_MAX + 32 };

// In how many pieces CLIPModel keeps it: 1, or 3 (q, k, v, one below the other), or 0: it has none.
int clip_hf_parts(const struct clip_tensor *t);
bool clip_hf_transposed(const struct clip_tensor *t);
// Name and shape of one piece.
void clip_hf_name(const struct clip_tensor *t, int part, char name[CLIP_FILE_NAME_MAX]);
void clip_hf_shape(const struct clip_tensor *t, uint64_t shape[4]);
// open_clip's name, with "text." before those of the text tower when custom_text.
void clip_open_clip_name(const struct clip_tensor *t, bool custom_text,
                         char name[CLIP_FILE_NAME_MAX]);

#endif
