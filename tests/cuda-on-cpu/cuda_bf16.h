// SPDX-License-Identifier: Apache-2.0
// Stands in for the CUDA Toolkit's header: bfloat16 as storage, and its two conversions.
#ifndef CUDA_ON_CPU_BF16_H
#define CUDA_ON_CPU_BF16_H

#include <cstdint>
#include <cstring>

struct __nv_bfloat16 {
    uint16_t bits;
};

inline float __bfloat162float(__nv_bfloat16 h)
{
    uint32_t u = (uint32_t)h.bits << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

// To nearest, ties to even; NaN stays NaN.
inline __nv_bfloat16 __float2bfloat16_rn(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return {(uint16_t)(u >> 16 | 0x40)};
    return {(uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16)};
}

#endif
