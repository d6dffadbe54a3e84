// SPDX-License-Identifier: Apache-2.0
// Activation functions of the CPU device.
#ifndef DEV_CPU_ACT_H
#define DEV_CPU_ACT_H

#include <stddef.h>

#include "dev.h"

// x[i] = act(x[i]). GELU is x Phi(x), within 1e-7 + 1e-6 |result| of the exact value; QuickGELU is
// x sigmoid(1.702 x).
void cpu_act(enum dev_act act, float *x, size_t n);

#endif
