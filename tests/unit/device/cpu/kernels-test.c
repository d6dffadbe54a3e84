// SPDX-License-Identifier: Apache-2.0
// Kernels of the CPU device against float64: activations and their slopes, softmax, each form of
// the exponential functions, products by panels.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/isa.h"
#include "base/rng.h"
#include "device/cpu/exp.h"
#include "device/cpu/panel.h"
#include "unit/device/exact.h"
#include "unit/tap.h"

static struct rng rng;

// The activation through a linear layer with the identity's weight: every value from -12 to 12.
static void test_act(struct dev *d, enum dev_act act)
{
    enum { N = 20000 };
    struct err e;
    float one = 1, *x = malloc(N * 4), *y = malloc(N * 4);
    double err = 0;
    for (int i = 0; i < N; i++)
        x[i] = -12.0f + 24.0f * (float)i / N;
    struct dev_weight *w = d->op->weight_new(d, &one, DEV_F32, 1, 1, false, &e);
    struct dev_epilogue ep = {.act = act};
    d->op->linear(d, N, x, 1, w, &ep, y, true);
    for (int i = 0; i < N; i++) {
        double want = act_exact(act, (double)x[i]);
        double allowed = 1e-7 * (1 + 4 * fabs(want));
        double r = fabs((double)y[i] - want) / allowed;
        err = r > err ? r : err;
    }
    ok(err < 1, "activation %d: %g of the bound", (int)act, err);
    d->op->weight_free(d, w);
    free(x);
    free(y);
}

static double slope_exact(enum dev_act a, double x)
{
    double s = 1 / (1 + exp(-1.702 * x)), root = sqrt(2 / acos(-1));
    if (a == DEV_ACT_TANH_GELU) {
        double t = tanh(root * (x + 0.044715 * x * x * x));
        return (1 + t) / 2 + x / 2 * (1 - t * t) * root * (1 + 3 * 0.044715 * x * x);
    }
    return a == DEV_ACT_GELU
               ? 0.5 * erfc(-x * 0.70710678118654752440) + x * exp(-x * x / 2) / sqrt(2 * acos(-1))
               : s * (1 + 1.702 * x * (1 - s));
}

// The gradient of an activation: zeros stay zero, a NaN stays one.
static void test_slope(struct dev *d, enum dev_act act)
{
    enum { N = 20001 };
    static float x[N], dy[N], dx[N];
    double err = 0;
    for (int i = 0; i < N; i++) {
        x[i] = -12.0f + 24.0f * (float)i / N;
        dy[i] = i & 1 ? 1.0f : -2.0f;
    }
    x[N - 1] = NAN;
    dy[7] = 0;
    d->op->act_bwd(d, N, act, x, dy, dx);
    for (int i = 0; i < N - 1; i++)
        err = fmax(err, fabs((double)dx[i] - (double)dy[i] * slope_exact(act, (double)x[i])));
    ok(err < 8e-7 && dx[7] == 0 && dx[N - 1] != dx[N - 1], "slope of activation %d: error %g",
       (int)act, err);
}

// Panels against a plain product, from rows or columns, float32 or bfloat16; a row alone is the row
// among others.
static void test_panel(size_t m, size_t n, size_t k, bool bf16, bool turned)
{
    size_t ldc = panel_cols(n), row_step = turned ? 1 : n, col_step = turned ? k : 1;
    float *a = malloc(m * k * 4), *b = malloc(k * n * 4), *c = malloc(m * ldc * 4);
    float *panels = malloc(k * ldc * 4), *one = malloc(ldc * 4);
    uint16_t *half = malloc(k * n * 2);
    double err = 0;
    for (size_t i = 0; i < m * k; i++)
        a[i] = (float)rng_normal(&rng);
    for (size_t i = 0; i < k * n; i++) {
        half[i] = bf16_from_f32_one((float)rng_normal(&rng));
        b[i] = bf16_to_f32_one(half[i]);
    }
    panel_fill(panels, k, n, bf16 ? (const void *)half : b, bf16, row_step, col_step);
    panel_gemm(m, n, k, a, k, panels, c, ldc);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < ldc; j++) {
            double want = 0, size = 1e-30;
            for (size_t x = 0; j < n && x < k; x++) {
                double v = (double)a[i * k + x] * (double)b[x * row_step + j * col_step];
                want += v;
                size += fabs(v);
            }
            err = fmax(err, fabs((double)c[i * ldc + j] - want) / size);
        }
    bool same = true;
    for (size_t i = 0; i < m && same; i++) {
        panel_gemm(1, n, k, a + i * k, k, panels, one, ldc);
        same = !memcmp(one, c + i * ldc, ldc * 4);
    }
    ok(err <= 0x1p-24 * (double)(k + 1) && same, "%zu x %zu x %zu by panels: %g", m, n, k, err);
    free(a), free(b), free(c), free(panels), free(one), free(half);
}

// The forms for other processors.
static void test_exp(const struct cpu_exp *k, const char *name)
{
    enum { N = 4001, ROW = 77, PADDED = 80 };
    static float x[N], y[N], bias[N], s[PADDED], p[PADDED];
    double err = 0;
    for (int i = 0; i < N; i++) {
        y[i] = x[i] = -9.0f + 18.0f * (float)i / N;
        bias[i] = 0.25f;
    }
    k->gelu(bias, y, N);
    for (int i = 0; i < N; i++) {
        double want = act_exact(DEV_ACT_GELU, (double)(x[i] + 0.25f));
        double r = fabs((double)y[i] - want) / (1e-7 * (1 + 4 * fabs(want)));
        err = r > err ? r : err;
    }
    ok(err < 1, "%s: GELU with a bias, %g of the bound", name, err);
    err = 0;
    memcpy(y, x, sizeof y);
    k->tanh_gelu(bias, y, N);
    for (int i = 0; i < N; i++) {
        double want = act_exact(DEV_ACT_TANH_GELU, (double)(x[i] + 0.25f));
        err = fmax(err, fabs((double)y[i] - want) / (1e-7 * (1 + 8 * fabs(want))));
    }
    ok(err < 1, "%s: tanh GELU with a bias, %g of the bound", name, err);
    double sum = 0, top = -100;
    for (int i = 0; i < ROW; i++) {
        s[i] = p[i] = 20 * (float)rng_normal(&rng);
        top = fmax(top, (double)s[i]);
    }
    for (int i = 0; i < ROW; i++)
        sum += exp((double)s[i] - top);
    float max, got = k->softmax_row(p, ROW, PADDED, &max);
    err = fabs((double)got / sum - 1);
    for (int i = 0; i < ROW; i++)
        err = fmax(err, fabs((double)p[i] - exp((double)s[i] - top)));
    ok(err < 1e-6 && (double)max == top && p[ROW] == 0 && p[PADDED - 1] == 0, "%s: softmax, %g",
       name, err);
    s[3] = NAN;
    ok(isnan(k->softmax_row(s, ROW, PADDED, &max)), "%s: a NaN is not lost", name);
}

static void test_forms(void)
{
    test_exp(&cpu_exp_plain, "plain");
#if defined(__x86_64__)
    if (isa_has(ISA_AVX2))
        test_exp(&cpu_exp_avx2, "avx2");
    else
        ok(true, "avx2 # SKIP not at level %s", isa_name(isa_level()));
    if (isa_has(ISA_AVX512))
        test_exp(&cpu_exp_avx512, "avx512");
    else
        ok(true, "avx512 # SKIP not at level %s", isa_name(isa_level()));
#endif
}

int main(void)
{
    struct dev d;
    struct err e;
    rng_init(&rng, 1, 0);
    if (dev_open(&d, "cpu", DEV_F32, 2, false, &e))
        return 1;
    test_act(&d, DEV_ACT_GELU);
    test_act(&d, DEV_ACT_QUICK_GELU);
    test_slope(&d, DEV_ACT_GELU);
    test_slope(&d, DEV_ACT_QUICK_GELU);
    test_slope(&d, DEV_ACT_TANH_GELU);
    test_act(&d, DEV_ACT_TANH_GELU);
    test_forms();
    for (size_t k = 1; k < 600; k += 95)
        test_panel(1 + k % 67, 1 + k % 41, k, k & 2, k & 1);
    test_panel(64, 512, 192, false, true);
    test_panel(13, 48, 385, true, false);
    dev_close(&d);
    return tap_done();
}
