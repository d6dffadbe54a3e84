// SPDX-License-Identifier: Apache-2.0
// --ema X: an exponential average of the weights, A <- X A + (1 - X) W after each step that was
// taken, from the first weights on (as open_clip's users do it with timm's ModelEma). float32 on
// the device.
#ifndef TRAIN_AVERAGE_H
#define TRAIN_AVERAGE_H

#include <stddef.h>

#include "base/err.h"
#include "device/dev.h"
#include "model/lock.h"

struct train_average {
    struct dev *d; // NULL: none is kept
    float *flat;   // device [n], as the weights
    size_t n;
    double x;
};

// Zero. 0 or -1.
int train_average_open(struct train_average *a, struct dev *d, size_t n, double x, struct err *e);
void train_average_close(struct train_average *a);
// The average of one set of weights, device [n]: itself.
void train_average_start(struct train_average *a, const float *weights);
// Adds the weights of one more step; queued on the device. Does nothing if no average is kept.
void train_average_take(struct train_average *a, const float *weights);
// Exchanges both, but for locked tensors. Waits for the device. 0 or -1.
int train_average_swap(struct train_average *a, float *weights, const struct clip_table *t,
                       const struct clip_locks *locks, struct err *e);

#endif
