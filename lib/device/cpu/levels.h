// SPDX-License-Identifier: Apache-2.0
// Compiles the functions of the file LEVELS_OF for each level of isa.h. In that file
// LEVEL(name) names a function; AT_LEVEL(name) (simd.h) then selects its form for the level in use.
// There is no include guard, because a source file may include this header more than once.
#define LEVEL(name) name##_portable
#include LEVELS_OF
#undef LEVEL

#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC target("avx2")
#define LEVEL(name) name##_avx2
#include LEVELS_OF
#undef LEVEL
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f")
#define LEVEL(name) name##_avx512
#include LEVELS_OF
#undef LEVEL
#pragma GCC pop_options
#endif

#undef LEVELS_OF
