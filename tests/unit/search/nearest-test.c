// SPDX-License-Identifier: Apache-2.0
// Labels against a plain loop with the canonical product, for all kernels.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "search/nearest.h"
#include "base/half.h"
#include "base/isa.h"
#include "base/rng.h"
#include "unit/rows.h"
#include "unit/tap.h"

static size_t wrong_labels(const float *x, size_t n, const uint8_t *state, const float *c, size_t k,
                           size_t dim, size_t top, const int32_t *labels)
{
    size_t wrong = 0;
    double *sim = malloc(k * sizeof *sim);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < k; j++)
            sim[j] = dot_exact(x + i * dim, c + j * dim, dim);
        for (size_t t = 0; t < top; t++) {
            int32_t best = -1;
            for (size_t j = 0; j < k && !row_failed(state[i]); j++)
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

static void check(enum dot_kernel kernel, size_t n, size_t k, size_t dim, size_t top, size_t copies,
                  int threads)
{
    struct err e = {.text = ""};
    struct nearest a;
    float *x = gaussian(n, dim, 1), *c = gaussian(k, dim, 2);
    uint8_t *state = malloc(n);
    int32_t *labels = malloc(n * top * sizeof *labels);
    for (size_t j = copies; copies && j < k; j++)
        memcpy(c + j * dim, c + j % copies * dim, dim * sizeof *c);
    if (n > 3)
        memset(x + 2 * dim, 0, dim * sizeof *x), x[3 * dim] = NAN;
    unit_rows(x, n, dim, true, state);
    unit_rows(c, k, dim, true, NULL);
    int r = nearest_init_kernel(&a, kernel, c, k, dim, threads, &e) ||
            nearest_rows(&a, threads, x, n, state, top, labels, NULL, &e);
    ok(!r && wrong_labels(x, n, state, c, k, dim, top, labels) == 0,
       "kernel %d: %zu rows, %zu centroids (%zu distinct), %zu values, top %zu: the exact labels",
       kernel, n, k, copies ? copies : k, dim, top);
    nearest_release(&a);
    free(x), free(c), free(state), free(labels);
}

// The kernel is chosen by the rows: int8 where the centroids lie apart, the other where they crowd
// within its bound. part: how far they lie apart.
static void check_choice(double part, size_t top, size_t n, bool apart)
{
    enum { K = 400, D = 64 };
    struct err e = {.text = ""};
    struct nearest a;
    float *x = gaussian(n, D, 7), *c = gaussian(K, D, 8);
    uint8_t *state = malloc(n);
    int32_t *labels = malloc(n * top * sizeof *labels);
    for (size_t i = 0; i < K * D; i++)
        c[i] = (float)(i % D == 0) + (float)part * c[i];
    memset(x, 0, D * sizeof *x);
    unit_rows(x, n, D, true, state);
    unit_rows(c, K, D, true, NULL);
    int r = nearest_init_on(&a, NULL, c, K, D, 2, &e) ||
            nearest_rows(&a, 2, x, n, state, top, labels, NULL, &e);
    enum dot_kernel want = apart && dot_has_kernel(DOT_I8, D) ? DOT_I8 : dot_best_kernel();
    ok(!r && a.panel.kernel == want && wrong_labels(x, n, state, c, K, D, top, labels) == 0,
       "%zu rows, centroids %g apart, top %zu: exact labels by kernel %d", n, part, top, want);
    nearest_release(&a);
    free(x), free(c), free(state), free(labels);
}

static double worst_miss(const struct dot_panel *a, const struct dot_panel *b, const float *x,
                         const float *y, size_t m, size_t n, size_t dim)
{
    enum { LD = 64 };
    float *out = malloc(LD * LD * sizeof *out);
    double worst = 0;
    dot_block(a, 0, m, b, 0, n, out, LD);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double miss = fabs(out[i * LD + j] - dot_exact(x + i * dim, y + j * dim, dim));
            worst = fmax(worst, miss / dot_bound(a, i, b));
        }
    free(out);
    return worst;
}

// The bound holds, for rows of any size and rows of zeros, and is not so wide as to say nothing;
// a left side that is taken from a right one is that which is packed.
static void check_bound(enum dot_kernel kernel, size_t dim, float size)
{
    enum { N = 40, TAKEN = 25, FROM = 11 };
    float *x = gaussian(N, dim, 3), *y = gaussian(N, dim, 4);
    struct dot_panel a, b, c;
    struct err e = {.text = ""};
    for (size_t i = 0; i < N * dim; i++) {
        x[i] *= size;
        x[i] *= i / dim == 7 ? 0 : i % dim == 2 ? 30 : 1; // zeros, and a value far from the others
        x[i] *= i / dim == 9 ? 1e-20f / size : 1;         // whose squares are lost
        y[i] = i / dim == 13 ? size : y[i];               // the greatest sum with itself
    }
    int r = dot_panel_init(&a, kernel, DOT_SIDE_LEFT, N, dim, &e) ||
            dot_panel_init(&b, kernel, DOT_SIDE_RIGHT, N, dim, &e) ||
            dot_panel_init(&c, kernel, DOT_SIDE_LEFT, TAKEN, dim, &e);
    if (!r) {
        dot_panel_set(&a, x, N);
        dot_panel_set(&b, y, N);
        double worst = worst_miss(&a, &b, x, y, N, N, dim);
        ok(worst <= 1 && (worst > 0 || dim == 1),
           "kernel %d, %zu values of about %g: the error is within the bound (%.3f of it)", kernel,
           dim, (double)size, worst);
        dot_panel_take(&c, &b, FROM, TAKEN);
        worst = worst_miss(&c, &b, y + FROM * dim, y, TAKEN, N, dim);
        ok(worst <= 1, "and with rows taken from the other side (%.3f)", worst);
        dot_panel_release(&c);
    }
    ok(!r, "%zu bytes %s", dot_panel_bytes(kernel, DOT_SIDE_LEFT, N, dim), e.text);
    dot_panel_release(&a);
    dot_panel_release(&b);
    free(x), free(y);
}

// float16 rows give the bits of the same rows in float32.
static void check_half(size_t dim)
{
    float *x = gaussian(1, dim, 5), *y = gaussian(1, dim, 6);
    uint16_t *hx = malloc(dim * sizeof *hx), *hy = malloc(dim * sizeof *hy);
    half_from_f32(x, hx, dim);
    half_from_f32(y, hy, dim);
    half_to_f32(hx, x, dim);
    half_to_f32(hy, y, dim);
    double plain[16] = {0};
    for (size_t i = 0; i < dim; i++)
        plain[i % 16] += (double)x[i] * y[i];
    for (size_t w = 8; w; w /= 2)
        for (size_t l = 0; l < w; l++)
            plain[l] += plain[l + w];
    ok(dot_exact_half(hx, hy, dim) == plain[0] && dot_exact(x, y, dim) == plain[0],
       "%zu values: the product has the bits of the plain sum, from float16 too", dim);
    free(x), free(y), free(hx), free(hy);
}

static void check_rows(void)
{
    float x[5][3] = {{3, 0, 4}, {0, 0, 0}, {INFINITY, 0, 0}, {0, NAN, 1}, {0, 1, 0}};
    uint8_t state[5];
    unit_rows(x[0], 5, 3, true, state);
    ok(state[0] == ROW_RESCALED && x[0][0] == 0.6f && x[0][2] == 0.8f, "rows are made unit");
    ok(state[1] == ROW_ZERO && state[2] == ROW_NOT_FINITE && state[3] == ROW_NOT_FINITE &&
           x[2][0] == 0 && x[3][2] == 0,
       "zero, Inf and NaN rows fail and become zeros");
    ok(state[4] == ROW_OK && x[4][1] == 1, "a unit row stays");
}

int main(void)
{
    check_rows();
    for (size_t dim = 1; dim < 70; dim += 11)
        check_half(dim);
    for (int kernel = 0; kernel < DOT_KERNELS; kernel++) {
        if (!dot_has_kernel(kernel, 1000)) {
            ok(true, "kernel %d # SKIP not at level %s", kernel, isa_name(isa_level()));
            continue;
        }
        check_bound(kernel, 333, 1);
        check_bound(kernel, 1, 1);
        check_bound(kernel, 64, 1e-3f);
        check_bound(kernel, 67, 1e-33f);
        check_bound(kernel, 1000, 1e6f);
        check_bound(kernel, 2100, 1e-20f);
        check(kernel, 300, 700, 48, 1, 0, 2);
        check(kernel, 127, 33, 1, 1, 0, 1);
        check(kernel, 50, 600, 17, 1, 3, 2);
        check(kernel, 50, 600, 17, 7, 3, 2);
        check(kernel, 130, 1100, 64, 10, 0, 3);
        check(kernel, 5, 3, 8, 5, 0, 2);
        check(kernel, 20, 300, 8, 100, 0, 2);
        check(kernel, 1, 1, 5, 1, 0, 1);
    }
    check_choice(1, 1, 3000, true);
    check_choice(0.001, 3, 3000, false);
    check_choice(0.001, 1, 3000, false);
    check_choice(1, 1, 300, false); // too few rows to try any
    return tap_done();
}
