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

// open_clip 3.3's rates of 100 steps, 10 of them warm-up, at lr 1e-3.
static void schedules_of_open_clip(void)
{
    enum { PLACES = 9 };
    static const uint64_t at[PLACES] = {0, 9, 10, 50, 69, 70, 71, 85, 99};
    static const struct {
        enum optim_schedule schedule;
        double power, end, lr[PLACES];
    } want[] = {
        {OPTIM_COSINE,
         1,
         0,
         {1e-4, 1e-3, 1e-3, 5.868240888334653e-4, 2.6526421860705474e-4, 2.5e-4,
          2.350403678833976e-4, 6.698729810778065e-5, 3.0458649045211895e-7}},
        {OPTIM_CONST, 1, 0, {1e-4, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3}},
        {OPTIM_COOLDOWN,
         1,
         0,
         {1e-4, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 9.666666666666667e-4, 5e-4, 3.333333333333333e-5}},
        {OPTIM_COOLDOWN,
         2,
         1e-5,
         {1e-4, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 9.351e-4, 2.575e-4, 1.11e-5}},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct optim_set s;
        optim_set_default(&s);
        s.steps = 100;
        s.warmup = 10;
        s.schedule = want[i].schedule;
        s.cooldown = 30;
        s.power = want[i].power;
        s.lr_end = (float)want[i].end;
        double worst = 0;
        for (int j = 0; j < PLACES; j++)
            worst = fmax(worst, fabs(optim_lr(&s, at[j]) / want[i].lr[j] - 1));
        ok(worst < 1e-6, "open_clip's %s, power %g, end %g: %g off",
           optim_schedule_name(s.schedule), s.power, want[i].end, worst);
    }
    struct optim_set s;
    optim_set_default(&s);
    s.steps = 10;
    s.schedule = OPTIM_COOLDOWN;
    s.cooldown = 10;
    s.lr_end = 1e-4f;
    ok(optim_lr(&s, 0) == (double)s.lr && optim_lr(&s, 10) == (double)s.lr_end &&
           optim_lr(&s, 50) == (double)s.lr_end,
       "a cooldown of the whole run, and its end");
    s.schedule = OPTIM_COSINE;
    ok(optim_lr(&s, 10) == (double)s.lr_end && optim_lr(&s, 9) > (double)s.lr_end,
       "a cosine to another end");
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
    schedules_of_open_clip();
    adamw(&d, false);
    adamw(&d, true);
    rows(&d);
    dev_close(&d);
    return tap_done();
}
