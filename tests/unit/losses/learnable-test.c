// SPDX-License-Identifier: Apache-2.0
// The rows that a step is taken of, against plain loops in float64.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "losses/learnable.h"
#include "unit/tap.h"

enum { MOST = 1100, DIM = 7, DIM_T = 11 };

static void unit_rows(float *x, size_t n, size_t dim, struct rng *r)
{
    for (size_t i = 0; i < n; i++) {
        double q = 0;
        for (size_t k = 0; k < dim; k++) {
            x[i * dim + k] = (float)rng_normal(r);
            q += (double)x[i * dim + k] * (double)x[i * dim + k];
        }
        for (size_t k = 0; k < dim; k++)
            x[i * dim + k] = (float)((double)x[i * dim + k] / sqrt(q));
    }
}

static double sim(const float *x, const float *y, size_t i, size_t j, size_t dim)
{
    double s = 0;
    for (size_t k = 0; k < dim; k++)
        s += (double)x[i * dim + k] * (double)y[j * dim + k];
    return s;
}

// l_i(S) of one side; in: which rows are in S, with i itself where all are.
static double loss(const float *const x[2], size_t n, size_t dim, double scale, const bool *in,
                   size_t i)
{
    double own = scale * sim(x[0], x[1], i, i, dim), sum[2];
    for (int k = 0; k < 2; k++) {
        sum[k] = exp(own);
        for (size_t j = 0; j < n; j++)
            if (j != i && in[j])
                sum[k] += exp(scale * sim(x[k], x[!k], i, j, dim));
    }
    return (log(sum[0]) + log(sum[1])) / 2 - own;
}

static void plain(const float *const x[2][2], const size_t dim[2], const float scale[2], size_t n,
                  size_t keep, size_t blocks, bool *chosen)
{
    bool all[MOST], *in = all;
    for (size_t i = 0; i < n; i++) {
        all[i] = true;
        chosen[i] = false;
    }
    for (size_t b = 0; b < blocks; b++) {
        double score[MOST];
        size_t take = (b + 1) * keep / blocks - b * keep / blocks;
        for (size_t i = 0; i < n; i++)
            score[i] = chosen[i] ? -INFINITY
                                 : loss(x[0], n, dim[0], (double)scale[0], in, i) -
                                       loss(x[1], n, dim[1], (double)scale[1], in, i);
        for (size_t k = 0; k < take; k++) {
            size_t best = 0;
            for (size_t i = 1; i < n; i++)
                if (score[i] > score[best])
                    best = i;
            chosen[best] = true;
            score[best] = -INFINITY;
        }
        in = chosen;
    }
}

static void check(struct dev *d, size_t n, size_t keep, size_t blocks)
{
    static float rows[2][2][MOST * DIM_T];
    const size_t dim[2] = {DIM, DIM_T};
    const float scale[2] = {9, 20};
    const float *x[2][2];
    bool want[MOST];
    struct rng r;
    struct err e = {.text = ""};
    struct learnable l;
    rng_init(&r, n + keep, 0);
    for (int s = 0; s < 2; s++)
        for (int k = 0; k < 2; k++) {
            unit_rows(rows[s][k], n, dim[s], &r);
            x[s][k] = rows[s][k];
        }
    plain((const float *const(*)[2])x, dim, scale, n, keep, blocks, want);
    struct learnable_set set = {n, keep, blocks, {DIM, DIM_T}};
    bool good = !learnable_open(&l, d, &set, &e) &&
                !learnable_choose(&l, (const float *const(*)[2])x, scale, &e);
    size_t wrong = 0;
    for (size_t i = 0, at = 0; i < n && good; i++) {
        bool is = at < keep && (size_t)l.chosen[at] == i;
        at += is;
        wrong += is != want[i];
    }
    ok(good && !wrong, "%zu of %zu in %zu blocks: as a plain loop, %zu differ %s", keep, n, blocks,
       wrong, e.text);
    ok(good && isfinite(l.mean) &&
           (n == keep ? fabs(l.mean_chosen - l.mean) < 1e-9 : l.mean_chosen > l.mean),
       "scores %g, of the chosen %g", l.mean, l.mean_chosen);
    learnable_close(&l);
}

// Known: of a student that is the teacher nothing is learnable, and the first rows are taken; where
// it has one pair wrong, that one comes first.
static void check_known(struct dev *d)
{
    enum { N = 6 };
    float v[N * N] = {0}, t[N * N] = {0};
    const float scale[2] = {5, 5};
    struct learnable l;
    struct err e;
    for (int i = 0; i < N; i++)
        v[i * N + i] = t[i * N + i] = 1;
    const float *x[2][2] = {{v, v}, {t, t}};
    struct learnable_set set = {N, 3, 2, {N, N}};
    bool good = !learnable_open(&l, d, &set, &e) &&
                !learnable_choose(&l, (const float *const(*)[2])x, scale, &e);
    ok(good && l.chosen[0] == 0 && l.chosen[1] == 1 && l.chosen[2] == 2 && fabs(l.mean) < 1e-6,
       "the teacher's equal has nothing to learn: %g", l.mean);
    float wrong[N * N];
    memcpy(wrong, v, sizeof v);
    wrong[4 * N + 4] = 0;
    wrong[4 * N + 5] = 1; // picture 4 is like text 5
    x[0][0] = wrong;
    learnable_close(&l);
    set.keep = set.blocks = 1;
    good = !learnable_open(&l, d, &set, &e) &&
           !learnable_choose(&l, (const float *const(*)[2])x, scale, &e);
    ok(good && l.chosen[0] == 4, "the pair that it has wrong comes first: %d", l.chosen[0]);
    learnable_close(&l);
    set.keep = 7;
    ok(learnable_open(&l, d, &set, &e), "more than there are: %s", e.text);
}

int main(void)
{
    struct dev d;
    struct err e;
    if (dev_open(&d, "cpu", DEV_F32, 2, false, &e))
        return 1;
    check_known(&d);
    check(&d, 40, 12, 4);
    check(&d, 40, 12, 1);
    check(&d, 40, 12, 12);
    check(&d, 40, 40, 3);
    check(&d, 1, 1, 1);
    check(&d, MOST, 300, 7); // more columns than a matrix has
    dev_close(&d);
    return tap_done();
}
