// SPDX-License-Identifier: Apache-2.0
// The activations in float64, for the tests of devices.
#ifndef UNIT_DEVICE_EXACT_H
#define UNIT_DEVICE_EXACT_H

#include <math.h>

#include "device/dev.h"

static inline double act_exact(enum dev_act a, double x)
{
    if (a == DEV_ACT_GELU)
        return x * 0.5 * erfc(-x * 0.70710678118654752440);
    if (a == DEV_ACT_TANH_GELU)
        return x / 2 * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    return a == DEV_ACT_QUICK_GELU ? x / (1 + exp(-1.702 * x)) : x;
}

#endif
