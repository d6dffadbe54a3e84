// SPDX-License-Identifier: Apache-2.0
// relation of a teacher that is rotated, or wider; align of pairs that are one.
#include "unit/losses/terms.h"

static double run_term(struct dev *d, const char *term, const float *v, const float *t,
                       size_t dim_t, const float *tv, const float *tt, float *g)
{
    struct losses l;
    struct err e;
    double total = NAN;
    struct loss_batch b = {
        .n = N, .dim = D, .dim_t = dim_t, .v = v, .t = t, .tv = tv, .tt = tt, .scale = 1};
    struct loss_grads grads = {.dv = g, .dt = g + N * D};
    memset(g, 0, 2 * N * D * sizeof *g);
    if (losses_parse(&l, term, &e) || losses_open(&l, d, N, 1, &e) ||
        losses_run(&l, &b, &grads, &total, &e))
        total = NAN;
    losses_close(&l);
    return total;
}

// The mirror image of each row in the plane across `axis`, a unit row.
static void mirror(const float *x, const float *axis, float *y)
{
    for (int i = 0; i < N; i++) {
        double s = 0;
        for (int k = 0; k < D; k++)
            s += (double)x[i * D + k] * (double)axis[k];
        for (int k = 0; k < D; k++)
            y[i * D + k] = (float)((double)x[i * D + k] - 2 * s * (double)axis[k]);
    }
}

static void widen(const float *x, float *y)
{
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < D; k++)
            y[i * (D + 2) + k + 1] = x[i * D + k];
        y[i * (D + 2)] = y[i * (D + 2) + D + 1] = 0;
    }
}

static double greatest(const float *g)
{
    double most = 0;
    for (int i = 0; i < 2 * N * D; i++)
        most = fmax(most, fabs((double)g[i]));
    return most;
}

int main(void)
{
    struct dev d;
    struct world w;
    float x[TOTAL], tv[N * D], tt[N * D], wide[2][N * (D + 2)], g[2][2 * N * D];
    if (!begin(&d, &w, x))
        return 1;
    const float *v = x + V, *t = x + T;
    mirror(v, w.tv, tv); // any unit row is an axis
    mirror(t, w.tt + D, tt);
    double same = run_term(&d, "relation", v, t, D, tv, tt, g[0]);
    ok(same < 1e-11 && greatest(g[0]) < 1e-6, "a rotated teacher: %g, gradient %g", same,
       greatest(g[0]));
    double one = run_term(&d, "relation", v, t, D, w.tv, w.tt, g[0]);
    widen(w.tv, wide[0]);
    widen(w.tt, wide[1]);
    double other = run_term(&d, "relation", v, t, D + 2, wide[0], wide[1], g[1]);
    double worst = 0;
    for (int i = 0; i < 2 * N * D; i++)
        worst = fmax(worst, fabs((double)g[0][i] - (double)g[1][i]));
    ok(one > 0.1 && fabs(one - other) < 1e-6 && worst < 1e-6,
       "a wider teacher of the same similarities: %.9g, %.9g, gradients within %g", one, other,
       worst);
    double zero = run_term(&d, "align", v, v, D, NULL, NULL, g[0]);
    ok(fabs(zero) < 1e-6, "pairs that are one: align %g", zero);
    dev_close(&d);
    return tap_done();
}
