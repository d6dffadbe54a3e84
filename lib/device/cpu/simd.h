// SPDX-License-Identifier: Apache-2.0
// Vectors of float32, by the compilers' vector types, for the CPU device. The functions that use
// them are compiled once for each level of isa.h (device/cpu/levels.h), with vectors as wide as the
// level's (device/cpu/simd-vec.h). There is no fused multiply-add, and sums are taken in LANES
// lanes whatever the width, so all levels give the same bits.
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

enum { LANES = 16 };

// The names of simd-vec.h and exp-body.h have a form for each level.
#define vf LEVEL(vf)
#define vi LEVEL(vi)
#define vu LEVEL(vu)
#define vsum LEVEL(vsum)
#define vf_load LEVEL(vf_load)
#define vf_store LEVEL(vf_store)
#define vf_all LEVEL(vf_all)
#define vf_load_n LEVEL(vf_load_n)
#define vf_store_n LEVEL(vf_store_n)
#define vf_total LEVEL(vf_total)
#define vf_add LEVEL(vf_add)
#define vf_select LEVEL(vf_select)
#define vf_below LEVEL(vf_below)
#define vf_nan LEVEL(vf_nan)
#define vf_abs LEVEL(vf_abs)
#define vf_round LEVEL(vf_round)
#define vf_scale LEVEL(vf_scale)
#define vf_exp LEVEL(vf_exp)
#define v_all LEVEL(v_all)
#define v_exp LEVEL(v_exp)
#define v_erfc LEVEL(v_erfc)
#define v_gelu LEVEL(v_gelu)
#define v_gelu_slope LEVEL(v_gelu_slope)
#define v_quick_gelu LEVEL(v_quick_gelu)
#define v_tanh_gelu LEVEL(v_tanh_gelu)
#define v_tanh_slope LEVEL(v_tanh_slope)
#define v_quick_slope LEVEL(v_quick_slope)

// The operations of exp-body.h.
#define V vf
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

#if defined(__GNUC__) && !defined(__clang__)
#define UNROLL_PARTS _Pragma("GCC unroll 4")
#else
#define UNROLL_PARTS
#endif
// The vectors that LANES values are.
#define EACH_PART(p) UNROLL_PARTS for (size_t p = 0; p < LANES / VF; p++)

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
