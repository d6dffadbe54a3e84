// SPDX-License-Identifier: Apache-2.0
// The losses: values against plain loops in float64, gradients by every input against central
// differences of those.
#include "unit/losses/terms.h"

// With a warm-up of 4 steps the first has a quarter of the weight, the fourth all of it; other
// terms have theirs from the start.
static void warmed_up(struct dev *d, struct world *w, const float *x)
{
    struct got full, got;
    static const struct {
        const char *term;
        uint64_t step;
        float share;
    } cases[] = {{"cluster_ce", 0, 0.25f},
                 {"cluster_kl", 1, 0.5f},
                 {"cluster_ce", 3, 1},
                 {"cluster_kl", 9, 1},
                 {"clip", 0, 1}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        double worst = 0, size = 0;
        w->term = cases[c].term;
        w->step = cases[c].step;
        w->warmup = 0;
        bool good = run(d, w, x, 1, cases[c].share, &full);
        w->warmup = 4;
        good = good && run(d, w, x, 1, 1, &got);
        for (int i = 0; i < TOTAL; i++) {
            worst = fmax(worst, fabs((double)full.g[i] - (double)got.g[i]));
            size = fmax(size, fabs((double)full.g[i]));
        }
        ok(good && size > 0 && worst <= 1e-6 * size && full.value == got.value,
           "%s at step %llu of a warm-up of 4: %g of its gradient", w->term,
           (unsigned long long)w->step, (double)cases[c].share);
    }
    w->step = w->warmup = 0;
}

static void sampled(struct dev *d, struct world *w, const float *x)
{
    struct got all, full, some, again;
    w->term = "cluster_ce";
    ok(run(d, w, x, 1, 1, &all) && run(d, w, x, 0.999, 1, &full), "sampled softmax runs");
    ok(all.value == full.value && !memcmp(all.g, full.g, sizeof all.g), "r of all equals full");
    int32_t was[N * LABELS];
    memcpy(was, w->label, sizeof was);
    for (int i = 0; i < N * LABELS; i++)
        w->label[i] = i % 2 ? 3 : 7;
    ok(run(d, w, x, 0.5, 1, &some) && some.sample == 5, "sample of r K: %zu", some.sample);
    ok(run(d, w, x, 0.5, 1, &again) && !memcmp(&some, &again, sizeof some), "drawn by the seed");
    ok(some.value < all.value + 10 && some.g[W + 3 * D] != 0 && some.g[W + 7 * D] != 0,
       "the batch's classes are in it");
    ok(run(d, w, x, 0.01, 1, &some) && some.sample == 2, "never without them: %zu", some.sample);
    w->label[0] = K;
    ok(!run(d, w, x, 1, 1, &some), "a label that is no class is refused");
    memcpy(w->label, was, sizeof was);
}

// Each part makes the gradients of its own rows whole, and a part of the classes those of its own.
static void in_parts(struct dev *d, struct world *w, const float *x)
{
    for (size_t i = 0; loss_kinds[i].name; i++)
        for (w->parts = 2; w->parts <= 4; w->parts++) {
            char what[48];
            snprintf(what, sizeof what, ", %zu parts", w->parts);
            w->term = loss_kinds[i].name;
            w->block = w->parts == 3 ? 7 : 0;
            one_term(d, w, x, what);
        }
    w->block = 0;
    w->parts = 4;
    w->term = "cluster_ce";
    sampled(d, w, x);
    w->n_label = LABELS;
    w->margin = 0.3;
    w->filter = 0.2;
    one_term(d, w, x, ", two labels, margin and filter, 4 parts");
    w->n_label = 1;
    w->margin = 0;
    w->filter = 2;
    w->parts = 0;
}

// With every matrix kept: two of logits and one or two of gradients for two cross entropies.
static void few_products(struct dev *d, struct world *w, const float *x)
{
    static const struct {
        const char *term;
        int most;
    } cases[] = {{"clip", 4},    {"instance", 6}, {"affinity", 6}, {"siglip", 4},
                 {"feature", 0}, {"relation", 6}, {"align", 0},    {"margin", 4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct got got;
        w->term = cases[i].term;
        ok(run(d, w, x, 1, 1, &got) && products == cases[i].most, "%s: %d products", w->term,
           products);
    }
}

static void parsing(void)
{
    struct losses l;
    struct err e;
    ok(!losses_parse(&l, "instance=1,cluster=0.5", &e) && l.weight[1] == 0.5f &&
           l.weight[2] == 0.5f && l.weight[0] == 1,
       "cluster stands for both");
    ok(!losses_parse(&l, "clip", &e) && losses_needs(&l) == 0, "clip needs no teacher");
    ok(!losses_parse(&l, "siglip", &e) && losses_needs(&l) == LOSS_BIAS, "siglip a bias");
    const char *bad[] = {"", "clip=0", "clop=1", "clip=x", "clip=-1", "clip=nan", "clip=1x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ok(losses_parse(&l, bad[i], &e), "'%s' is refused", bad[i]);
}

int main(void)
{
    struct dev d;
    struct world w;
    float x[TOTAL];
    if (!begin(&d, &w, x))
        return 1;
    for (size_t i = 0; loss_kinds[i].name; i++) {
        w.term = loss_kinds[i].name;
        one_term(&d, &w, x, "");
    }
    for (size_t i = 0; loss_kinds[i].name; i++)
        for (w.block = 1; w.block <= 4 * (N + 2); w.block += 4 * (N + 2) - 1) {
            char what[48];
            snprintf(what, sizeof what, ", matrices of %zu", w.block);
            w.term = loss_kinds[i].name;
            one_term(&d, &w, x, what);
        }
    w.term = "cluster_ce";
    w.n_label = LABELS;
    w.block = 20;
    one_term(&d, &w, x, ", two labels, in blocks");
    w.block = 0;
    one_term(&d, &w, x, ", two labels");
    w.margin = 0.3;
    one_term(&d, &w, x, ", margin");
    w.filter = 0.2;
    one_term(&d, &w, x, ", margin and filter");
    w.margin = 0;
    w.filter = 2;
    sampled(&d, &w, x);
    w.n_label = 1;
    in_parts(&d, &w, x);
    few_products(&d, &w, x);
    warmed_up(&d, &w, x);
    parsing();
    dev_close(&d);
    return tap_done();
}
