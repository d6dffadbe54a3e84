// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "unit/tap.h"

static uint32_t bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

// The nearest float16 by search: a slow and independent definition. |f| is finite.
static uint16_t nearest(float f)
{
    double a = fabs((double)f);
    uint16_t lo = 0, hi = 0x7c00;
    while (hi - lo > 1) {
        uint16_t mid = (uint16_t)((lo + hi) / 2);
        double v = mid == 0x7c00 ? 65536 : (double)half_to_f32_one(mid);
        if (v <= a)
            lo = mid;
        else
            hi = mid;
    }
    double below = half_to_f32_one(lo), above = hi == 0x7c00 ? 65536 : (double)half_to_f32_one(hi);
    uint16_t r = a - below < above - a ? lo : a - below > above - a ? hi : lo & 1 ? hi : lo;
    return (uint16_t)(r | (signbit(f) ? 0x8000 : 0));
}

static void test_half(void)
{
    enum { N = 65536 };
    uint16_t *h = malloc(N * sizeof *h), *back = malloc(N * sizeof *back);
    float *f = malloc(N * sizeof *f);
    int same = 0, there = 0;
    for (int i = 0; i < N; i++)
        h[i] = (uint16_t)i;
    half_to_f32(h, f, N);
    half_from_f32(f, back, N);
    for (int i = 0; i < N; i++) {
        same += bits(f[i]) == bits(half_to_f32_one(h[i]));
        bool nan = (i & 0x7c00) == 0x7c00 && (i & 0x3ff);
        there += back[i] == (nan ? (i | 0x200) : i) && half_from_f32_one(f[i]) == back[i];
    }
    ok(same == N, "all 65536 float16 values: vector and scalar agree");
    ok(there == N, "and come back the same (a NaN becomes quiet)");
    ok(half_to_f32_one(0x3555) == 0.333251953125f && half_to_f32_one(1) == 0x1p-24f &&
           half_to_f32_one(0x7bff) == 65504.0f && isinf(half_to_f32_one(0xfc00)),
       "known values");
    free(h);
    free(back);
    free(f);
}

static void test_rounding(void)
{
    enum { N = 1 << 20 };
    float *f = malloc(N * sizeof *f);
    uint16_t *wide = malloc(N * sizeof *wide);
    uint32_t x = 1;
    int same = 0, right = 0, finite = 0;
    for (int i = 0; i < N; i++) {
        x = x * 1664525 + 1013904223;
        uint32_t u = x ^ x >> 13;
        if (i % 4) // most within float16's range, many on a tie
            u = (u & 0x80000000) | (0x32000000 + u % 0x16000000);
        if (i % 3 == 0)
            u &= 0xfffff000;
        f[i] = from_bits(u);
    }
    half_from_f32(f, wide, N);
    for (int i = 0; i < N; i++) {
        same += wide[i] == half_from_f32_one(f[i]);
        if (i % 8 || !isfinite(f[i]))
            continue;
        finite++;
        right += half_from_f32_one(f[i]) == nearest(f[i]);
    }
    ok(same == N, "float32 to float16: vector and scalar agree on %d values", N);
    ok(right == finite, "and give the nearest, ties to even (%d of %d)", right, finite);
    free(f);
    free(wide);
}

static void test_bf16(void)
{
    enum { N = 100003 };
    float *f = malloc(N * sizeof *f);
    uint16_t *wide = malloc(N * sizeof *wide);
    float *back = malloc(N * sizeof *back);
    uint32_t x = 7;
    int same = 0, right = 0;
    for (int i = 0; i < N; i++) {
        x = x * 1664525 + 1013904223;
        f[i] = from_bits(i % 3 ? x : x & 0xffff8000);
    }
    bf16_from_f32(f, wide, N);
    bf16_to_f32(wide, back, N);
    for (int i = 0; i < N; i++) {
        same += wide[i] == bf16_from_f32_one(f[i]) && bits(back[i]) == (uint32_t)wide[i] << 16;
        uint32_t u = bits(f[i]), down = u >> 16, rest = u & 0xffff;
        uint32_t near = rest > 0x8000 || (rest == 0x8000 && (down & 1)) ? down + 1 : down;
        right += isnan(f[i]) ? isnan(bf16_to_f32_one(wide[i])) : wide[i] == near;
    }
    ok(same == N, "bfloat16: vector and scalar agree");
    ok(right == N, "bfloat16: nearest, ties to even, NaN stays NaN");
    free(f);
    free(wide);
    free(back);
}

int main(void)
{
    test_half();
    test_rounding();
    test_bf16();
    return tap_done();
}
