// SPDX-License-Identifier: Apache-2.0
#include "eval/lbfgs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { PAIRS = 10, LINE_STEPS = 25 };
static const double ARMIJO = 1e-4, CURVATURE = 0.9;

struct lbfgs_state {
    size_t n;
    lbfgs_fn *fn;
    void *user;
    double *block;                     // everything below lies in it
    double *x, *g, *d, *x_try, *g_try; // point, gradient, direction, trial
    double *s[PAIRS], *y[PAIRS];       // steps and gradient changes, a ring
    double rho[PAIRS];
    int n_pairs, newest;
    int evaluations;
};

static double dot(size_t n, const double *a, const double *b)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static double max_abs(size_t n, const double *a)
{
    double m = 0;
    for (size_t i = 0; i < n; i++)
        m = fmax(m, fabs(a[i]));
    return m;
}

static int state_init(struct lbfgs_state *t, size_t n, struct err *e)
{
    size_t all;
    if (!mem_mul(n, 4 + 2 * PAIRS, &all))
        return err_set(e, "too many variables");
    t->block = mem_alloc(all, sizeof(double), e);
    if (!t->block)
        return -1;
    double *p = t->block;
    t->g = p;
    t->d = p + n;
    t->x_try = p + 2 * n;
    t->g_try = p + 3 * n;
    for (int k = 0; k < PAIRS; k++) {
        t->s[k] = p + (4 + (size_t)k) * n;
        t->y[k] = p + (4 + PAIRS + (size_t)k) * n;
    }
    t->n = n;
    return 0;
}

// d = -H g by the two-loop recursion (algorithm 7.4).
static void direction(struct lbfgs_state *t)
{
    double alpha[PAIRS];
    size_t n = t->n;
    for (size_t i = 0; i < n; i++)
        t->d[i] = -t->g[i];
    for (int k = 0; k < t->n_pairs; k++) {
        int at = (t->newest - k + PAIRS) % PAIRS;
        alpha[at] = t->rho[at] * dot(n, t->s[at], t->d);
        for (size_t i = 0; i < n; i++)
            t->d[i] -= alpha[at] * t->y[at][i];
    }
    if (t->n_pairs) {
        const double *y = t->y[t->newest];
        double gamma = 1 / (t->rho[t->newest] * dot(n, y, y));
        for (size_t i = 0; i < n; i++)
            t->d[i] *= gamma;
    }
    for (int k = t->n_pairs - 1; k >= 0; k--) {
        int at = (t->newest - k + PAIRS) % PAIRS;
        double beta = t->rho[at] * dot(n, t->y[at], t->d);
        for (size_t i = 0; i < n; i++)
            t->d[i] += (alpha[at] - beta) * t->s[at][i];
    }
}

// Value and slope along d at x + step d.
static int probe_step(struct lbfgs_state *t, double step, double *value, double *slope,
                      struct err *e)
{
    for (size_t i = 0; i < t->n; i++)
        t->x_try[i] = t->x[i] + step * t->d[i];
    t->evaluations++;
    if (t->fn(t->user, t->x_try, value, t->g_try, e))
        return -1;
    *slope = dot(t->n, t->g_try, t->d);
    return 0;
}

// The minimum of the cubic through two points and slopes, kept off the ends; halving when it has
// none.
static double between(double a, double fa, double da, double b, double fb, double db)
{
    double d1 = da + db - 3 * (fa - fb) / (a - b);
    double square = d1 * d1 - da * db, low = fmin(a, b), high = fmax(a, b);
    double margin = 0.1 * (high - low), at = 0.5 * (a + b);
    if (square >= 0) {
        double d2 = copysign(sqrt(square), b - a);
        double cubic = b - (b - a) * (db + d2 - d1) / (db - da + 2 * d2);
        if (isfinite(cubic))
            at = cubic;
    }
    return fmin(fmax(at, low + margin), high - margin);
}

// Strong Wolfe (algorithms 3.5 and 3.6 in one loop): [lo, hi] brackets once hi is set. 1: found,
// the trial is accepted. 0: no step lowers the value any more. -1: error.
static int line_search(struct lbfgs_state *t, double f0, double slope0, double first, double *value,
                       struct err *e)
{
    double lo = 0, f_lo = f0, d_lo = slope0, hi = 0, f_hi = 0, d_hi = 0, step = first;
    bool bracketed = false;
    for (int k = 0; k < LINE_STEPS; k++) {
        double f, d;
        if (probe_step(t, step, &f, &d, e))
            return -1;
        if (!(f <= f0 + ARMIJO * step * slope0) || f >= f_lo) {
            hi = step;
            f_hi = f;
            d_hi = d;
            bracketed = true;
        } else if (fabs(d) <= -CURVATURE * slope0) {
            *value = f;
            return 1;
        } else {
            if (bracketed ? d * (hi - lo) >= 0 : d >= 0) {
                hi = lo;
                f_hi = f_lo;
                d_hi = d_lo;
                bracketed = true;
            }
            lo = step;
            f_lo = f;
            d_lo = d;
        }
        if (!bracketed)
            step *= 2;
        else if (isfinite(f_hi))
            step = between(lo, f_lo, d_lo, hi, f_hi, d_hi);
        else
            step = 0.5 * (lo + hi);
    }
    if (lo == 0)
        return 0;
    double d; // a lower value was found, though not a flat enough one: good enough to go on
    return probe_step(t, lo, value, &d, e) ? -1 : 1;
}

// The pair is left out when the curvature along it is not positive to rounding.
static void remember(struct lbfgs_state *t)
{
    int at = (t->newest + 1) % PAIRS;
    double *s = t->s[at], *y = t->y[at];
    for (size_t i = 0; i < t->n; i++) {
        s[i] = t->x_try[i] - t->x[i];
        y[i] = t->g_try[i] - t->g[i];
    }
    double sy = dot(t->n, s, y);
    if (!(sy > 1e-16 * dot(t->n, y, y)))
        return;
    t->rho[at] = 1 / sy;
    t->newest = at;
    if (t->n_pairs < PAIRS)
        t->n_pairs++;
}

static int iterate(struct lbfgs_state *t, const struct lbfgs_options *o, struct lbfgs_result *r,
                   struct err *e)
{
    for (;; r->iterations++) {
        r->gradient_max = max_abs(t->n, t->g);
        r->converged = r->gradient_max <= o->gradient_tolerance;
        if (r->converged || r->iterations == o->max_iterations)
            return 0;
        direction(t);
        double slope = dot(t->n, t->g, t->d);
        if (!(slope < 0)) { // rounding has spoilt the pairs: start again from the gradient
            t->n_pairs = 0;
            direction(t);
            slope = dot(t->n, t->g, t->d);
        }
        double first = t->n_pairs ? 1 : fmin(1, 1 / fmax(sqrt(-slope), 1e-300)), f;
        int found = line_search(t, r->value, slope, first, &f, e);
        if (found < 0)
            return -1;
        if (!found) {
            r->converged = true; // to rounding
            return 0;
        }
        bool flat = fabs(r->value - f) <= o->value_tolerance * fmax(fabs(r->value), fabs(f));
        remember(t);
        memcpy(t->x, t->x_try, t->n * sizeof *t->x);
        memcpy(t->g, t->g_try, t->n * sizeof *t->g);
        r->value = f;
        if (flat) {
            r->iterations++;
            r->gradient_max = max_abs(t->n, t->g);
            r->converged = true;
            return 0;
        }
    }
}

int lbfgs_minimise(size_t n, double *x, lbfgs_fn *fn, void *user, const struct lbfgs_options *o,
                   struct lbfgs_result *r, struct err *e)
{
    struct lbfgs_state t = {.fn = fn, .user = user, .x = x};
    *r = (struct lbfgs_result){0};
    if (state_init(&t, n, e))
        return -1;
    t.evaluations = 1;
    int rc = fn(user, x, &r->value, t.g, e);
    if (rc == 0)
        rc = iterate(&t, o, r, e);
    r->evaluations = t.evaluations;
    free(t.block);
    return rc;
}
