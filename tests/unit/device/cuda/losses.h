// SPDX-License-Identifier: Apache-2.0
// The losses on both devices. For cuda-test.c.
#ifndef UNIT_DEVICE_CUDA_LOSSES_H
#define UNIT_DEVICE_CUDA_LOSSES_H

#include "unit/device/cuda/both.h"

// Margins of labels: similarities of ties and of a row without others.
static void test_labels(size_t cols)
{
    enum { ROWS = 11 };
    size_t ld = cols + 5;
    int32_t *of = malloc((cols + ROWS) * sizeof *of);
    for (size_t i = 0; i < cols + ROWS; i++)
        of[i] = (int32_t)rng_below(&rng, 4);
    struct buf x = floats(ROWS * ld), g = floats(ROWS * ld), share = floats(cols + ROWS);
    struct buf label = ints(of, cols + ROWS), at = ints(of, ROWS), other_at = ints(of, cols);
    struct buf least = floats(ROWS), back = floats(ROWS), loss = floats(ROWS);
    struct buf other = floats(cols), other_back = floats(cols);
    file = "loss";
    for (int k = 0; k < 2; k++) {
        struct dev_margin m = {.sims = x.p[k], .ld = ld, .row0 = 1, .weight = 0.3f};
        m.label = label.p[k];
        m.row_label = m.label + cols;
        m.share = share.p[k];
        m.row_share = m.share + cols;
        m.least = least.p[k];
        m.back = back.p[k];
        m.at = at.p[k];
        m.other_least = other.p[k];
        m.other_back = other_back.p[k];
        m.other_at = other_at.p[k];
        m.loss = loss.p[k];
        m.grad = g.p[k];
        dev[k].op->label_least(&dev[k], ROWS, cols, &m);
        dev[k].op->label_margin(&dev[k], ROWS, cols, &m);
    }
    same(&least, 0, 0, "margins of labels, the least");
    float *want = fetch(&at, 0), *got = fetch(&at, 1);
    ok(!memcmp(want, got, ROWS * sizeof *want), "loss:   its column, %zu columns", cols);
    free(want);
    free(got);
    same(&back, 1e-6, 1e-6, "  how many are above");
    same(&loss, 1e-6, 1e-6, "  loss");
    same(&g, 1e-6, 1e-6, "  gradient");
    RELEASE(x, g, share, label, at, other_at, least, back, loss, other, other_back);
    free(of);
}

static void test_losses(size_t cols)
{
    enum { ROWS = 11 };
    size_t ld = cols + 5;
    int32_t y[ROWS];
    for (int i = 0; i < ROWS; i++)
        y[i] = i == 4 ? -1 : (int32_t)rng_below(&rng, cols);
    struct buf x = floats(ROWS * ld), t = floats(ROWS * cols), g = floats(ROWS * ld);
    struct buf target = ints(y, ROWS), loss = floats(ROWS), h = floats(ROWS);
    file = "loss";
    BOTH(scale(d, ROWS * ld, 9, x.p[k]));
    BOTH(row_lse(d, ROWS, cols, x.p[k], ld, loss.p[k]));
    same(&loss, 3e-7, 3e-7, "log-sum-exp");
    BOTH(softmax_ce(d, ROWS, cols, x.p[k], ld, target.p[k], 0.3f, g.p[k], loss.p[k]));
    same(&g, 3e-6, 3e-6, "cross entropy, gradient");
    same(&loss, 1e-6, 1e-6, "  loss");
    BOTH(softmax_soft_ce(d, ROWS, cols, x.p[k], ld, t.p[k], cols, 0.3f, g.p[k], loss.p[k], h.p[k]));
    same(&g, 3e-6, 3e-6, "soft cross entropy, gradient");
    same(&loss, 1e-6, 1e-6, "  loss");
    same(&h, 3e-6, 3e-6, "  entropy");
    struct buf lse = floats(ROWS), other = floats(cols), tlse = floats(ROWS), slope = floats(ROWS);
    struct buf tother = floats(cols);
    BOTH(row_lse(d, ROWS, cols, x.p[k], ld, lse.p[k]));
    BOTH(row_lse(d, ROWS, cols, t.p[k], cols, tlse.p[k]));
    for (int both = 0; both < 2; both++)
        for (int soft = 0; soft < 2; soft++) {
            for (int k = 0; k < 2; k++) {
                struct dev_given j = {.logits = x.p[k], .ld = ld, .lse = lse.p[k], .weight = 0.3f};
                j.other = both ? other.p[k] : NULL;
                j.target = soft ? NULL : target.p[k];
                j.teacher = soft ? t.p[k] : NULL;
                j.teacher_ld = cols;
                j.teacher_lse = tlse.p[k];
                j.teacher_other = tother.p[k];
                j.grad = g.p[k];
                j.loss = loss.p[k];
                j.entropy = soft ? h.p[k] : NULL;
                j.slope = slope.p[k];
                dev[k].op->given_ce(&dev[k], ROWS, cols, &j);
            }
            same(&g, 3e-6, 3e-6, "cross entropy of known sums, gradient");
            same(&loss, 3e-6, 3e-6, "  loss");
            same(&h, 3e-6, 3e-6, "  entropy");
            same(&slope, 1e-5, 1e-5, "  gradient times logits");
        }
    RELEASE(lse, other, tlse, tother, slope);
    BOTH(sigmoid_ce(d, ROWS, cols, x.p[k], ld, 0.3f, g.p[k], loss.p[k]));
    same(&g, 1e-6, 1e-6, "sigmoid loss, gradient");
    same(&loss, 1e-6, 1e-6, "  loss");
    BOTH(margin_filter(d, ROWS, cols, x.p[k], ld, target.p[k], 2, 0.5f, 4, x.p[k]));
    same(&x, 1e-6, 1e-6, "margin and filter");
    enum { DIM = 9, EACH = 3 };
    int32_t at[ROWS * EACH];
    for (int i = 0; i < ROWS * EACH; i++)
        at[i] = i % 5 ? (int32_t)rng_below(&rng, ROWS) : -1;
    struct buf v = floats(ROWS * DIM), w = floats(ROWS * DIM), index = ints(at, ROWS * EACH);
    struct buf dots = floats(ROWS * EACH);
    BOTH(pick_dots(d, ROWS, EACH, DIM, 3, v.p[k], w.p[k], index.p[k], dots.p[k]));
    same(&dots, 1e-6, 1e-6, "picked products");
    RELEASE(v, w, index, dots);
    BOTH(softmax_ce(d, ROWS, cols, x.p[k], ld, target.p[k], 0.3f, x.p[k], loss.p[k]));
    same(&x, 3e-6, 3e-6, "cross entropy in place, filtered columns");
    RELEASE(x, t, g, target, loss, h);
}

#endif
