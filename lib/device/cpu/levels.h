// SPDX-License-Identifier: Apache-2.0
// Compiles the functions of the file LEVELS_OF for each level of isa.h. In that file LEVEL(name)
// names a function, VF says how many float32 a vector of the level has; AT_LEVEL(name) (simd.h)
// then selects its form for the level in use. A source file includes this once; there is no guard.
#define LEVEL(name) name##_portable
#define VF 4
#include "device/cpu/simd-vec.h"
#include LEVELS_OF
#undef VF
#undef LEVEL

#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC target("avx2")
#define LEVEL(name) name##_avx2
#define VF 8
#include "device/cpu/simd-vec.h"
#include LEVELS_OF
#undef VF
#undef LEVEL
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f")
#define LEVEL(name) name##_avx512
#define VF 16
#include "device/cpu/simd-vec.h"
#include LEVELS_OF
#undef VF
#undef LEVEL
#pragma GCC pop_options
#endif

#undef LEVELS_OF
