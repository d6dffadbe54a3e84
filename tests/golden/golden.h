// SPDX-License-Identifier: Apache-2.0
// bin/golden: holds this build against reference results made elsewhere.
#ifndef GOLDEN_H
#define GOLDEN_H

#include <stdbool.h>
#include <stdint.h>

// The device that runs: bin/golden-cuda is the same program on "cuda".
#ifndef GOLDEN_DEVICE
#define GOLDEN_DEVICE "cpu"
#endif

// Both print what they compare and the largest errors; 0 all within bounds, 1 not, or an error.
int golden_model(const char *dir);
// Weak: a build of the model half alone has none.
int golden_train(const char *dir, bool bf16) __attribute__((weak));
// Prints the largest difference of two float arrays of one shape; 0 when it is at most `bound`.
int golden_agree(const char *a, const char *b, double bound) __attribute__((weak));
// Writes a model folder with synthetic weights; dtype is "f32", "f16" or "bf16". 0 or 1.
int golden_make(const char *config, const char *dir, const char *dtype, uint64_t seed);

#endif
