// SPDX-License-Identifier: Apache-2.0
// The exponential and functions made of it, over a vector type V and its operations V_*, which the
// including file defines: exp-avx2.c and exp-avx512.c with fused multiply-adds, simd.h without (so
// that all levels give the same bits). No include guard: it is included more than once.

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

// erfc(u) for u >= 0, from e = exp(-u^2): e P(u), P a minimax polynomial in u - 2.25 on [0, 4.5] of
// exp(u^2) erfc(u), weighted by exp(-u^2), error 9e-9. Beyond 4.5 P stands still: erfc is below
// 2e-10 there.
INLINE V v_erfc(V u, V e)
{
    V t = V_SUB(V_MIN(v_all(4.5f), u), v_all(2.25f)), p = v_all(7.4922786552633625e-06f);
    p = V_FMA(p, t, v_all(5.714396320399828e-05f));
    p = V_FMA(p, t, v_all(0.00018411342171020806f));
    p = V_FMA(p, t, v_all(0.00022791960509493947f));
    p = V_FMA(p, t, v_all(-2.8310983907431364e-05f));
    p = V_FMA(p, t, v_all(-0.0006422423175536096f));
    p = V_FMA(p, t, v_all(-0.00021049559290986508f));
    p = V_FMA(p, t, v_all(-0.001202925806865096f));
    p = V_FMA(p, t, v_all(0.0038723712787032127f));
    p = V_FMA(p, t, v_all(-0.010852992534637451f));
    p = V_FMA(p, t, v_all(0.03200254216790199f));
    p = V_FMA(p, t, v_all(-0.08849618583917618f));
    p = V_FMA(p, t, v_all(0.23108595609664917f));
    return V_MUL(p, e);
}

// x Phi(x): the smaller of Phi and 1 - Phi is taken directly, so nothing cancels.
INLINE V v_gelu(V x)
{
    V u = V_ABS(V_MUL(x, v_all(0.70710678118654752f))), e = v_exp(V_FNMA(u, u, v_all(0.0f)));
    V half = V_MUL(v_all(0.5f), v_erfc(u, e));
    return V_MUL(x, V_IF_NEGATIVE(x, half, V_SUB(v_all(1.0f), half)));
}

// d/dx x Phi(x) = Phi(x) + x phi(x)
INLINE V v_gelu_slope(V x)
{
    V u = V_ABS(V_MUL(x, v_all(0.70710678118654752f))), e = v_exp(V_FNMA(u, u, v_all(0.0f)));
    V half = V_MUL(v_all(0.5f), v_erfc(u, e));
    V phi = V_MUL(v_all(0.39894228040143268f), e);
    return V_FMA(x, phi, V_IF_NEGATIVE(x, half, V_SUB(v_all(1.0f), half)));
}

INLINE V v_quick_gelu(V x)
{
    return V_DIV(x, V_ADD(v_all(1.0f), v_exp(V_MUL(v_all(-1.702f), x))));
}

// d/dx x s(a x) = s (1 + a x (1 - s)), a = 1.702; 1 - s as exp(-a x) s, which does not cancel
INLINE V v_quick_slope(V x)
{
    V ax = V_MUL(v_all(1.702f), x), one = v_all(1.0f), e = v_exp(V_SUB(v_all(0.0f), ax));
    V s = V_DIV(one, V_ADD(one, e));
    return V_MUL(s, V_FMA(ax, V_MUL(e, s), one));
}

// x/2 (1 + tanh u), u = sqrt(2/pi) (x + 0.044715 x^3), which is x s(2 u)
INLINE V v_tanh_gelu(V x)
{
    V u = V_FMA(V_MUL(V_MUL(x, x), x), v_all(0.044715f), x);
    return V_DIV(x, V_ADD(v_all(1.0f), v_exp(V_MUL(v_all(-1.5957691216057308f), u))));
}

// d/dx x s(2 u) = s (1 + x (1 - s) 2 u')
INLINE V v_tanh_slope(V x)
{
    V one = v_all(1.0f), xx = V_MUL(x, x), root = v_all(1.5957691216057308f); // 2 sqrt(2/pi)
    V u = V_FMA(V_MUL(xx, x), v_all(0.044715f), x), du = V_FMA(xx, v_all(0.134145f), one);
    V e = v_exp(V_SUB(v_all(0.0f), V_MUL(root, u))), s = V_DIV(one, V_ADD(one, e));
    return V_MUL(s, V_FMA(V_MUL(x, V_MUL(root, du)), V_MUL(e, s), one));
}
