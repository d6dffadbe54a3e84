// SPDX-License-Identifier: Apache-2.0
// The choice between vector forms, and the plain form that says what they compute.
#include "device/cpu/exp.h"

#include <math.h>

#include "base/isa.h"

static void gelu(const float *bias, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float v = x[i] + (bias ? bias[i] : 0);
        x[i] = 0.5f * v * erfcf(-0.70710678118654752f * v);
    }
}

static void quick_gelu(const float *bias, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float v = x[i] + (bias ? bias[i] : 0);
        x[i] = v / (1 + expf(-1.702f * v));
    }
}

static float softmax_row(float *s, size_t n, size_t padded, float *max)
{
    float top = s[0], sum = 0;
    for (size_t i = 1; i < n; i++)
        top = s[i] > top ? s[i] : top;
    for (size_t i = 0; i < n; i++)
        sum += s[i] = expf(s[i] - top);
    for (size_t i = n; i < padded; i++)
        s[i] = 0;
    *max = top;
    return sum;
}

const struct cpu_exp cpu_exp_plain = {gelu, quick_gelu, softmax_row};

static const struct cpu_exp *chosen(void)
{
#if defined(__x86_64__)
    if (isa_has(ISA_AVX512))
        return &cpu_exp_avx512;
    if (isa_has(ISA_AVX2))
        return &cpu_exp_avx2;
#endif
    return &cpu_exp_plain;
}

void cpu_bias_act(enum dev_act act, const float *bias, float *x, size_t n)
{
    if (act == DEV_ACT_GELU)
        chosen()->gelu(bias, x, n);
    else if (act == DEV_ACT_QUICK_GELU)
        chosen()->quick_gelu(bias, x, n);
    else
        for (size_t i = 0; bias && i < n; i++)
            x[i] += bias[i];
}

float cpu_softmax_row(float *s, size_t n, size_t padded, float *max)
{
    return chosen()->softmax_row(s, n, padded, max);
}
