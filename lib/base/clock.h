// SPDX-License-Identifier: Apache-2.0
// The clock that durations are measured with.
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

// Seconds since some moment, the same for the whole process; never runs backwards.
double clock_seconds(void);

#endif
