// SPDX-License-Identifier: Apache-2.0
// The few greatest of many values.
#ifndef BASE_GREATEST_H
#define BASE_GREATEST_H

#include <stddef.h>

// Puts v among the n > 0 greatest, best[0] >= best[1] ..., which begin as -INFINITY. NaN is left
// out.
static inline void greatest_keep(float *best, size_t n, float v)
{
    if (!(v > best[n - 1]))
        return;
    size_t i = n - 1;
    for (; i > 0 && v > best[i - 1]; i--)
        best[i] = best[i - 1];
    best[i] = v;
}

#endif
