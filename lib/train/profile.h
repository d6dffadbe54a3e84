// SPDX-License-Identifier: Apache-2.0
// --profile N: a table of the time and FLOP/s of N steps, by kind of work and by block.
#ifndef TRAIN_PROFILE_H
#define TRAIN_PROFILE_H

#include <stdint.h>

#include "device/profile.h"
#include "system/log.h"

// After dev_profile_end: notes, a line a row.
void train_profile_say(const struct dev_profile *p, uint64_t steps, struct log *log);

#endif
