// SPDX-License-Identifier: Apache-2.0
// Linear probe: multinomial logistic regression on features (method.md 5),
//     minimise over W, b:  C sum_i CE(softmax(W x_i + b), y_i) + |W|^2 / 2
// by L-BFGS from zero; the bias is free of the penalty.
#ifndef EVAL_LINEAR_PROBE_H
#define EVAL_LINEAR_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "device/dev.h"
#include "base/err.h"

struct probe_data {
    const float *x;       // device, [n, dim]
    const int32_t *label; // host, [n], in [0, classes)
    size_t n, dim, classes;
};

struct probe {
    double *w; // [classes, dim + 1]: weights, then the bias; owned
    size_t dim, classes;
    int iterations;
    double value; // of the objective
    bool converged;
};

// Fits at one C, at most max_iterations steps, starting at p when it holds a model of the same
// shape (any start leads to the same minimum). `exact`: the last iterations in float64 on the CPU,
// for the fit whose figures are reported. p: zeroed or fitted before. 0 or -1.
int probe_fit(struct dev *dev, const struct probe_data *d, double c, int max_iterations, bool exact,
              struct probe *p, struct err *e);
void probe_release(struct probe *p);
// scores[n, classes] (host) = W x + b of device rows x[n, dim].
int probe_scores(struct dev *dev, const struct probe *p, const float *x, size_t n, float *scores,
                 struct err *e);

// The sweep: 97 values of C, 1e-6 to 1e6, 8 a decade; 7 of them first, then around the best with
// the step halved until it is one. `good` gets the share of right answers at a C on the validation
// rows.
enum { PROBE_GRID = 97 };
double probe_grid_c(int k);
typedef int probe_score_fn(void *user, double c, double *share, struct err *e);
// *best: position on the grid; ties go to the smaller C.
int probe_search(probe_score_fn *score, void *user, int *best, struct err *e);

#endif
