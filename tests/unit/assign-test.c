// SPDX-License-Identifier: Apache-2.0
// Labels against a plain loop with the canonical product, for both kernels.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "assign.h"
#include "rng.h"
#include "rows.h"
#include "tap.h"

static size_t wrong_labels(const float *x, size_t n, const uint8_t *state, const float *c, size_t k,
                           size_t dim, size_t top, const int32_t *labels)
{
    size_t wrong = 0;
    double *sim = malloc(k * sizeof *sim);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < k; j++)
            sim[j] = sim_dot(x + i * dim, c + j * dim, dim);
        for (size_t t = 0; t < top; t++) {
            int32_t best = -1;
            for (size_t j = 0; j < k && !sim_failed(state[i]); j++)
                if (!isnan(sim[j]) && (best < 0 || sim[j] > sim[best]))
                    best = (int32_t)j;
            wrong += labels[i * top + t] != best;
            if (best >= 0)
                sim[best] = NAN;
        }
    }
    free(sim);
    return wrong;
}

static void check(enum sim_kernel kernel, size_t n, size_t k, size_t dim, size_t top, size_t copies,
                  int threads)
{
    struct err e = {{0}};
    struct assign a;
    float *x = gaussian(n, dim, 1), *c = gaussian(k, dim, 2);
    uint8_t *state = malloc(n);
    int32_t *labels = malloc(n * top * sizeof *labels);
    for (size_t j = copies; copies && j < k; j++)
        memcpy(c + j * dim, c + j % copies * dim, dim * sizeof *c);
    if (n > 3)
        memset(x + 2 * dim, 0, dim * sizeof *x), x[3 * dim] = NAN;
    sim_unit_rows(x, n, dim, true, state);
    sim_unit_rows(c, k, dim, true, NULL);
    int r = assign_init_kernel(&a, kernel, c, k, dim, threads, &e) ||
            assign_rows(&a, threads, x, n, state, top, labels, NULL, &e);
    ok(!r && wrong_labels(x, n, state, c, k, dim, top, labels) == 0,
       "kernel %d: %zu rows, %zu centroids (%zu distinct), %zu values, top %zu: the exact labels",
       kernel, n, k, copies ? copies : k, dim, top);
    assign_release(&a);
    free(x), free(c), free(state), free(labels);
}

// The bound holds, and rows that are nearly the same force it to matter.
static void check_bound(enum sim_kernel kernel)
{
    enum { N = 40, D = 333 };
    float *x = gaussian(N, D, 3), *y = gaussian(N, D, 4), *out = malloc(64 * 64 * sizeof *out);
    struct sim_panel a, b;
    struct err e = {{0}};
    double worst = 0;
    if (sim_panel_init(&a, kernel, SIM_SIDE_LEFT, N, D, &e) ||
        sim_panel_init(&b, kernel, SIM_SIDE_RIGHT, N, D, &e))
        return;
    sim_panel_set(&a, x, N);
    sim_panel_set(&b, y, N);
    sim_block(&a, 0, N, &b, 0, N, out, 64);
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < N; j++) {
            double miss = fabs(out[i * 64 + j] - sim_dot(x + i * D, y + j * D, D));
            worst = fmax(worst, miss / sim_bound(&a, i, &b));
        }
    ok(worst <= 1, "kernel %d: the error is within the bound (%.3f of it)", kernel, worst);
    sim_panel_release(&a);
    sim_panel_release(&b);
    free(x), free(y), free(out);
}

static void check_rows(void)
{
    float x[5][3] = {{3, 0, 4}, {0, 0, 0}, {INFINITY, 0, 0}, {0, NAN, 1}, {0, 1, 0}};
    uint8_t state[5];
    sim_unit_rows(x[0], 5, 3, true, state);
    ok(state[0] == SIM_RESCALED && x[0][0] == 0.6f && x[0][2] == 0.8f, "rows are made unit");
    ok(state[1] == SIM_ZERO && state[2] == SIM_NOT_FINITE && state[3] == SIM_NOT_FINITE &&
           x[2][0] == 0 && x[3][2] == 0,
       "zero, Inf and NaN rows fail and become zeros");
    ok(state[4] == SIM_OK && x[4][1] == 1, "a unit row stays");
}

int main(void)
{
    check_rows();
    for (int kernel = 0; kernel <= (int)sim_best_kernel(); kernel++) {
        check_bound(kernel);
        check(kernel, 300, 700, 48, 1, 0, 2);
        check(kernel, 127, 33, 1, 1, 0, 1);
        check(kernel, 50, 600, 17, 1, 3, 2);
        check(kernel, 50, 600, 17, 7, 3, 2);
        check(kernel, 130, 1100, 64, 10, 0, 3);
        check(kernel, 5, 3, 8, 5, 0, 2);
        check(kernel, 20, 300, 8, 100, 0, 2);
        check(kernel, 1, 1, 5, 1, 0, 1);
    }
    return tap_done();
}
