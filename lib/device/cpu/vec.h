// SPDX-License-Identifier: Apache-2.0
// Elementwise operations on n float32 values, the same bits at every level. Results may go where an
// operand stands.
#ifndef DEVICE_CPU_VEC_H
#define DEVICE_CPU_VEC_H

#include <stddef.h>

void vec_add(const float *a, const float *b, float *y, size_t n); // y = a + b
void vec_mul(const float *a, const float *b, float *y, size_t n); // y = a b
void vec_scale(float *x, float by, size_t n);                     // x *= by
// y += (x + bias) gamma; bias and gamma may be NULL
void vec_add_branch(float *y, const float *x, const float *bias, const float *gamma, size_t n);

#endif
