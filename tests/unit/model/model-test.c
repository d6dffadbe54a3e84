// SPDX-License-Identifier: Apache-2.0
// The forward pass as a whole: where texts are read, batches cut anywhere, towers apart.
// tests/cli/golden-model.t holds its numbers against another implementation.
#include "model/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "unit/tap.h"

static const char folder[] = "tests/data/models/odd";
static struct clip_weights weights;
static struct rng rng;

static void test_read_position(void)
{
    struct clip_config c = {.context = 6, .eos_id = -1};
    const int32_t row[6] = {7, 3, 9, 0, 9, 0}, blank[6] = {0};
    ok(clip_text_read_position(&c, row) == 2, "the first largest id");
    ok(clip_text_read_position(&c, blank) == 0, "of equals the first");
    c.eos_id = 3;
    ok(clip_text_read_position(&c, row) == 1, "the end-of-text id");
    c.eos_id = 5;
    ok(clip_text_read_position(&c, row) == 0, "that is not there: the first position");
}

static void test_flop(void)
{
    struct clip_config c;
    struct err e;
    if (clip_config_read_file(&c, "conf/models/ViT-B-32.json", &e)) {
        ok(false, "%s", e.text);
        return;
    }
    double image = clip_model_flop(&c, CLIP_VISION, 0, true) * 1e-9;
    double text = clip_model_flop(&c, CLIP_TEXT, 77, true) * 1e-9;
    ok(fabs(image - 8.8) < 0.1 && fabs(text - 5.9) < 0.1, "ViT-B-32: %.2f and %.2f GFLOP", image,
       text);
    ok(clip_model_flop(&c, CLIP_VISION, 0, false) * 1e-9 < image, "less with the shortcuts");
}

// Token rows of every length.
static int32_t *make_texts(size_t n, const struct clip_config *c)
{
    int32_t *t = calloc(n * (size_t)c->context, sizeof *t);
    for (size_t i = 0; i < n; i++) {
        int32_t *row = t + i * (size_t)c->context;
        size_t len = 2 + i % ((size_t)c->context - 1);
        for (size_t k = 0; k < len; k++)
            row[k] = (int32_t)rng_below(&rng, (uint64_t)c->vocab - 1);
        row[len - 1] = c->vocab - 1;
    }
    return t;
}

static void test_batches(int threads, enum dev_type type)
{
    enum { TEXTS = 900, IMAGES = 130 }; // more than one pass of either
    const struct clip_config *c = &weights.table.cfg;
    struct clip_model m, whole;
    struct dev d;
    struct err e;
    size_t dim = (size_t)c->embed_dim, size = (size_t)c->image_size * (size_t)c->image_size * 3;
    int32_t *tokens = make_texts(TEXTS, c);
    uint8_t *pixels = malloc(IMAGES * size);
    float *all = malloc((TEXTS + IMAGES) * dim * sizeof *all), *one = calloc(dim, sizeof *one);
    float *other = malloc((TEXTS + IMAGES) * dim * sizeof *other);
    for (size_t i = 0; i < IMAGES * size; i++)
        pixels[i] = (uint8_t)rng_below(&rng, 256);
    const struct clip_model_options o = {.vision = true, .text = true};
    const struct clip_model_options w = {.vision = true, .text = true, .whole = true};
    if (dev_open(&d, "cpu", type, threads, true, &e) || clip_model_load(&m, &d, &weights, &o, &e) ||
        clip_model_load(&whole, &d, &weights, &w, &e)) {
        ok(false, "%s", e.text);
        return;
    }
    ok(!clip_model_texts(&m, TEXTS, tokens, true, all, &e) &&
           !clip_model_images(&m, IMAGES, pixels, true, all + TEXTS * dim, &e),
       "many at once");
    size_t bad = 0;
    for (size_t i = 0; i < TEXTS; i += 97) {
        clip_model_texts(&m, 1, tokens + i * (size_t)c->context, true, one, &e);
        bad += memcmp(one, all + i * dim, dim * sizeof *one) != 0;
    }
    for (size_t i = 0; i < IMAGES; i += 31) {
        clip_model_images(&m, 1, pixels + i * size, true, one, &e);
        bad += memcmp(one, all + (TEXTS + i) * dim, dim * sizeof *one) != 0;
    }
    ok(!bad, "alone or with others: the same bytes");
    clip_model_texts(&whole, TEXTS, tokens, true, other, &e);
    clip_model_images(&whole, IMAGES, pixels, true, other + TEXTS * dim, &e);
    double worst = 0;
    for (size_t i = 0; i < (TEXTS + IMAGES) * dim; i++)
        worst = fmax(worst, fabs((double)all[i] - (double)other[i]));
    ok(worst < (type == DEV_F32 ? 2e-6 : 2e-2), "without shortcuts: %g", worst);
    tokens[1] = c->vocab;
    ok(clip_model_texts(&m, 1, tokens, true, one, &e) && strstr(e.text, "vocabulary"),
       "a token that there is not");
    tokens[1] = -1;
    ok(clip_model_texts(&m, 1, tokens, true, one, &e), "a negative one");
    ok(!clip_model_images(&m, 0, pixels, true, one, &e) &&
           !clip_model_texts(&m, 0, tokens, true, one, &e),
       "none at all");
    clip_model_release(&m);
    clip_model_release(&whole);
    dev_close(&d);
    free(tokens);
    free(pixels);
    free(all);
    free(one);
    free(other);
}

int main(void)
{
    struct err e;
    rng_init(&rng, 3, 0);
    test_read_position();
    test_flop();
    if (clip_weights_open(&weights, folder, &e)) {
        ok(false, "%s", e.text);
        return tap_done();
    }
    test_batches(1, DEV_F32);
    test_batches(3, DEV_F32);
    test_batches(2, DEV_BF16);
    clip_weights_close(&weights);
    return tap_done();
}
