// SPDX-License-Identifier: Apache-2.0
// Backward of activations, for device/cpu/levels.h.

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
            vf v = vf_load_n(x + c, k), g = vf_load_n(dy + c, k);
            if (j->act == DEV_ACT_GELU)
                g *= v_gelu_slope(v);
            else if (j->act == DEV_ACT_QUICK_GELU)
                g *= v_quick_slope(v);
            else if (j->act == DEV_ACT_TANH_GELU)
                g *= v_tanh_slope(v);
            vf_store_n(out + c, g, k);
        }
        act_put(j->d, j->dpre, at, n, t3);
    }
}
