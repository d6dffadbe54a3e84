// SPDX-License-Identifier: Apache-2.0
// Shared by the tasks of eval/tasks.h.
#ifndef EVAL_WORK_H
#define EVAL_WORK_H

#include "eval/tasks.h"

void eval_add_figure(struct eval_result *r, const char *name, double value);
// A share with its interval.
void eval_add_share(struct eval_result *r, const char *name, uint64_t hits, uint64_t n);
// True for a row of zeros: its picture could not be decoded.
bool eval_row_failed(const struct eval_features *f, size_t row);

// Classification: room for f's rows; one row's scores [classes]; the figures, names with a prefix.
int eval_classify_begin(struct eval_result *r, const struct eval_features *f, size_t classes,
                        struct err *e);
int eval_classify_row(struct eval_result *r, const struct eval_features *f, size_t row,
                      const float *scores, struct err *e);
void eval_classify_end(struct eval_result *r, const char *prefix);

// scale * a b^T, a row at a time in order: host a [n_a, dim], b [n_b, dim]; fn gets scores [n_b].
typedef int eval_block_fn(void *user, size_t row, const float *scores, struct err *e);
int eval_scores(struct dev *d, const float *a, size_t n_a, const float *b, size_t n_b, size_t dim,
                float scale, eval_block_fn *fn, void *user, struct err *e);

#endif
