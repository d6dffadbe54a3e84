// SPDX-License-Identifier: Apache-2.0
// The names a tensor of the table has, by itself and in files: open_clip's, timm's inside them, and
// Hugging Face's. Private to table.c, weights.c and folder.c.
#ifndef MODEL_NAMES_H
#define MODEL_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/table.h"

enum { CLIP_FILE_NAME_MAX = CLIP_NAME_MAX + 32, CLIP_PARTS_MAX = 3 };

// A piece of a tensor in a file; pieces lie one below the other.
struct clip_file_part {
    char name[CLIP_FILE_NAME_MAX]; // "": in no file, zero
    int rank;
    uint64_t shape[4];
    size_t rows; // of the table's first dimension
};

// The pieces in which files with Hugging Face's names (`hf`), or with open_clip's, keep a tensor,
// considering c->custom_text. Returns their number; 0: such a file cannot hold it.
int clip_file_parts(const struct clip_config *c, const struct clip_tensor *t, bool hf,
                    struct clip_file_part part[CLIP_PARTS_MAX]);
// Whether the file has a projection as [out, in].
bool clip_file_transposed(const struct clip_config *c, const struct clip_tensor *t, bool hf);
// The table's own name: open_clip's without "text.", one for all pieces.
void clip_tensor_name(const struct clip_config *c, const struct clip_tensor *t,
                      char name[CLIP_NAME_MAX]);

#endif
