// SPDX-License-Identifier: Apache-2.0
// The functions of struct cpu_exp over the vectors of exp-body.h. No include guard: it is not a
// header.

// One vector's worth through memory, for what is left of a row.
#define EACH_VECTOR(f)                                                                             \
    size_t i = 0;                                                                                  \
    for (; i + VN <= n; i += VN)                                                                   \
        V_STORE(x + i, f(bias ? V_ADD(V_LOAD(x + i), V_LOAD(bias + i)) : V_LOAD(x + i)));          \
    if (i < n) {                                                                                   \
        float t[VN] = {0};                                                                         \
        for (size_t k = 0; i + k < n; k++)                                                         \
            t[k] = x[i + k] + (bias ? bias[i + k] : 0);                                            \
        V_STORE(t, f(V_LOAD(t)));                                                                  \
        memcpy(x + i, t, (n - i) * sizeof *t);                                                     \
    }

VECTOR static void gelu(const float *bias, float *x, size_t n){EACH_VECTOR(v_gelu)}

VECTOR static void quick_gelu(const float *bias, float *x, size_t n){EACH_VECTOR(v_quick_gelu)}

VECTOR static void tanh_gelu(const float *bias, float *x, size_t n){EACH_VECTOR(v_tanh_gelu)}

// Lanes added by halves.
VECTOR static float sum_lanes(V v)
{
    float t[VN];
    V_STORE(t, v);
    for (int w = VN / 2; w > 0; w /= 2)
        for (int i = 0; i < w; i++)
            t[i] += t[i + w];
    return t[0];
}

VECTOR static float softmax_row(float *s, size_t n, size_t padded, float *max)
{
    size_t i, whole = n / VN * VN;
    for (i = n; i < padded; i++)
        s[i] = -INFINITY;
    size_t end = whole < n ? whole + VN : whole;
    V top = V_LOAD(s), sum = v_all(0);
    for (i = VN; i < end; i += VN)
        top = V_MAX(top, V_LOAD(s + i));
    float t[VN];
    V_STORE(t, top);
    *max = t[0];
    for (int k = 1; k < VN; k++)
        *max = t[k] > *max ? t[k] : *max;
    for (i = 0; i < end; i += VN)
        V_STORE(s + i, v_exp(V_SUB(V_LOAD(s + i), v_all(*max))));
    memset(s + n, 0, (padded - n) * sizeof *s);
    for (i = 0; i < end; i += VN)
        sum = V_ADD(sum, V_LOAD(s + i));
    return sum_lanes(sum);
}
