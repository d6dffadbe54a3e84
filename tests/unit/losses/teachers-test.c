// SPDX-License-Identifier: Apache-2.0
// The affinity term: what its targets become, and several teachers.
#include "unit/losses/terms.h"

// With s_T = 10000 and a teacher whose pairs are the greatest the targets are the pairs: the clip
// term. With 0 they are uniform. Two equal teachers are one. Two others are the mean of theirs.
static void teachers(struct dev *d, struct world *w, const float *x)
{
    struct got clip, got, one;
    struct world was = *w;
    double s = (double)expf(x[SCALE]), want = 0, worst = 0;
    w->term = "clip";
    bool good = run(d, w, x, 1, 1, &clip);
    memcpy(w->tt, w->tv, sizeof w->tt); // a row's own product is the greatest
    w->term = "affinity";
    w->scale[0] = 1e4f;
    good = good && run(d, w, x, 1, 1, &got);
    for (int i = 0; i < TOTAL; i++)
        worst = fmax(worst, fabs((double)got.g[i] - (double)clip.g[i]));
    ok(good && fabs(got.value - clip.value) < 1e-6 && worst < 1e-6,
       "affinity of a sure teacher is clip: %.9g, %.9g, gradients within %g", got.value, clip.value,
       worst);
    w->scale[0] = 0;
    for (int i = 0; i < N; i++) {
        double row[N], column[N], v[D], t[D];
        for (int j = 0; j < N; j++)
            for (int side = 0; side < 2; side++) {
                for (int k = 0; k < D; k++) {
                    v[k] = (double)x[V + (side ? j : i) * D + k];
                    t[k] = (double)x[T + (side ? i : j) * D + k];
                }
                (side ? column : row)[j] = s * dot(v, t);
            }
        for (int j = 0; j < N; j++)
            want += (lse(row, N) - row[j] + lse(column, N) - column[j]) / (2.0 * N * N);
    }
    ok(run(d, w, x, 1, 1, &got) && fabs(got.value - want) < 1e-6 * want,
       "of one that knows nothing the targets are uniform: %.9g, want %.9g", got.value, want);
    *w = was;
    w->term = "affinity";
    good = run(d, w, x, 1, 1, &one);
    w->teachers = 2;
    memcpy(w->other[0], w->tv, sizeof w->tv);
    memcpy(w->other[1], w->tt, sizeof w->tt);
    w->scale[1] = w->scale[0];
    good = good && run(d, w, x, 1, 1, &got);
    worst = 0;
    for (int i = 0; i < TOTAL; i++)
        worst = fmax(worst, fabs((double)got.g[i] - (double)one.g[i]));
    ok(good && got.value == one.value && worst < 1e-6, "two equal teachers are one, within %g",
       worst);
    *w = was;
    w->term = "affinity";
    w->teachers = 2;
    one_term(d, w, x, ", two teachers");
    w->parts = 3;
    w->block = 7;
    one_term(d, w, x, ", two teachers, 3 parts in blocks");
    *w = was;
}

int main(void)
{
    struct dev d;
    struct world w;
    float x[TOTAL];
    if (!begin(&d, &w, x))
        return 1;
    teachers(&d, &w, x);
    dev_close(&d);
    return tap_done();
}
