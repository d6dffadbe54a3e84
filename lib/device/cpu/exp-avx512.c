// SPDX-License-Identifier: Apache-2.0
#include "device/cpu/exp.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#define VECTOR __attribute__((target("avx512f")))
#define INLINE static inline __attribute__((always_inline, target("avx512f")))

enum { VN = 16 };
typedef __m512 V;
#define V_SET1 _mm512_set1_ps
#define V_LOAD _mm512_loadu_ps
#define V_STORE _mm512_storeu_ps
#define V_ADD _mm512_add_ps
#define V_SUB _mm512_sub_ps
#define V_MUL _mm512_mul_ps
#define V_DIV _mm512_div_ps
#define V_MIN _mm512_min_ps
#define V_MAX _mm512_max_ps
#define V_FMA _mm512_fmadd_ps
#define V_FNMA _mm512_fnmadd_ps
#define V_ABS _mm512_abs_ps
#define V_ROUND(x) _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define V_SCALE _mm512_scalef_ps // p 2^n
#define V_IF_NEGATIVE(x, yes, no)                                                                  \
    _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ), no, yes)

#include "device/cpu/exp-body.h"
#include "device/cpu/exp-rows.h"

const struct cpu_exp cpu_exp_avx512 = {gelu, quick_gelu, tanh_gelu, softmax_row};
#endif
