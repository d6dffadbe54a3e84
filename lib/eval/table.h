// SPDX-License-Identifier: Apache-2.0
// Results as a CSV with the columns that CLIP_benchmark's `build` makes of its JSON files: the
// metrics of all results, in the order they are met, then dataset, model, pretrained, task,
// language and model_fullname. A metric that a result has not is empty.
#ifndef EVAL_TABLE_H
#define EVAL_TABLE_H

#include "base/err.h"
#include "formats/json.h"

struct eval_table {
    cJSON *rows; // array of results; NULL: none yet
};

// Keeps a copy of a result (a line of eval/result.h). 0 or -1.
int eval_table_add(struct eval_table *t, const cJSON *result, struct err *e);
// Writes the file, whole or not at all. 0 or -1.
int eval_table_write(const struct eval_table *t, const char *path, struct err *e);
void eval_table_release(struct eval_table *t); // safe on a zeroed struct

#endif
