// SPDX-License-Identifier: Apache-2.0
// The clock for durations.
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

// Seconds since a fixed moment, which is the same for the whole process; never decreases.
double clock_seconds(void);

#endif
