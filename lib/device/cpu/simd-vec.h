// SPDX-License-Identifier: Apache-2.0
// Vectors of VF float32 for one level: device/cpu/levels.h includes this for each, with LEVEL and
// VF defined. No include guard.

typedef float vf __attribute__((vector_size(4 * VF), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(4 * VF), aligned(4), may_alias));
typedef uint32_t vu __attribute__((vector_size(4 * VF), aligned(4), may_alias));

// Sums in LANES lanes.
typedef struct {
    vf part[LANES / VF];
} vsum;

SIMD_INLINE vf vf_load(const float *p)
{
    return *(const vf *)p;
}

SIMD_INLINE void vf_store(float *p, vf x)
{
    *(vf *)p = x;
}

SIMD_INLINE vf vf_all(float x)
{
    return x - (vf){0};
}

// The first n (at most VF) of p, the rest zero.
SIMD_INLINE vf vf_load_n(const float *p, size_t n)
{
    if (n >= VF)
        return vf_load(p);
    float t[VF] = {0};
    memcpy(t, p, n * sizeof(float));
    return vf_load(t);
}

SIMD_INLINE void vf_store_n(float *p, vf x, size_t n)
{
    if (n >= VF) {
        vf_store(p, x);
        return;
    }
    float t[VF];
    vf_store(t, x);
    memcpy(p, t, n * sizeof(float));
}

// The lanes added by halves.
SIMD_INLINE float vf_total(const vsum *s)
{
    float t[LANES];
    EACH_PART(p) vf_store(t + p * VF, s->part[p]);
    for (int w = LANES / 2; w > 0; w /= 2)
        for (int i = 0; i < w; i++)
            t[i] += t[i + w];
    return t[0];
}

SIMD_INLINE vf vf_add(vf a, vf b)
{
    return a + b;
}

// Choices are made by integers: compilers take comparisons apart, value by value, where the
// processor has no mask for them.
SIMD_INLINE vf vf_select(vi mask, vf yes, vf no)
{
    return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}

// a < b, neither NaN: all bits or none.
SIMD_INLINE vi vf_below(vf a, vf b)
{
    return (vi)(a - b) >> 31;
}

SIMD_INLINE vi vf_nan(vf x)
{
    return (0x7f800000 - ((vi)x & 0x7fffffff)) >> 31;
}

SIMD_INLINE vf vf_abs(vf x)
{
    return (vf)((vi)x & 0x7fffffff);
}

// To an integer, |x| < 2^22: adding 1.5 * 2^23 rounds to one.
SIMD_INLINE vf vf_round(vf x)
{
    const vf magic = vf_all(12582912.0f);
    return (x + magic) - magic;
}

// p 2^n, n an integer from -126 to 127: added to the exponent.
SIMD_INLINE vf vf_scale(vf p, vf n)
{
    return (vf)((vu)p + ((vu)(n + vf_all(12582912.0f)) << 23));
}

#include "device/cpu/exp-body.h"

// exp for losses: 0 below -87.3 and for -inf, held at exp(88.3) above; NaN gives NaN.
SIMD_INLINE vf vf_exp(vf x)
{
    vf p = vf_select(vf_below(x, vf_all(-87.3f)), vf_all(0.0f), v_exp(x));
    return vf_select(vf_nan(x), x, p);
}
