// SPDX-License-Identifier: Apache-2.0
// Backward of activations, for device/cpu/levels.h.

// d/dx x Phi(x) = Phi(x) + x phi(x). One exponential serves both: Phi by Abramowitz and Stegun
// 7.1.26 (1.5e-7 of 1).
SIMD_INLINE vf LEVEL(gelu_slope)(vf x)
{
    vi minus = x < vf_all(0.0f);
    vf z = vf_select(minus, -x, x) * vf_all(0.70710678118654752f);
    vf t = vf_all(1.0f) / (vf_all(1.0f) + vf_all(0.3275911f) * z), ex = vf_exp(-z * z);
    vf p = vf_all(1.061405429f);
    p = p * t + vf_all(-1.453152027f);
    p = p * t + vf_all(1.421413741f);
    p = p * t + vf_all(-0.284496736f);
    p = p * t + vf_all(0.254829592f);
    vf tail = vf_all(0.5f) * p * t * ex; // 1 - Phi(|x|)
    vf phi = vf_select(minus, tail, vf_all(1.0f) - tail);
    return phi + x * ex * vf_all(0.39894228040143268f);
}

// d/dx x s(a x) = s (1 + a x (1 - s)), a = 1.702
SIMD_INLINE vf LEVEL(quick_slope)(vf x)
{
    vf ax = vf_all(1.702f) * x, s = vf_all(1.0f) / (vf_all(1.0f) + vf_exp(-ax));
    return s * (vf_all(1.0f) + ax * (vf_all(1.0f) - s));
}

static void LEVEL(act_block)(void *ctx, size_t b)
{
    const struct act_job *j = ctx;
    float t1[CHUNK], t2[CHUNK], t3[CHUNK];
    size_t end = size_min(j->n, (b + 1) * BLOCK);
    for (size_t at = b * BLOCK; at < end; at += CHUNK) {
        size_t n = size_min(CHUNK, end - at);
        const float *x = act_read(j->d, j->pre, at, n, t1), *dy = act_read(j->d, j->dy, at, n, t2);
        float *out = act_begin(j->d, j->dpre, at, t3);
        for (size_t c = 0; c < n; c += VF) {
            size_t k = size_min(VF, n - c);
            vf v = k == VF ? vf_load(x + c) : vf_load_n(x + c, k);
            vf g = k == VF ? vf_load(dy + c) : vf_load_n(dy + c, k);
            if (j->act == DEV_ACT_GELU)
                g *= LEVEL(gelu_slope)(v);
            else if (j->act == DEV_ACT_QUICK_GELU)
                g *= LEVEL(quick_slope)(v);
            if (k == VF)
                vf_store(out + c, g);
            else
                vf_store_n(out + c, g, k);
        }
        act_put(j->d, j->dpre, at, n, t3);
    }
}
