// SPDX-License-Identifier: Apache-2.0
// bin/golden: holds this build against reference results made elsewhere.
#ifndef GOLDEN_H
#define GOLDEN_H

// Both print what they compare and the largest errors; 0 all within bounds, 1 not, or an error.
int golden_model(const char *dir);
// Weak: a build of the model half alone has none.
int golden_train(const char *dir) __attribute__((weak));

#endif
