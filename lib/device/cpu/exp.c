// SPDX-License-Identifier: Apache-2.0
// The choice between vector forms, and the one without fused multiply-adds.
#include "device/cpu/exp.h"

#include "device/cpu/simd.h"
#include "base/isa.h"

#define LEVEL(name) name##_portable
#define VF 4
#define VECTOR
#include "device/cpu/simd-vec.h"
#include "device/cpu/exp-rows.h"

const struct cpu_exp cpu_exp_plain = {gelu, quick_gelu, tanh_gelu, softmax_row};

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
    else if (act == DEV_ACT_TANH_GELU)
        chosen()->tanh_gelu(bias, x, n);
    else
        for (size_t i = 0; bias && i < n; i++)
            x[i] += bias[i];
}

float cpu_softmax_row(float *s, size_t n, size_t padded, float *max)
{
    return chosen()->softmax_row(s, n, padded, max);
}
