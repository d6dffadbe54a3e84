// SPDX-License-Identifier: Apache-2.0
// Counts the usable samples of an epoch: a data command that yields none would be started again and
// again without end.
#ifndef TRAIN_USABLE_H
#define TRAIN_USABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

// Why a sample is skipped; the three rows are in the order of the folders.
enum train_lack {
    LACK_TEACHER_IMAGE,
    LACK_TEACHER_TEXT,
    LACK_LABEL,
    LACK_PICTURE,
    LACK_CAPTION,
    LACK_UTF8,
    N_LACKS
};

// Counts of the samples of the epoch so far.
struct train_usable {
    uint64_t used, lack[N_LACKS];
    bool earlier; // a part of the epoch was read by an earlier part of the run
};

// Ends the epoch of `name` and resets the counts: 0, or -1 with the reasons if the epoch had
// samples but none could be used.
int train_usable_end(struct train_usable *u, const char *name, struct err *e);

#endif
