// SPDX-License-Identifier: Apache-2.0
// Elementwise operations, for device/cpu/levels.h.

static void LEVEL(add)(const float *a, const float *b, float *y, size_t n)
{
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        vf_store(y + i, vf_load(a + i) + vf_load(b + i));
    for (; i < n; i++)
        y[i] = a[i] + b[i];
}

static void LEVEL(mul)(const float *a, const float *b, float *y, size_t n)
{
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        vf_store(y + i, vf_load(a + i) * vf_load(b + i));
    for (; i < n; i++)
        y[i] = a[i] * b[i];
}

static void LEVEL(scale)(float *x, float by, size_t n)
{
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        vf_store(x + i, vf_load(x + i) * vf_all(by));
    for (; i < n; i++)
        x[i] *= by;
}

static void LEVEL(add_branch)(float *y, const float *x, const float *bias, const float *gamma,
                              size_t n)
{
    size_t i = 0;
    for (; i + VF <= n; i += VF) {
        vf v = vf_load(x + i);
        if (bias)
            v += vf_load(bias + i);
        if (gamma)
            v *= vf_load(gamma + i);
        vf_store(y + i, vf_load(y + i) + v);
    }
    for (; i < n; i++)
        y[i] += (x[i] + (bias ? bias[i] : 0)) * (gamma ? gamma[i] : 1);
}
