// SPDX-License-Identifier: Apache-2.0
// A text or a picture as a unit row, by the model that made a set's embeddings.
#ifndef FIND_QUERY_H
#define FIND_QUERY_H

#include "find/set.h"

struct find_query {
    const char *model;     // folder
    const char *tokenizer; // or NULL: the model's folder
    const char *text;      // or NULL: the picture
    const char *image;     // file
    const char *device;
    int threads;
};
// q[set->files.set.dim]. A model that is not the one of the embeddings is refused, where their
// sidecars name it. 0 or -1.
int find_query(const struct find_query *o, const struct find_set *set, float *q, struct err *e);

#endif
