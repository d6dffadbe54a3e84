// SPDX-License-Identifier: Apache-2.0
// The results of an evaluation, a line of JSON for each set, kept as each set ends.
//
// A file is replaced, whole, after every set: a run that fails or is killed leaves what it
// finished, and the next run with the same output takes from it the lines whose `inputs` digest
// (eval/inputs.h) is unchanged. Standard output, a pipe or a device gets each line when it is
// ready.
#ifndef EVAL_RESULTS_H
#define EVAL_RESULTS_H

#include <stdbool.h>
#include <stddef.h>

#include "system/digest.h"
#include "base/err.h"
#include "system/io.h"

struct eval_old_line {
    char *text; // with its line feed; owned; NULL: taken
    char inputs[DIGEST_HEX];
};
struct eval_results {
    const char *path;
    bool stream;
    struct out out; // of a stream
    char **line;    // [n] with line feeds; owned
    size_t n, cap;
    struct eval_old_line *old;
    size_t n_old, cap_old;
};

// Opens `path` ("-" = standard output), which stays borrowed, and refuses one that cannot be
// written. `model`: the model's digest; lines of other models are dropped. 0 or -1.
int eval_results_open(struct eval_results *r, const char *path, const char *model, struct err *e);
// The earlier line made from these inputs, removed from the earlier ones; NULL: there is none. The
// caller frees it.
char *eval_results_take(struct eval_results *r, const char *inputs);
// Appends a line with its line feed, which belongs to `r` from now on, and brings it to the output.
// 0 or -1.
int eval_results_add(struct eval_results *r, char *line, struct err *e);
// Leaves in the file the lines of this run alone. A run without any leaves the file as it is. 0 or
// -1.
int eval_results_finish(struct eval_results *r, struct err *e);
void eval_results_release(struct eval_results *r); // a zeroed one too

#endif
