// SPDX-License-Identifier: Apache-2.0
// Levels of vector instructions, and what the CPU device promises of bytes at each of them:
// cli/isa.t runs this at every level, and under the kernels that OpenBLAS has for other processors.
#include "base/isa.h"

#include <stdlib.h>
#include <string.h>

#include "device/dev.h"
#include "base/rng.h"
#include "system/digest.h"
#include "unit/tap.h"

static struct rng rng;

static float *randoms(size_t n)
{
    float *p = aligned_alloc(64, (n + 32) * sizeof *p / 64 * 64 + 64);
    for (size_t i = 0; i < n + 16; i++)
        p[i] = (float)rng_normal(&rng);
    return p;
}

static void levels(void)
{
    struct err e;
    char text[100];
    const char *was = getenv("CLIP_CID_ISA");
    ok(isa_has(ISA_PORTABLE) && isa_has(isa_level()) && isa_level() <= isa_machine(),
       "the level is one that the processor has");
    ok(isa_has(ISA_AVX512) || !(isa_has(ISA_AVX512_VNNI) || isa_has(ISA_AVX512_BF16)),
       "no part of a level without the level");
    ok(isa_level() == ISA_PORTABLE || isa_has(ISA_AVX2), "and all those under it");
    isa_describe(text, sizeof text);
    ok(strstr(text, isa_name(isa_level())) == text, "%s", text);
    ok(!was || !*was || isa_machine() < ISA_AVX512 || !strcmp(was, isa_name(isa_level())),
       "CLIP_CID_ISA is obeyed");
    char keep[20] = "";
    snprintf(keep, sizeof keep, "%s", was ? was : "");
    setenv("CLIP_CID_ISA", "avx", 1);
    ok(isa_check(&e) == -1 && strstr(e.text, "'avx'") && strstr(e.text, "portable|avx2|avx512"),
       "%s", e.text);
    setenv("CLIP_CID_ISA", keep, 1);
    ok(isa_check(&e) == 0, "a level, or nothing, is right");
}

// Row `from` alone, and the same row at every place of batches of several sizes, at addresses that
// are multiples of 4 only.
static bool row_anywhere(struct dev *d, const struct dev_weight *w, size_t in, size_t out,
                         bool backward)
{
    static const size_t batch[] = {1, 2, 7, 13, 63, 64, 65, 130, 197};
    enum { MOST = 197 };
    size_t k = backward ? out : in, n = backward ? in : out;
    float *x = randoms(MOST * k), *y = randoms(MOST * n), *one = randoms(n), *row = randoms(k);
    bool same = true;
    for (size_t b = 0; b < sizeof batch / sizeof *batch; b++)
        for (size_t at = 0; same && at < batch[b]; at += 1 + b) {
            float *place = x + at % 5;
            memcpy(place + at * k, row, k * sizeof *row);
            if (backward)
                d->op->linear_dx(d, batch[b], place, w, y);
            else
                d->op->linear(d, batch[b], place, k, w, NULL, y, true);
            if (batch[b] == 1)
                memcpy(one, y, n * sizeof *one);
            same = !memcmp(one, y + at * n, n * sizeof *one);
        }
    free(x);
    free(y);
    free(one);
    free(row);
    return same;
}

static void linear_rows(struct dev *d, size_t in, size_t out)
{
    struct err e;
    float *values = randoms(in * out);
    struct dev_weight *w = d->op->weight_view(d, values, out, in, false, &e);
    ok(w && row_anywhere(d, w, in, out, false), "%zu to %zu: a row is the same anywhere", in, out);
    ok(w && row_anywhere(d, w, in, out, true), "%zu to %zu: and its gradient", in, out);
    d->op->weight_free(d, w);
    free(values);
}

// The same product on other numbers of threads and at other addresses.
static void products(struct dev *one, struct dev *many, size_t m, size_t n, size_t k)
{
    struct err e;
    float *a = randoms(m * k), *b = randoms(k * n), *c = randoms(m * n), *c2 = randoms(m * n);
    float *a2 = randoms(m * k + 8), *b2 = randoms(k * n + 8), *v = randoms(m * n);
    memcpy(a2 + 3, a, m * k * sizeof *a);
    memcpy(b2 + 5, b, k * n * sizeof *b);
    bool same = true;
    for (int t = 0; t < 4; t++) {
        bool ta = t & 1, tb = t & 2;
        size_t lda = ta ? m : k, ldb = tb ? k : n;
        one->op->gemm(one, ta, tb, m, n, k, 0.5f, a, lda, b, ldb, 0, c, n);
        many->op->gemm(many, ta, tb, m, n, k, 0.5f, a2 + 3, lda, b2 + 5, ldb, 0, c2 + 1, n);
        same = same && !memcmp(c, c2 + 1, m * n * sizeof *c);
    }
    ok(same, "%zu x %zu x %zu: the same product for any threads and address", m, n, k);
    // [k, m]^T [k, n], as the gradient of a weight
    struct dev_weight *w = one->op->weight_view(one, v, m, n, false, &e);
    memset(c, 0, m * n * sizeof *c);
    memset(c2, 0, (m * n + 1) * sizeof *c2);
    if (w) {
        one->op->linear_dw(one, k, a, b, n, w, c, NULL);
        many->op->linear_dw(many, k, a2 + 3, b2 + 5, n, w, c2 + 1, NULL);
    }
    ok(w && !memcmp(c, c2 + 1, m * n * sizeof *c), "%zu x %zu x %zu: and the same gradient", m, n,
       k);
    one->op->weight_free(one, w);
    float *all[] = {a, b, c, c2, a2, b2, v};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static uint64_t digest(uint64_t h, const void *p, size_t bytes)
{
    return digest_u64((uint64_t[]){h, digest_u64(p, bytes)}, 16);
}

// Operations without a product or an exponential of the forward pass have the same bits at every
// level: cli/isa.t compares the line.
static void elementwise(struct dev *d)
{
    enum { ROWS = 5, COLS = 93, ALL = ROWS * COLS };
    float *x = randoms(ALL), *dy = randoms(ALL), *dx = randoms(ALL), *gain = randoms(COLS);
    float *bias = randoms(COLS), *y = randoms(ALL), *g = randoms(ALL);
    float mean[ROWS], rstd[ROWS], loss[ROWS], lse[ROWS], value[ROWS], slope[ROWS];
    const int32_t target[ROWS] = {3, 0, 92, 17, 40};
    const struct dev_adamw o = {1e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.1f, 0.05f, 1, NULL};
    uint64_t h = 0;
    d->op->layer_norm(d, ROWS, COLS, x, COLS, gain, bias, 1e-5f, y, true, mean, rstd);
    h = digest(h, y, ALL * sizeof *y);
    d->op->layer_norm_bwd(d, ROWS, COLS, x, COLS, gain, mean, rstd, dy, true, dx, COLS, gain, bias);
    h = digest(digest(h, dx, ALL * sizeof *dx), gain, COLS * sizeof *gain);
    d->op->act_bwd(d, ALL, DEV_ACT_GELU, x, dy, y);
    d->op->act_bwd(d, ALL, DEV_ACT_QUICK_GELU, x, dy, dx);
    h = digest(digest(h, y, ALL * sizeof *y), dx, ALL * sizeof *dx);
    d->op->softmax_ce(d, ROWS, COLS, x, COLS, target, 0.5f, g, loss);
    h = digest(digest(h, g, ALL * sizeof *g), loss, sizeof loss);
    d->op->row_lse(d, ROWS, COLS, x, COLS, lse);
    struct dev_given j = {.logits = x, .ld = COLS, .lse = lse, .other = gain, .target = target};
    j.weight = 0.5f;
    j.grad = g;
    j.loss = value;
    j.slope = slope;
    d->op->given_ce(d, ROWS, COLS, &j);
    h = digest(digest(digest(h, g, ALL * sizeof *g), value, sizeof value), slope, sizeof slope);
    j.teacher = dy;
    j.teacher_ld = COLS;
    j.teacher_lse = lse;
    j.teacher_other = bias;
    d->op->given_ce(d, ROWS, COLS, &j);
    h = digest(digest(digest(h, g, ALL * sizeof *g), value, sizeof value), slope, sizeof slope);
    for (int i = 0; i < ALL; i++)
        y[i] *= y[i];
    d->op->adamw(d, ALL, &o, g, dx, y, x);
    h = digest(h, x, ALL * sizeof *x);
    ok(mean[0] == mean[0] && loss[4] > 0, "operations without products");
    printf("# elementwise %016llx\n", (unsigned long long)h);
    float *all[] = {x, dy, dx, gain, bias, y, g};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

int main(void)
{
    struct dev one, many;
    struct err e;
    rng_init(&rng, 7, 0);
    levels();
    if (dev_open(&one, "cpu", DEV_F32, 1, false, &e) ||
        dev_open(&many, "cpu", DEV_F32, 3, false, &e)) {
        printf("Bail out! %s\n", e.text);
        return 1;
    }
    elementwise(&many);
    linear_rows(&many, 20, 29);
    linear_rows(&many, 192, 577);
    linear_rows(&many, 768, 512);
    products(&one, &many, 7, 5, 11);
    products(&one, &many, 37, 41, 512);
    products(&one, &many, 64, 64, 20);
    products(&one, &many, 301, 530, 77);
    products(&one, &many, 256, 768, 200);
    products(&one, &many, 900, 1700, 333);
    products(&one, &many, 2310, 770, 61);
    dev_close(&one);
    dev_close(&many);
    return tap_done();
}
