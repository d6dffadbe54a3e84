// SPDX-License-Identifier: Apache-2.0
#include "device/cpu/exp.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#define VECTOR __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((always_inline, target("avx2,fma")))

enum { VN = 8 };
typedef __m256 V;
#define V_SET1 _mm256_set1_ps
#define V_LOAD _mm256_loadu_ps
#define V_STORE _mm256_storeu_ps
#define V_ADD _mm256_add_ps
#define V_SUB _mm256_sub_ps
#define V_MUL _mm256_mul_ps
#define V_DIV _mm256_div_ps
#define V_MIN _mm256_min_ps
#define V_MAX _mm256_max_ps
#define V_FMA _mm256_fmadd_ps
#define V_FNMA _mm256_fnmadd_ps
#define V_ABS(x) _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x)
#define V_ROUND(x) _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define V_IF_NEGATIVE(x, yes, no) _mm256_blendv_ps(no, yes, x)

// p 2^n, n an integer from -126 to 127: added to the exponent.
INLINE V scale_256(V p, V n)
{
    __m256i e = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), e));
}
#define V_SCALE scale_256

#include "device/cpu/exp-body.h"
#include "device/cpu/exp-rows.h"

const struct cpu_exp cpu_exp_avx2 = {gelu, quick_gelu, tanh_gelu, softmax_row};
#endif
