// SPDX-License-Identifier: Apache-2.0
// The body of exp-avx2.c and exp-avx512.c, over the vector type V of VN floats that
// they define. No include guard: it is not a header.

INLINE V v_all(float x)
{
    return V_SET1(x);
}

// exp, within 2 ulp from -87.3 to 88.3, held at the ends; a NaN stays one. 2^n exp(r) with |r| <=
// ln 2 / 2; (exp(r) - 1 - r) / r^2 by a minimax polynomial, error 3e-9.
INLINE V v_exp(V x)
{
    x = V_MIN(v_all(88.3f), V_MAX(v_all(-87.3f), x));
    V n = V_ROUND(V_MUL(x, v_all(1.44269504088896341f)));
    V r = V_FNMA(n, v_all(0.693359375f), x);
    r = V_FNMA(n, v_all(-2.12194440e-4f), r);
    V p = v_all(0.0013814609264954925f);
    p = V_FMA(p, r, v_all(0.0083687175065279f));
    p = V_FMA(p, r, v_all(0.04166838899254799f));
    p = V_FMA(p, r, v_all(0.1666652113199234f));
    p = V_FMA(p, r, v_all(0.4999999403953552f));
    p = V_FMA(p, V_MUL(r, r), V_ADD(r, v_all(1.0f)));
    return V_SCALE(p, n);
}

// erfc(u) = exp(-u^2 + h(u)) for u >= 0; h is a minimax polynomial in u - 2.25 on [0, 4.5],
// weighted by erfc, error 2.5e-9 in erfc. Beyond 4.5 h stands still: erfc is below 2e-10 there.
INLINE V v_erfc(V u)
{
    V t = V_SUB(V_MIN(v_all(4.5f), u), v_all(2.25f)), p = v_all(-7.660853498236975e-07f);
    p = V_FMA(p, t, v_all(-1.628257109587139e-06f));
    p = V_FMA(p, t, v_all(5.484290795720881e-06f));
    p = V_FMA(p, t, v_all(-2.0333736756583676e-06f));
    p = V_FMA(p, t, v_all(0.00010926970571745187f));
    p = V_FMA(p, t, v_all(-0.0005841535748913884f));
    p = V_FMA(p, t, v_all(0.002730290638282895f));
    p = V_FMA(p, t, v_all(-0.013318655081093311f));
    p = V_FMA(p, t, v_all(0.06515099108219147f));
    p = V_FMA(p, t, v_all(-0.3829030990600586f));
    p = V_FMA(p, t, v_all(-1.4649584293365479f));
    return v_exp(V_FNMA(u, u, p));
}

// x Phi(x): the smaller of Phi and 1 - Phi is taken directly, so nothing cancels.
INLINE V v_gelu(V x)
{
    V half = V_MUL(v_all(0.5f), v_erfc(V_ABS(V_MUL(x, v_all(0.70710678118654752f)))));
    return V_MUL(x, V_IF_NEGATIVE(x, half, V_SUB(v_all(1.0f), half)));
}

INLINE V v_quick_gelu(V x)
{
    return V_DIV(x, V_ADD(v_all(1.0f), v_exp(V_MUL(v_all(-1.702f), x))));
}

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
