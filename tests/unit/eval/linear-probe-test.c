// SPDX-License-Identifier: Apache-2.0
// probe: the fitted point is the minimum, whatever the start, the stage and the threads.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/linear-probe.h"
#include "base/rng.h"
#include "unit/tap.h"

enum { N = 2500, DIM = 6, CLASSES = 5, STRIDE = DIM + 1 }; // two blocks of rows

// A fit also stops when a step lowers the value by less than 1e-10 of it (float32) or 1e-14
// (float64). A value within d of the minimum leaves a gradient of up to sqrt(2 L d), L the
// curvature: here below 2 (softmax at most 1/2 of E x^2 < 2, the penalty at most 0.4), the value
// below 2.
static const double FAST_GRADIENT = 3e-5, EXACT_GRADIENT = 3e-7;

static struct err e;
static float x[N * DIM];
static int32_t label[N];

static void fill(void)
{
    struct rng r;
    rng_init(&r, 3, 0);
    for (size_t i = 0; i < N; i++) {
        label[i] = (int32_t)rng_below(&r, CLASSES);
        for (size_t j = 0; j < DIM; j++)
            x[i * DIM + j] = (float)(rng_normal(&r) + (j == (size_t)label[i] ? 1 : 0));
    }
}

// The objective's gradient at w, by the formula in eval/linear-probe.h.
static double largest_gradient(const double *w, double c)
{
    double g[CLASSES * STRIDE] = {0}, most = 0;
    for (size_t i = 0; i < N; i++) {
        double p[CLASSES], sum = 0;
        for (size_t k = 0; k < CLASSES; k++) {
            p[k] = w[k * STRIDE + DIM];
            for (size_t j = 0; j < DIM; j++)
                p[k] += w[k * STRIDE + j] * (double)x[i * DIM + j];
            sum += p[k] = exp(p[k]);
        }
        for (size_t k = 0; k < CLASSES; k++) {
            double d = c * (p[k] / sum - (label[i] == (int32_t)k));
            for (size_t j = 0; j < DIM; j++)
                g[k * STRIDE + j] += d * (double)x[i * DIM + j];
            g[k * STRIDE + DIM] += d;
        }
    }
    for (size_t k = 0; k < CLASSES * STRIDE; k++) {
        double v = g[k] + (k % STRIDE < DIM ? w[k] : 0);
        most = fmax(most, fabs(v) / (c * N));
    }
    return most;
}

static void test_minimum(int threads, double c, double *keep)
{
    struct dev d;
    struct probe p = {0};
    ok(dev_open(&d, "cpu", DEV_F32, threads, false, &e) == 0, "a device of %d threads", threads);
    float *on = d.op->alloc(&d, sizeof x, &e);
    d.op->upload(&d, on, x, sizeof x);
    const struct probe_data data = {on, label, N, DIM, CLASSES};
    ok(probe_fit(&d, &data, c, 1000, false, &p, &e) == 0 &&
           largest_gradient(p.w, c) < FAST_GRADIENT,
       "C %g in float32: gradient %.1e", c, largest_gradient(p.w, c));
    ok(probe_fit(&d, &data, c, 1000, true, &p, &e) == 0 && p.converged &&
           largest_gradient(p.w, c) < EXACT_GRADIENT,
       "C %g in float64: gradient %.1e", c, largest_gradient(p.w, c));
    float scores[3 * CLASSES];
    ok(probe_scores(&d, &p, on, 3, scores, &e) == 0, "scores");
    double worst = 0;
    for (size_t i = 0; i < 3; i++)
        for (size_t k = 0; k < CLASSES; k++) {
            double z = p.w[k * STRIDE + DIM];
            for (size_t j = 0; j < DIM; j++)
                z += p.w[k * STRIDE + j] * (double)x[i * DIM + j];
            worst = fmax(worst, fabs(z - (double)scores[i * CLASSES + k]));
        }
    ok(worst < 1e-5, "are W x + b: %.1e", worst);
    memcpy(keep, p.w, CLASSES * STRIDE * sizeof *keep);
    probe_release(&p);
    d.op->free(&d, on);
    dev_close(&d);
}

int main(void)
{
    double one[CLASSES * STRIDE], two[CLASSES * STRIDE];
    fill();
    for (double c = 1e-3; c < 200; c *= 100) {
        test_minimum(1, c, one);
        test_minimum(2, c, two);
        ok(memcmp(one, two, sizeof one) == 0, "the same bytes on two threads");
    }
    return tap_done();
}
