// SPDX-License-Identifier: Apache-2.0
// float16 (IEEE 754 binary16) and bfloat16 (the upper half of a float32), held as uint16_t.
// Rounding is to nearest, ties to even; overflow goes to infinity; subnormals are kept; a NaN stays
// a NaN (quiet, upper payload bits and sign kept), so the scalar and the F16C path agree bit for
// bit.
#ifndef BASE_HALF_H
#define BASE_HALF_H

#include <stddef.h>
#include <stdint.h>

float half_to_f32_one(uint16_t h);
uint16_t half_from_f32_one(float f);
float bf16_to_f32_one(uint16_t h);
uint16_t bf16_from_f32_one(float f);

// Converts n values; src and dst must not overlap. Uses F16C where the processor has it.
void half_to_f32(const uint16_t *src, float *dst, size_t n);
void half_from_f32(const float *src, uint16_t *dst, size_t n);
void bf16_to_f32(const uint16_t *src, float *dst, size_t n);
void bf16_from_f32(const float *src, uint16_t *dst, size_t n);

#endif
