// SPDX-License-Identifier: Apache-2.0
// The table of predictions, a line for each sample of a set of classes, TAB between the columns:
//     set, row, sample, label, top, score, label_name, top_name
// label: the class; top: the best classes, best first, ',' between them; score: of the first;
// names: of the label and of the first. '-' stands where a sample has no prediction.
#ifndef EVAL_PREDICTIONS_H
#define EVAL_PREDICTIONS_H

#include "eval/tasks.h"
#include "system/io.h"

int eval_predictions_head(struct out *o, struct err *e);
// The lines of one set; none when the result has no predictions. 0 or -1.
int eval_predictions_write(struct out *o, const struct eval_set *s, const struct eval_features *f,
                           const struct eval_result *r, struct err *e);

#endif
