// SPDX-License-Identifier: Apache-2.0
// The halves of the terms for one tower: the two sum up to the term, and each has the tower's
// gradient of the whole term, to the bit.
#include "unit/losses/terms.h"

static double half(struct dev *d, const struct world *w, const float *x, const char *term,
                   enum loss_towers towers, float *g)
{
    struct losses l;
    struct err e;
    double total = NAN;
    struct loss_batch b = {.n = N, .dim = D, .dim_t = D, .tv = w->tv, .tt = w->tt, .scale = 2};
    struct loss_grads grads = {.dv = g, .dt = g + N * D, .dpv = g, .dpt = g + N * D};
    memset(g, 0, 2 * N * D * sizeof *g);
    b.v = b.pv = towers == LOSS_TEXT_TOWER ? NULL : x + V;
    b.t = b.pt = towers == LOSS_IMAGE_TOWER ? NULL : x + T;
    bool cross = !strcmp(term, "instance");
    if (towers == (cross ? LOSS_IMAGE_TOWER : LOSS_TEXT_TOWER))
        b.tv = NULL; // and is not read
    if (towers == (cross ? LOSS_TEXT_TOWER : LOSS_IMAGE_TOWER))
        b.tt = NULL;
    if (losses_parse(&l, term, &e))
        return NAN;
    l.towers = towers;
    if (losses_check_towers(&l, &e) || losses_open(&l, d, N, 1, &e) ||
        losses_run(&l, &b, &grads, &total, &e))
        total = NAN;
    losses_close(&l);
    return total;
}

static void test_needs(void)
{
    static const struct {
        const char *term;
        int image, text;
    } cases[] = {{"instance", LOSS_TEACHER_TEXT, LOSS_TEACHER_IMAGE},
                 {"feature", LOSS_TEACHER_IMAGE, LOSS_TEACHER_TEXT},
                 {"relation", LOSS_TEACHER_IMAGE, LOSS_TEACHER_TEXT}};
    struct losses l;
    struct err e;
    for (size_t i = 0; i < 3; i++) {
        int has[2];
        for (int k = 0; k < 2; k++) {
            losses_parse(&l, cases[i].term, &e);
            l.towers = k ? LOSS_TEXT_TOWER : LOSS_IMAGE_TOWER;
            has[k] = losses_needs(&l) & ~LOSS_WIDTH;
        }
        ok(has[0] == cases[i].image && has[1] == cases[i].text, "what the halves of %s need",
           cases[i].term);
    }
    static const char *const pairs[] = {"clip", "affinity", "siglip", "align", "margin"};
    for (size_t i = 0; i < 5; i++) {
        losses_parse(&l, pairs[i], &e);
        l.towers = LOSS_IMAGE_TOWER;
        ok(losses_check_towers(&l, &e) && strstr(e.text, pairs[i]), "refused: %s", e.text);
    }
    losses_parse(&l, "cluster", &e);
    l.towers = LOSS_IMAGE_TOWER;
    ok(!losses_check_towers(&l, &e), "clusters are of the image tower");
    l.towers = LOSS_TEXT_TOWER;
    ok(losses_check_towers(&l, &e), "refused: %s", e.text);
}

int main(void)
{
    static const char *const terms[] = {"instance", "feature", "relation"};
    struct dev d;
    struct world w;
    float x[TOTAL], g[3][2 * N * D], zero[N * D] = {0};
    if (!begin(&d, &w, x))
        return 1;
    for (size_t i = 0; i < 3; i++) {
        double all = half(&d, &w, x, terms[i], LOSS_BOTH_TOWERS, g[0]);
        double image = half(&d, &w, x, terms[i], LOSS_IMAGE_TOWER, g[1]);
        double text = half(&d, &w, x, terms[i], LOSS_TEXT_TOWER, g[2]);
        ok(image > 0 && text > 0 && fabs(all - image - text) < 1e-9 * all, "%s: %g + %g = %g",
           terms[i], image, text, all);
        ok(!memcmp(g[0], g[1], sizeof zero) && !memcmp(g[1] + N * D, zero, sizeof zero),
           "%s: the image tower's gradient", terms[i]);
        ok(!memcmp(g[0] + N * D, g[2] + N * D, sizeof zero) && !memcmp(g[2], zero, sizeof zero),
           "%s: the text tower's", terms[i]);
    }
    test_needs();
    dev_close(&d);
    return tap_done();
}
