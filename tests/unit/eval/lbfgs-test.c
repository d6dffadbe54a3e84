// SPDX-License-Identifier: Apache-2.0
// lbfgs: known minima; probe's search of C.
#include <math.h>

#include "eval/lbfgs.h"
#include "eval/linear-probe.h"
#include "unit/tap.h"

static struct err e;

// Rosenbrock in n variables: minimum 0 at all ones.
static int rosenbrock(void *user, const double *x, double *value, double *g, struct err *err)
{
    (void)err;
    size_t n = *(size_t *)user;
    *value = 0;
    for (size_t i = 0; i < n; i++)
        g[i] = 0;
    for (size_t i = 0; i + 1 < n; i++) {
        double a = x[i + 1] - x[i] * x[i], b = 1 - x[i];
        *value += 100 * a * a + b * b;
        g[i] += -400 * a * x[i] - 2 * b;
        g[i + 1] += 200 * a;
    }
    return 0;
}

// A badly scaled parabola with its minimum at i.
static int parabola(void *user, const double *x, double *value, double *g, struct err *err)
{
    (void)err;
    size_t n = *(size_t *)user;
    *value = 0;
    for (size_t i = 0; i < n; i++) {
        double s = pow(10, (double)(i % 7) - 3), d = x[i] - (double)i;
        *value += s * d * d / 2;
        g[i] = s * d;
    }
    return 0;
}

static int fails(void *user, const double *x, double *value, double *g, struct err *err)
{
    (void)user, (void)x, (void)value, (void)g;
    return err_set(err, "no value");
}

static int peaked(void *user, double c, double *share, struct err *err)
{
    (void)err;
    ++*(int *)user;
    *share = -fabs(log10(c) - 1.6);
    return 0;
}

int main(void)
{
    struct lbfgs_result r;
    const struct lbfgs_options o = {1000, 1e-8, 0};
    double x[50] = {0};
    size_t n = 50;
    ok(lbfgs_minimise(n, x, rosenbrock, &n, &o, &r, &e) == 0 && r.converged &&
           fabs(x[0] - 1) < 1e-6 && fabs(x[49] - 1) < 1e-6,
       "Rosenbrock in 50 variables: %d iterations, %d values", r.iterations, r.evaluations);
    double p[20] = {0};
    n = 20;
    ok(lbfgs_minimise(n, p, parabola, &n, &o, &r, &e) == 0 && r.converged &&
           fabs(p[19] - 19) < 1e-4 && fabs(p[0]) < 1e-4,
       "a parabola scaled 1 to 1e6: %d iterations", r.iterations);
    ok(lbfgs_minimise(n, p, fails, &n, &o, &r, &e) == -1, "the function's error comes up");
    int best, calls = 0;
    ok(probe_search(peaked, &calls, &best, &e) == 0 &&
           fabs(log10(probe_grid_c(best)) - 1.625) < 1e-9 && calls <= 15,
       "C found in %d fits", calls);
    return tap_done();
}
