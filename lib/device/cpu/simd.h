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

SIMD_INLINE vf vf_select(vi mask, vf yes, vf no)
{
    return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}

SIMD_INLINE vf vf_max(vf a, vf b)
{
    return vf_select(a > b, a, b);
}

// exp, within 2 ulp; 0 below -87.3 (and for -inf), held at exp(88.3) above; NaN gives NaN. Range
// reduction and polynomial as in Cephes' expf.
SIMD_INLINE vf vf_exp(vf x)
{
    vi gone = x < vf_all(-87.3f), nan = x != x;
    vf z = vf_select(x > vf_all(88.3f), vf_all(88.3f), x);
    z = vf_select(gone | nan, vf_all(0.0f), z);
    const vf magic = vf_all(12582912.0f); // 1.5 * 2^23: adding it rounds to an integer
    vf n = (z * vf_all(1.44269504088896341f) + magic) - magic;
    vf r = z - n * vf_all(0.693359375f) - n * vf_all(-2.12194440e-4f);
    vf p = vf_all(1.9875691500e-4f);
    p = p * r + vf_all(1.3981999507e-3f);
    p = p * r + vf_all(8.3334519073e-3f);
    p = p * r + vf_all(4.1665795894e-2f);
    p = p * r + vf_all(1.6666665459e-1f);
    p = p * r + vf_all(5.0000001201e-1f);
    p = p * r * r + r + vf_all(1.0f);
    vi two_n = (__builtin_convertvector(n, vi) + 127) << 23;
    p *= (vf)two_n;
    p = vf_select(gone, vf_all(0.0f), p);
    return vf_select(nan, x, p);
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
