// SPDX-License-Identifier: Apache-2.0
// The margin term: the known row, rows without others, ties, labels of several rows.
#include "unit/losses/terms.h"

// Rows of the plane whose similarities with v_0 = (1, 0) are 0.9, 0.2, 0.5.
static double known(struct dev *d, const int32_t *label, size_t n, float *g)
{
    struct losses l;
    struct err e;
    double total = NAN;
    const float cosine[] = {0.9f, 0.2f, 0.5f};
    float v[6] = {1, 0, 0, 0, 0, 0}, t[6];
    for (int i = 0; i < 3; i++) {
        t[2 * i] = cosine[i];
        t[2 * i + 1] = sqrtf(1 - cosine[i] * cosine[i]);
    }
    struct loss_batch b = {.n = n, .dim = 2, .v = v, .t = t, .label = label, .n_label = 1};
    struct loss_grads grads = {.dv = g, .dt = g + 6};
    b.scale = 1;
    memset(g, 0, 12 * sizeof *g);
    if (losses_parse(&l, "margin", &e) || losses_open(&l, d, n, 1, &e) ||
        losses_run(&l, &b, &grads, &total, &e))
        total = NAN;
    losses_close(&l);
    return total;
}

// Row (0.9, 0.2, 0.5), of sample 0 with sample 1 of its label: the least is 0.2, and 0.5 is 0.3
// over it. The other rows of v are zero. Of the texts, row 2 has (0.5, 0, 0) and is 0.5 over its
// own 0 with the first; the others have none.
static void test_known(struct dev *d)
{
    float g[12];
    const int32_t two[] = {7, 7, 3}, one[] = {7, 7, 7}, each[] = {1, 2, 3};
    double value = known(d, two, 3, g), want = (0.3 + 0.5 / 2) / 6;
    ok(fabs(value - want) < 1e-7, "the row (0.9, 0.2, 0.5), H = {0, 1}: %.9g, want %.9g", value,
       want);
    // dv_0: to sample 2 (1 of 1 others), from sample 1; and from the texts' row 2, a half.
    double x = (1.0 * 0.5 - 1.0 * 0.2 + 0.5 * 0.5) / 6;
    ok(fabs((double)g[0] - x) < 1e-7, "its gradient: %.9g, want %.9g", (double)g[0], x);
    value = known(d, one, 3, g);
    bool none = true;
    for (int i = 0; i < 12; i++)
        none = none && g[i] == 0;
    ok(value == 0 && none, "samples of one label have no others: %g", value);
    value = known(d, each, 3, g);
    // Row 0: 0.2 and 0.5 are under 0.9. Texts: 0, 0.2 and 0.5 over their own 0, each of 2 others.
    ok(fabs(value - (0.1 + 0.25) / 6) < 1e-7, "each of its own: %.9g", value);
}

// Of equal least ones the first has the gradient, and a sample alone in a batch is fine.
static void test_ties(struct dev *d)
{
    struct losses l;
    struct err e;
    float v[] = {1, 0, 0, 1, 0, 1}, t[] = {1, 0, 0, 1, 0, 1}, g[12] = {0};
    int32_t label[] = {0, 0, 0};
    double total = NAN;
    float one[12];
    ok(known(d, label, 1, one) == 0, "a batch of one");
    struct loss_batch b = {.n = 3, .dim = 2, .v = v, .t = t, .label = label, .n_label = 1};
    struct loss_grads grads = {.dv = g, .dt = g + 6};
    b.scale = 1;
    label[0] = 5; // sample 0 alone; 1 and 2 alike: no row is over its least
    bool good = !losses_parse(&l, "margin", &e) && !losses_open(&l, d, 3, 1, &e) &&
                !losses_run(&l, &b, &grads, &total, &e);
    ok(good && total == 0, "none over the least: %g", total);
    losses_close(&l);
    float nan[] = {NAN, 0, 0, 1, 0, 1};
    b.v = nan;
    good = !losses_parse(&l, "margin", &e) && !losses_open(&l, d, 3, 1, &e) &&
           !losses_run(&l, &b, &grads, &total, &e);
    ok(good && isnan(total), "NaN is not hidden: %g", total);
    losses_close(&l);
}

int main(void)
{
    struct dev d;
    struct world w;
    float x[TOTAL];
    if (!begin(&d, &w, x))
        return 1;
    test_known(&d);
    test_ties(&d);
    w.term = "margin";
    for (w.n_label = 1; w.n_label <= LABELS; w.n_label++)
        for (w.parts = 0; w.parts < 4; w.parts++)
            for (int32_t labels = 1; labels <= 3; labels++) {
                char what[64];
                for (size_t i = 0; i < N * w.n_label; i++)
                    w.label[i] = (int32_t)(i / w.n_label) % labels;
                w.block = w.parts == 2 ? 7 : 0;
                snprintf(what, sizeof what, ", %d labels, %zu a sample, %zu parts", labels,
                         w.n_label, w.parts);
                one_term(&d, &w, x, what);
            }
    dev_close(&d);
    return tap_done();
}
