// SPDX-License-Identifier: Apache-2.0
// Backward of silu(g) x, for device/cpu/levels.h: silu'(g) = s (1 + g (1 - s)), s = sigmoid(g).

static void LEVEL(glu_back)(size_t n, const float *gate, const float *x, const float *dy,
                            float *dgate, float *dx)
{
    for (size_t c = 0; c < n; c += VF) {
        size_t k = size_min(VF, n - c);
        vf g = vf_load_n(gate + c, k), v = vf_load_n(x + c, k), d = vf_load_n(dy + c, k);
        vf e = v_exp(-g), s = vf_all(1.0f) / (vf_all(1.0f) + e);
        vf_store_n(dgate + c, d * v * s * (vf_all(1.0f) + g * e * s), k);
        vf_store_n(dx + c, d * g * s, k);
    }
}
