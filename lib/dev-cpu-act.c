// SPDX-License-Identifier: Apache-2.0
#include "dev-cpu-act.h"

#include "dev-cpu-grad-simd.h"

// erf(u) / u as a polynomial in u^2, minimax on [0, 1], error 6e-10.
SIMD_INLINE vf erf_small(vf u)
{
    vf z = u * u, p = vf_all(7.647117308806628e-05f);
    p = p * z + vf_all(-0.0007942356169223785f);
    p = p * z + vf_all(0.005179749336093664f);
    p = p * z + vf_all(-0.02684859186410904f);
    p = p * z + vf_all(0.11283430457115173f);
    p = p * z + vf_all(-0.3761260509490967f);
    p = p * z + vf_all(1.1283791065216064f);
    return u * p;
}

// erfc(u) = exp(-u^2 + h(u)) for u >= 1; h is a minimax polynomial in u - 2 on [1, 4.5], weighted
// by erfc, error 1.5e-9 in erfc. Beyond 4.5 h stands still: erfc is below 2e-10 there.
SIMD_INLINE vf erfc_large(vf u)
{
    vf held = vf_select(u > vf_all(4.5f), vf_all(4.5f), u);
    vf t = held - vf_all(2.0f), p = vf_all(-1.5617582903360017e-05f);
    p = p * t + vf_all(0.00014080663095228374f);
    p = p * t + vf_all(-0.000745279947295785f);
    p = p * t + vf_all(0.0035595421213656664f);
    p = p * t + vf_all(-0.016458110883831978f);
    p = p * t + vf_all(0.0762571319937706f);
    p = p * t + vf_all(-0.4181593358516693f);
    p = p * t + vf_all(-1.3649413585662842f);
    return vf_exp(p - u * u);
}

SIMD_INLINE vf vf_gelu(vf x)
{
    vf s = x * vf_all(0.70710678118654752f);
    vi negative = s < vf_all(0.0f);
    vf u = vf_select(negative, -s, s);
    // half of 1 - erf(u), taken directly where it is small
    vf half_erfc = vf_select(u < vf_all(1.0f), vf_all(0.5f) - vf_all(0.5f) * erf_small(u),
                             vf_all(0.5f) * erfc_large(u));
    return x * vf_select(negative, half_erfc, vf_all(1.0f) - half_erfc);
}

SIMD_INLINE vf vf_quick_gelu(vf x)
{
    return x / (vf_all(1.0f) + vf_exp(vf_all(-1.702f) * x));
}

SIMD static void gelu(float *x, size_t n)
{
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        vf_store(x + i, vf_gelu(vf_load(x + i)));
    if (i < n)
        vf_store_n(x + i, vf_gelu(vf_load_n(x + i, n - i)), n - i);
}

SIMD static void quick_gelu(float *x, size_t n)
{
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        vf_store(x + i, vf_quick_gelu(vf_load(x + i)));
    if (i < n)
        vf_store_n(x + i, vf_quick_gelu(vf_load_n(x + i, n - i)), n - i);
}

void cpu_act(enum dev_act act, float *x, size_t n)
{
    if (act == DEV_ACT_GELU)
        gelu(x, n);
    else if (act == DEV_ACT_QUICK_GELU)
        quick_gelu(x, n);
}
