// SPDX-License-Identifier: Apache-2.0
#include "losses/optim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "unit/tap.h"

static void schedule(void)
{
    struct optim_set s;
    optim_set_default(&s);
    s.lr = 2;
    s.steps = 10;
    s.warmup = 4;
    ok(optim_lr(&s, 0) == 0.5 && optim_lr(&s, 3) == 2, "warm-up");
    ok(optim_lr(&s, 4) == 2 && fabs(optim_lr(&s, 7) - 1) < 1e-12, "cosine");
    ok(fabs(optim_lr(&s, 9) - (1 + cos(M_PI * 5 / 6))) < 1e-12 && optim_lr(&s, 10) == 0, "its end");
    s.warmup = 0;
    ok(optim_lr(&s, 0) == 2, "no warm-up");
    s.warmup = 20;
    ok(fabs(optim_lr(&s, 9) - 1) < 1e-12, "a warm-up longer than the run");
}

enum { SIZE = 37, STEPS = 5 };

// The definition in float64.
static void reference(const struct optim_set *s, double p[SIZE], float g[STEPS][SIZE], bool decay)
{
    double m[SIZE] = {0}, v[SIZE] = {0};
    for (int t = 0; t < STEPS; t++) {
        double norm = 0, lr = optim_lr(s, (uint64_t)t);
        for (int i = 0; i < SIZE; i++)
            norm += (double)g[t][i] * (double)g[t][i];
        norm = sqrt(norm);
        double clip = fmin(1, (double)s->clip / (norm + 1e-6));
        for (int i = 0; i < SIZE; i++) {
            double x = (double)g[t][i] * clip;
            p[i] *= decay ? 1 - lr * (double)s->weight_decay : 1;
            m[i] = 0.9 * m[i] + 0.1 * x;
            v[i] = 0.98 * v[i] + 0.02 * x * x;
            double mh = m[i] / (1 - pow(0.9, t + 1)), vh = v[i] / (1 - pow(0.98, t + 1));
            p[i] -= lr * mh / (sqrt(vh) + 1e-6);
        }
    }
}

static void adamw(struct dev *d, bool decay)
{
    struct rng rng;
    struct optim o;
    struct optim_set s;
    struct err e;
    float p[SIZE], grad[SIZE], g[STEPS][SIZE];
    double want[SIZE], worst = 0, norm = 0;
    rng_init(&rng, 1, 0);
    for (int i = 0; i < SIZE; i++)
        want[i] = (double)(p[i] = (float)rng_normal(&rng));
    for (int t = 0; t < STEPS; t++)
        for (int i = 0; i < SIZE; i++)
            g[t][i] = (float)rng_normal(&rng) * (t == 2 ? 0.01f : 1);
    optim_set_default(&s);
    s.lr = 0.05f;
    s.steps = STEPS;
    s.warmup = 2;
    reference(&s, want, g, decay);
    optim_init(&o, d, &s);
    ok(optim_add(&o, "p", SIZE, p, grad, decay, &e) && optim_find(&o, "p") && !optim_find(&o, "q"),
       "a tensor");
    for (int t = 0; t < STEPS; t++) {
        memcpy(grad, g[t], sizeof grad);
        if (optim_step(&o, &norm, &e))
            break;
    }
    for (int i = 0; i < SIZE; i++)
        worst = fmax(worst, fabs((double)p[i] - want[i]));
    ok(o.step == STEPS && worst < 1e-6, "AdamW%s: %g", decay ? " with decay" : "", worst);
    optim_release(&o);
}

// Rows in the step's sample are stepped as the dense definition has it, the others not touched.
static void rows(struct dev *d)
{
    enum { R = 4, C = 5 };
    struct optim o;
    struct optim_set s;
    struct err e;
    float dense[R * C], some[R * C], gd[R * C] = {0}, gs[2 * C];
    const int32_t index[2] = {1, 3};
    double norm;
    for (int i = 0; i < R * C; i++)
        dense[i] = some[i] = (float)i - 7.5f;
    for (int i = 0; i < 2 * C; i++)
        gd[index[i / C] * C + i % C] = gs[i] = 0.1f * (float)(i + 1);
    optim_set_default(&s);
    s.steps = 10;
    optim_init(&o, d, &s);
    optim_add(&o, "dense", R * C, dense, gd, true, &e);
    struct optim_slot *slot = optim_add(&o, "some", R * C, some, gs, true, &e);
    slot->cols = C;
    slot->rows = index;
    slot->n_rows = 2;
    ok(!optim_step(&o, &norm, &e), "a step");
    ok(!memcmp(dense + C, some + C, C * 4) && !memcmp(dense + 3 * C, some + 3 * C, C * 4),
       "rows in the sample: the dense step");
    ok(some[0] == -7.5f && some[2 * C] == 2.5f, "the others are left alone");
    optim_release(&o);
}

int main(void)
{
    struct dev d;
    struct err e;
    if (dev_open(&d, "cpu", DEV_F32, 2, false, &e))
        return 1;
    schedule();
    adamw(&d, false);
    adamw(&d, true);
    rows(&d);
    dev_close(&d);
    return tap_done();
}
