// SPDX-License-Identifier: Apache-2.0
#include "device/cpu/vec.h"

#include "device/cpu/simd.h"

#define LEVELS_OF "device/cpu/vec-levels.h"
#include "device/cpu/levels.h"

void vec_add(const float *a, const float *b, float *y, size_t n)
{
    AT_LEVEL(add)(a, b, y, n);
}

void vec_mul(const float *a, const float *b, float *y, size_t n)
{
    AT_LEVEL(mul)(a, b, y, n);
}

void vec_scale(float *x, float by, size_t n)
{
    AT_LEVEL(scale)(x, by, n);
}

void vec_add_branch(float *y, const float *x, const float *bias, const float *gamma, size_t n)
{
    AT_LEVEL(add_branch)(y, x, bias, gamma, n);
}
