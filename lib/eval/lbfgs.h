// SPDX-License-Identifier: Apache-2.0
// L-BFGS (Nocedal and Wright, Numerical Optimization, algorithms 7.4, 7.5 and 3.5): minimises a
// smooth function of n variables from its value and gradient, with a strong Wolfe line search.
#ifndef EVAL_LBFGS_H
#define EVAL_LBFGS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct lbfgs_options {
    int max_iterations;
    double gradient_tolerance; // stops when max |g_i| is at most this
    double value_tolerance;    // or when a step lowers the value by less than this share of it
};

struct lbfgs_result {
    int iterations, evaluations;
    double value, gradient_max;
    bool converged;
};

// Fills g[n] and *value at x[n]; 0 or -1.
typedef int lbfgs_fn(void *user, const double *x, double *value, double *g, struct err *e);

// Improves x[n] in place. 0, or -1 (no memory, or the function's error).
int lbfgs_minimise(size_t n, double *x, lbfgs_fn *fn, void *user, const struct lbfgs_options *o,
                   struct lbfgs_result *r, struct err *e);

#endif
