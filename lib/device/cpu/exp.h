// SPDX-License-Identifier: Apache-2.0
// The functions of the CPU device that are made of exponentials.
#ifndef DEVICE_CPU_EXP_H
#define DEVICE_CPU_EXP_H

#include <stddef.h>

#include "device/dev.h"

// x[i] = act(x[i] + bias[i]); bias may be NULL. GELU is x Phi(x), within 1e-7 + 4e-7 |result| of
// the exact value; QuickGELU is x sigmoid(1.702 x); the tanh form,
// x/2 (1 + tanh u), is x sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3).
void cpu_bias_act(enum dev_act act, const float *bias, float *x, size_t n);
// s[i] = exp(s[i] - max) for i < n, 0 for n <= i < padded; *max is the largest of the n. Returns
// the sum. n > 0; padded a multiple of 16.
float cpu_softmax_row(float *s, size_t n, size_t padded, float *max);

// What processors with vectors have instead, chosen at the first use.
struct cpu_exp {
    void (*gelu)(const float *bias, float *x, size_t n);
    void (*quick_gelu)(const float *bias, float *x, size_t n);
    void (*tanh_gelu)(const float *bias, float *x, size_t n);
    float (*softmax_row)(float *s, size_t n, size_t padded, float *max);
};
extern const struct cpu_exp cpu_exp_plain, cpu_exp_avx2, cpu_exp_avx512;

#endif
