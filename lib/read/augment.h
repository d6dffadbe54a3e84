// SPDX-License-Identifier: Apache-2.0
// The options by which pictures are made at random: of shard-read for the student, and of
// teacher-embed, so that the teacher can see the same crops.
#ifndef READ_AUGMENT_H
#define READ_AUGMENT_H

#include <stdbool.h>

#include "base/err.h"
#include "image/picture.h"

struct read_augment {
    bool random, flip;
    const char *scale, *ratio, *jitter; // "MIN,MAX", "MIN,MAX", "B,C,S,H"; jitter may be NULL
    double jitter_prob, gray;
    bool scale_given, ratio_given, jitter_prob_given;
};

// Fills in what it is about: the crop's random members and the colours. 0 or -1: wrong usage.
int read_augment_parse(const struct read_augment *a, struct read_picture *p, struct err *e);

#endif
