// SPDX-License-Identifier: Apache-2.0
// What one epoch gives for training: a data command without a usable sample would be run for ever.
#ifndef TRAIN_USABLE_H
#define TRAIN_USABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

// Why a sample is passed over; the three rows in the order of the folders.
enum train_lack {
    LACK_TEACHER_IMAGE,
    LACK_TEACHER_TEXT,
    LACK_LABEL,
    LACK_PICTURE,
    LACK_CAPTION,
    LACK_UTF8,
    N_LACKS
};

// Samples of the epoch so far.
struct train_usable {
    uint64_t used, lack[N_LACKS];
    bool earlier; // a part of the epoch was read by an earlier part of the run
};

// The epoch `name` is over: 0, and counting starts again; -1 with the reasons when it had samples
// and none could be used.
int train_usable_end(struct train_usable *u, const char *name, struct err *e);

#endif
