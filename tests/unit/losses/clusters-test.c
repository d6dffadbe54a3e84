// SPDX-License-Identifier: Apache-2.0
// cluster_soft and the prior of cluster_ce: what they become at their ends.
#include "unit/losses/terms.h"

static double apart(const struct got *a, const struct got *b)
{
    double worst = 0;
    for (int i = 0; i < TOTAL; i++)
        worst = fmax(worst, fabs((double)a->g[i] - (double)b->g[i]));
    return worst;
}

// Several labels, by finite differences; repeated labels count once.
static void soft(struct dev *d, struct world *w, const float *x)
{
    static const struct {
        size_t labels, parts, block;
        double sigma;
    } cases[] = {{2, 0, 0, 0}, {3, 0, 0, 5}, {3, 0, 20, 5}, {3, 2, 0, 0},
                 {4, 3, 7, 5}, {3, 4, 0, 0}, {1, 0, 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char what[64];
        w->term = "cluster_soft";
        w->n_label = cases[i].labels;
        w->parts = cases[i].parts;
        w->block = cases[i].block;
        w->soft_sigma = cases[i].sigma;
        snprintf(what, sizeof what, ", %zu labels, %zu parts, blocks of %zu", w->n_label, w->parts,
                 w->block);
        one_term(d, w, x, what);
    }
    w->soft_sigma = 0;
    w->block = 0;
}

static void ends(struct dev *d, struct world *w, const float *x)
{
    struct got soft, other;
    for (w->parts = 0; w->parts <= 3; w->parts += 3) {
        w->n_label = 1;
        w->term = "cluster_soft";
        bool good = run(d, w, x, 1, 1, &soft);
        w->term = "cluster_ce";
        good = good && run(d, w, x, 1, 1, &other);
        ok(good && soft.value == other.value && !memcmp(soft.g, other.g, sizeof soft.g),
           "one label is cluster_ce to the bit, %zu parts", w->parts);
        // All clusters, in another order for each row.
        w->n_label = K;
        for (int i = 0; i < N * K; i++)
            w->label[i] = (i % K + i / K) % K;
        w->term = "cluster_soft";
        good = run(d, w, x, 1, 1, &soft);
        w->term = "cluster_kl";
        good = good && run(d, w, x, 1, 1, &other);
        double entropy = 0, y[K], c[K * D], at[TOTAL];
        for (int i = 0; i < TOTAL; i++)
            at[i] = (double)x[i];
        unit(at + W, c, K);
        for (int i = 0; i < N; i++) {
            double tv[D];
            for (int k = 0; k < D; k++)
                tv[k] = (double)w->tv[i * D + k];
            for (int k = 0; k < K; k++)
                y[k] = w->sigma * dot(tv, c + k * D);
            for (int k = 0; k < K; k++)
                entropy -= exp(y[k] - lse(y, K)) * (y[k] - lse(y, K)) / N;
        }
        // 2.03e-6 where sums have no fused products: aarch64.
        ok(good && fabs(soft.value - other.value - entropy) < 1e-5 && apart(&soft, &other) < 3e-6,
           "all clusters are cluster_kl and the entropy: %.7g, %.7g + %.7g, gradients within %g",
           soft.value, other.value, entropy, apart(&soft, &other));
    }
    w->parts = 0;
}

// The nearest clusters are in the sample, however small it is.
static void forced(struct dev *d, struct world *w, const float *x)
{
    struct got got;
    w->term = "cluster_soft";
    w->n_label = 2;
    for (int i = 0; i < N * 2; i++)
        w->label[i] = i % 2 ? 3 : 7;
    ok(run(d, w, x, 0.01, 1, &got) && got.sample == 2 && got.g[W + 3 * D] != 0 &&
           got.g[W + 7 * D] != 0,
       "the nearest clusters are in the sample: %zu", got.sample);
}

// Equal logits, labels 9 : 1, a prior of 0.9 and 0.1: nothing is to be learned.
static void balanced(struct dev *d)
{
    enum { ROWS = 10, DIM = 2, TWO = 2 };
    const float prior[TWO] = {logf(0.9f), logf(0.1f)}, rows[TWO * DIM] = {1, 0, 0, 1};
    float v[ROWS * DIM], dv[ROWS * DIM] = {0};
    int32_t label[ROWS] = {0};
    struct cluster_set set = {.sigma = 1, .rate = 1, .filter = 1, .prior = prior};
    struct cluster_head h;
    struct losses l;
    struct err e;
    double total;
    for (int i = 0; i < ROWS * DIM; i++)
        v[i] = sqrtf(0.5f); // as near to one as to the other
    label[3] = 1;
    struct loss_batch b = {.n = ROWS,
                           .dim = DIM,
                           .dim_t = DIM,
                           .v = v,
                           .t = v,
                           .pv = v,
                           .pt = v,
                           .label = label,
                           .n_label = 1,
                           .scale = 1,
                           .w = &h};
    struct loss_grads g = {.dv = dv, .dt = dv, .dpv = dv, .dpt = dv};
    bool good = !losses_parse(&l, "cluster_ce", &e) && !losses_open(&l, d, ROWS, 1, &e) &&
                !cluster_head_open(&h, d, &set, rows, TWO, DIM, ROWS, 1, &e) &&
                !losses_run(&l, &b, &g, &total, &e);
    double worst = 0;
    for (int i = 0; i < TWO * DIM; i++)
        worst = fmax(worst, fabs((double)h.dw[i]));
    double want = -0.9 * log(0.9) - 0.1 * log(0.1);
    ok(good && worst < 1e-6 && fabs(total - want) < 1e-6,
       "the prior's own labels: gradient by W within %g, value %.7g", worst, total);
    cluster_head_close(&h);
    losses_close(&l);
}

int main(void)
{
    struct dev d;
    struct world w;
    float x[TOTAL], prior[K];
    if (!begin(&d, &w, x))
        return 1;
    for (int i = 0; i < N * K; i++)
        w.label[i] = (i * 5 + i / 4) % K;
    soft(&d, &w, x);
    ends(&d, &w, x);
    forced(&d, &w, x);
    for (int i = 0; i < K; i++)
        prior[i] = -0.3f * (float)i;
    w.prior = prior;
    w.term = "cluster_ce";
    w.n_label = 1;
    one_term(&d, &w, x, ", a prior");
    w.block = 20;
    w.parts = 3;
    one_term(&d, &w, x, ", a prior, 3 parts in blocks");
    balanced(&d);
    dev_close(&d);
    return tap_done();
}
