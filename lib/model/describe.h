// SPDX-License-Identifier: Apache-2.0
// What a config says, in numbers.
#ifndef MODEL_DESCRIBE_H
#define MODEL_DESCRIBE_H

#include <stddef.h>

#include "config/config.h"

struct clip_numbers {
    size_t parameters[2];      // by enum clip_tower_id; logit scale and bias are the text tower's
    double gflop[2], cheap[2]; // of a picture, of a text of full length: whole, and without what
                               // cannot change the result
    char text[2][256];         // each tower in words
};

// 0, or -1: too large to count.
int clip_describe(const struct clip_config *c, struct clip_numbers *n, struct err *e);

#endif
