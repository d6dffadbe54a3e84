// SPDX-License-Identifier: Apache-2.0
// Vectors of sixteen float32, by the compilers' vector types, for the CPU device. The functions that
// use them are compiled once for each level of isa.h (device/cpu/levels.h). There is no fused
// multiply-add, so all levels give the same bits.
#ifndef DEVICE_CPU_SIMD_H
#define DEVICE_CPU_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "device/cpu/cpu.h"
#include "device/dev.h"
#include "base/half.h"
#include "base/isa.h"

// Helpers that take or return vectors are always inlined: there is no calling convention to warn
// about.
#pragma GCC diagnostic ignored "-Wpsabi"

// Selects the form of a function of a *-levels.h for the level in use. clang cannot pass vectors
// between functions of different targets, so it builds the portable form only.
#if defined(__x86_64__) && !defined(__clang__)
#define AT_LEVEL(name)                                                                             \
    (isa_level() == ISA_AVX512 ? name##_avx512                                                     \
     : isa_level() == ISA_AVX2 ? name##_avx2                                                       \
                               : name##_portable)
#else
#define AT_LEVEL(name) name##_portable
#endif
#define SIMD_INLINE static inline __attribute__((always_inline, unused))

enum { VF = 16 }; // floats of a vector

typedef float vf __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t vu __attribute__((vector_size(64), aligned(4), may_alias));

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
    return (vf){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
}

// The first n (< 16) of p, the rest zero.
SIMD_INLINE vf vf_load_n(const float *p, size_t n)
{
    float t[VF] = {0};
    memcpy(t, p, n * sizeof(float));
    return vf_load(t);
}

SIMD_INLINE void vf_store_n(float *p, vf x, size_t n)
{
    float t[VF];
    vf_store(t, x);
    memcpy(p, t, n * sizeof(float));
}

// Sum of the lanes, by halves.
SIMD_INLINE float vf_sum(vf x)
{
    float t[VF];
    vf_store(t, x);
    for (int w = VF / 2; w > 0; w /= 2)
        for (int i = 0; i < w; i++)
            t[i] += t[i + w];
    return t[0];
}

SIMD_INLINE vf vf_add(vf a, vf b)
{
    return a + b;
}

// Choices are made by integers: compilers take a comparison of vectors wider than the processor's
// apart, value by value. A mask has all bits or none.
SIMD_INLINE vf vf_select(vi mask, vf yes, vf no)
{
    return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}

// a < b, neither NaN.
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

typedef vf V;
#define VN VF
#define INLINE SIMD_INLINE
#define V_SET1 vf_all
#define V_LOAD vf_load
#define V_STORE vf_store
#define V_ADD vf_add
#define V_SUB(a, b) ((a) - (b))
#define V_MUL(a, b) ((a) * (b))
#define V_DIV(a, b) ((a) / (b))
#define V_MIN(a, b) vf_select(vf_below(a, b), a, b)
#define V_MAX(a, b) vf_select(vf_below(b, a), a, b)
#define V_FMA(a, b, c) ((a) * (b) + (c))
#define V_FNMA(a, b, c) ((c) - (a) * (b))
#define V_ABS vf_abs
#define V_ROUND vf_round
#define V_SCALE vf_scale
#define V_IF_NEGATIVE(x, yes, no) vf_select((vi)(x) >> 31, yes, no)
#include "device/cpu/exp-body.h"

// exp for losses: 0 below -87.3 and for -inf, held at exp(88.3) above; NaN gives NaN.
SIMD_INLINE vf vf_exp(vf x)
{
    vf p = vf_select(vf_below(x, vf_all(-87.3f)), vf_all(0.0f), v_exp(x));
    return vf_select(vf_nan(x), x, p);
}

// n values of an activation buffer from element `at`: the buffer itself, or `tmp` filled from
// bfloat16.
SIMD_INLINE const float *act_read(const struct dev *d, const void *buf, size_t at, size_t n,
                                  float *tmp)
{
    if (d->act == DEV_F32)
        return (const float *)buf + at;
    bf16_to_f32((const uint16_t *)buf + at, tmp, n);
    return tmp;
}

// Where n values on their way to an activation buffer are made: the buffer itself, or `tmp`, which
// act_put then rounds to bfloat16.
SIMD_INLINE float *act_begin(const struct dev *d, void *buf, size_t at, float *tmp)
{
    return d->act == DEV_F32 ? (float *)buf + at : tmp;
}

SIMD_INLINE void act_put(const struct dev *d, void *buf, size_t at, size_t n, const float *tmp)
{
    if (d->act != DEV_F32)
        bf16_from_f32(tmp, (uint16_t *)buf + at, n);
}

struct dev_par_call {
    void (*work)(void *ctx, size_t i);
    void *ctx;
};

static inline __attribute__((unused)) void dev_par_one(void *call, size_t i, int worker)
{
    const struct dev_par_call *c = call;
    (void)worker;
    c->work(c->ctx, i);
}

// work(ctx, i) for every i in [0, n) on the device's threads.
static inline __attribute__((unused)) void dev_par(struct dev *d, size_t n,
                                                   void (*work)(void *ctx, size_t i), void *ctx)
{
    struct dev_par_call c = {work, ctx};
    if (n == 1)
        work(ctx, 0);
    else if (n)
        pool_for(cpu_of(d)->pool, n, dev_par_one, &c);
}

SIMD_INLINE size_t size_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

SIMD_INLINE size_t blocks_of(size_t n, size_t block)
{
    return n / block + (n % block != 0);
}

#endif
