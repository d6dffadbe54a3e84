// SPDX-License-Identifier: Apache-2.0
// A digest of all that the result of a set depends on, so that a finished result can be told from
// one that has to be made again.
#ifndef EVAL_INPUTS_H
#define EVAL_INPUTS_H

#include "eval/features.h"

// Digest of the tokenizer's files at `path`, a file or a folder. 0 or -1.
int eval_tokenizer_digest(const char *path, char hex[DIGEST_HEX], struct err *e);
// Digest of the model (weights, config, tokenizer, how it runs), the set (names, templates, the
// bytes of the shards of `split`, and of `train` when that is not NULL), `options`, a text of all
// else, and this program's version. Reads the shards once. 0 or -1.
int eval_inputs(const struct eval_model *m, const struct eval_set *s, const char *split,
                const char *train, const char *options, char hex[DIGEST_HEX], struct err *e);

#endif
