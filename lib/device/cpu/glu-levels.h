// SPDX-License-Identifier: Apache-2.0
// Gated activations and rotations of a row, for device/cpu/levels.h.

static void LEVEL(glu_run)(size_t n, const float *gate, const float *x, float *to)
{
    for (size_t c = 0; c < n; c += VF) {
        size_t k = size_min(VF, n - c);
        vf g = vf_load_n(gate + c, k), v = vf_load_n(x + c, k);
        vf_store_n(to + c, v * g / (vf_all(1.0f) + v_exp(-g)), k);
    }
}

// `angle`: the row's cosines and sines in turn.
static void LEVEL(turn_row)(const struct turn *j, const float *angle, float *x)
{
    float sign = j->back ? -1.0f : 1.0f;
    for (size_t h = 0; h < j->cols; h += j->head)
        for (size_t c = 0; c < j->head; c += 2) {
            float a = x[h + c], b = x[h + c + 1], cs = angle[c], sn = sign * angle[c + 1];
            x[h + c] = a * cs - b * sn;
            x[h + c + 1] = b * cs + a * sn;
        }
}
