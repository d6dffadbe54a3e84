// SPDX-License-Identifier: Apache-2.0
// Evaluation: the figures of every task, counted again the plain way.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/tasks.h"
#include "base/mem.h"
#include "base/rng.h"
#include "unit/tap.h"

static const char model_dir[] = "tests/data/models/odd";
static const char vocabulary[] = "tests/data/tokenizer/openai";
static struct err e;
static struct dev dev;
static struct clip_model clip;
static struct eval_model model;
static size_t dim;

// ---- figures

enum { CLASSES = 7, ROWS = 9 };
// Class 3 is class 0 again: their scores are equal to the bit.
static char class_names[CLASSES][24] = {
    "red", "a large blue square", "an old dark thing", "red", "round", "small", "22 birds"};
static char templates[3][16] = {"{c}", "a {c} of {c}", "not the {c}!"};
static char *class_lines[CLASSES] = {class_names[0], class_names[1], class_names[2], class_names[3],
                                     class_names[4], class_names[5], class_names[6]};
static char *template_lines[] = {templates[0], templates[1], templates[2]};
static const struct eval_set set = {.classes = {.lines = class_lines, .n = CLASSES},
                                    .templates = {.lines = template_lines, .n = 3}};

static double dot(const float *a, const float *b)
{
    double s = 0;
    for (size_t j = 0; j < dim; j++)
        s += (double)a[j] * (double)b[j];
    return s;
}

// How many of n candidates stand before candidate i: better, or equal and earlier. Scores nearer
// than float32 can tell are equal here only when the rows are.
static size_t place(const float *row, const float *candidates, size_t n, size_t i)
{
    size_t before = 0;
    for (size_t k = 0; k < n; k++) {
        const float *a = candidates + k * dim, *b = candidates + i * dim;
        bool same = !memcmp(a, b, dim * sizeof *a);
        before += same ? k < i : dot(row, a) > dot(row, b);
    }
    return before;
}

static void test_class_weights(const float *w)
{
    double worst = 0;
    for (size_t c = 0; c < CLASSES; c++) {
        float text[3 * 64];
        double sum[64] = {0}, square = 0;
        for (size_t t = 0; t < 3; t++) {
            char *prompt = eval_fill_template(templates[t], class_names[c], &e);
            eval_embed_texts(&model, (const char *const *)&prompt, 1, text + t * dim, &e);
            free(prompt);
            for (size_t j = 0; j < dim; j++)
                sum[j] += (double)text[t * dim + j];
        }
        for (size_t j = 0; j < dim; j++)
            square += sum[j] * sum[j];
        for (size_t j = 0; j < dim; j++)
            worst = fmax(worst, fabs(sum[j] / sqrt(square) - (double)w[c * dim + j]));
    }
    ok(worst < 1e-6, "class weights: each template filled, averaged, made unit (%g)", worst);
    ok(!memcmp(w, w + 3 * dim, dim * sizeof *w), "equal names have equal weights");
    float other[CLASSES * 64];
    size_t was = model.batch, bad = 0;
    for (model.batch = 1; model.batch < 6; model.batch++)
        bad += eval_class_weights(&model, &set, other, &e) ||
               memcmp(w, other, sizeof *w * CLASSES * dim);
    model.batch = was;
    ok(!bad, "the same bytes for any batch");
}

// Rows near the weights of one class, with the label of that or another; row 3 has no picture.
static void make_rows(struct eval_features *f, const float *w)
{
    static const int32_t near_to[ROWS] = {1, 0, 0, 2, 2, 5, 6, 4, 6};
    static const int32_t labels[ROWS] = {1, 0, 3, 2, 4, 5, 6, 2, 0};
    *f = (struct eval_features){.n = ROWS, .dim = dim, .failed = 1};
    f->x = calloc(ROWS * dim, sizeof *f->x);
    f->label = calloc(ROWS, sizeof *f->label);
    f->names = calloc(ROWS, sizeof *f->names);
    for (size_t i = 0; i < ROWS; i++) {
        f->names[i] = mem_strdup("row", &e);
        f->label[i] = labels[i];
        if (i != 3)
            memcpy(f->x + i * dim, w + (size_t)near_to[i] * dim, dim * sizeof *f->x);
    }
    // Row 7 has the label that lies farthest from it.
    for (size_t c = 0; c < CLASSES; c++)
        if (place(f->x + 7 * dim, w, CLASSES, c) == CLASSES - 1)
            f->label[7] = (int32_t)c;
}

static void test_zeroshot(const float *w)
{
    struct eval_features f;
    struct eval_result r;
    make_rows(&f, w);
    if (eval_zeroshot(&model, &set, &f, &r, &e)) {
        ok(false, "%s", e.text);
        return;
    }
    double hits1 = 0, hits5 = 0, of[CLASSES] = {0}, right[CLASSES] = {0}, recall = 0, present = 0;
    for (size_t i = 0; i < ROWS; i++) {
        size_t label = (size_t)f.label[i], at = place(f.x + i * dim, w, CLASSES, label);
        if (i == 3)
            continue;
        hits1 += at < 1;
        hits5 += at < 5;
        of[label]++;
        right[label] += at < 1;
    }
    for (size_t c = 0; c < CLASSES; c++) {
        present += of[c] > 0;
        recall += of[c] > 0 ? right[c] / of[c] : 0;
    }
    ok(hits1 >= 4 && hits1 < hits5 && hits5 < ROWS - 1, "a case with right and wrong answers");
    ok(eval_result_figure(&r, "acc1") == hits1 / (ROWS - 1), "acc1 %g", hits1 / (ROWS - 1));
    ok(eval_result_figure(&r, "acc5") == hits5 / (ROWS - 1), "acc5 %g", hits5 / (ROWS - 1));
    ok(fabs(eval_result_figure(&r, "mean_per_class_recall") - recall / present) < 1e-12,
       "mean recall over the classes that occur %g", recall / present);
    ok(r.top[1].index[0] == 0 && r.top[1].index[1] == 3, "a tie goes to the lower class");
    ok(r.top[3].index[0] == -1, "a row without a picture has no prediction");
    ok(r.n == ROWS && r.failed == 1 && r.of.n == ROWS - 1 && r.templates == 3, "counts");
    ok(isnan(eval_result_figure(&r, "acc2")), "there is no acc2");
    eval_result_release(&r);
    eval_features_release(&f);
}

static void test_multilabel(const float *w)
{
    struct eval_set several = set;
    struct eval_features f;
    struct eval_result r;
    several.type = EVAL_MULTILABEL;
    make_rows(&f, w);
    f.targets = calloc(ROWS * CLASSES, 1);
    for (size_t i = 0; i < ROWS * CLASSES; i++)
        f.targets[i] = (i * 5 + i / CLASSES) % 3 == 0 && i % CLASSES != 6; // class 6: no positive
    if (eval_zeroshot(&model, &several, &f, &r, &e)) {
        ok(false, "%s", e.text);
        return;
    }
    // Average precision: at each positive, the share of positives up to it.
    double sum = 0, counted = 0;
    for (size_t c = 0; c < CLASSES; c++) {
        double precision = 0, positives = 0;
        for (size_t i = 0; i < ROWS; i++) {
            if (i == 3 || !f.targets[i * CLASSES + c])
                continue;
            // Rows i and k may be the same vector: the earlier one stands first.
            double before = 0, of_them = 0;
            for (size_t k = 0; k < ROWS; k++) {
                const float *a = f.x + k * dim, *b = f.x + i * dim;
                bool same = !memcmp(a, b, dim * sizeof *a);
                if (k == 3 || !(same ? k <= i : dot(a, w + c * dim) > dot(b, w + c * dim)))
                    continue;
                before++;
                of_them += f.targets[k * CLASSES + c];
            }
            precision += of_them / before;
            positives++;
        }
        sum += positives > 0 ? precision / positives : 0;
        counted += positives > 0;
    }
    ok(fabs(eval_result_figure(&r, "mean_average_precision") - sum / counted) < 1e-12 &&
           (double)r.with_positives == counted && counted < CLASSES,
       "mean average precision %g of the %g classes with positives", sum / counted, counted);
    eval_result_release(&r);
    eval_features_release(&f);
}

// ---- retrieval

enum { PICTURES = 14 };

// Picture i has 1 + i % 3 captions; picture 5 cannot be had, pictures 2 and 8 share a caption.
static void make_captions(struct eval_features *f)
{
    struct rng rng;
    char text[32];
    rng_init(&rng, 5, 0);
    *f = (struct eval_features){.n = PICTURES, .dim = dim, .failed = 1};
    f->x = calloc(PICTURES * dim, sizeof *f->x);
    f->names = calloc(PICTURES, sizeof *f->names);
    f->captions = calloc(3 * PICTURES, sizeof *f->captions);
    f->caption_row = calloc(3 * PICTURES, sizeof *f->caption_row);
    for (size_t i = 0; i < PICTURES; i++) {
        f->names[i] = mem_strdup("row", &e);
        for (size_t k = 0; k < 1 + i % 3; k++) {
            snprintf(text, sizeof text, "%zu %s", i * 37 + k, class_names[(i + k) % CLASSES]);
            f->captions[f->n_captions] = mem_strdup((i == 2 || i == 8) && !k ? "twice" : text, &e);
            f->caption_row[f->n_captions++] = i;
        }
    }
    // A picture lies near its first caption, some further off than others.
    for (size_t k = 0; k < f->n_captions; k++) {
        size_t i = f->caption_row[k];
        float *x = f->x + i * dim;
        double square = 0;
        if (i == 5 || (k && f->caption_row[k - 1] == i))
            continue;
        eval_embed_texts(&model, (const char *const *)&f->captions[k], 1, x, &e);
        for (size_t j = 0; j < dim; j++) {
            x[j] += (float)(rng_normal(&rng) * 0.04 * (double)(i % 5));
            square += (double)x[j] * (double)x[j];
        }
        for (size_t j = 0; j < dim; j++)
            x[j] = (float)((double)x[j] / sqrt(square));
    }
}

static void test_retrieval(void)
{
    static const int at[] = {1, 5, 10};
    struct eval_features f;
    struct eval_result r;
    make_captions(&f);
    // The pictures that are there and their captions.
    float *x = calloc(f.n * dim, sizeof *x), *t = calloc(f.n_captions * dim, sizeof *t);
    size_t row[3 * PICTURES], n = 0, texts = 0;
    for (size_t i = 0; i < f.n; i++) {
        if (i == 5)
            continue;
        for (size_t k = 0; k < f.n_captions; k++)
            if (f.caption_row[k] == i) {
                eval_embed_texts(&model, (const char *const *)&f.captions[k], 1, t + texts * dim,
                                 &e);
                row[texts++] = n;
            }
        memcpy(x + n++ * dim, f.x + i * dim, dim * sizeof *x);
    }
    if (eval_retrieval(&model, &f, &r, &e)) {
        ok(false, "%s", e.text);
        return;
    }
    for (size_t a = 0; a < 3; a++) {
        double by_text = 0, by_image = 0;
        char name[48];
        for (size_t k = 0; k < texts; k++)
            by_text += place(t + k * dim, x, n, row[k]) < (size_t)at[a];
        for (size_t i = 0; i < n; i++) {
            bool hit = false;
            for (size_t k = 0; k < texts; k++)
                hit = hit || (row[k] == i && place(x + i * dim, t, texts, k) < (size_t)at[a]);
            by_image += hit;
        }
        snprintf(name, sizeof name, "image_retrieval_recall@%d", at[a]);
        ok(eval_result_figure(&r, name) == by_text / (double)texts, "%s: %g of %zu captions", name,
           by_text, texts);
        snprintf(name, sizeof name, "text_retrieval_recall@%d", at[a]);
        ok(eval_result_figure(&r, name) == by_image / (double)n, "%s: %g of %zu pictures", name,
           by_image, n);
    }
    ok(eval_result_figure(&r, "image_retrieval_recall@1") < 1 &&
           eval_result_figure(&r, "text_retrieval_recall@1") < 1,
       "a case with misses");
    ok(r.n == PICTURES && r.failed == 1 && r.captions == f.n_captions, "counts");
    eval_result_release(&r);
    eval_features_release(&f);
    free(x);
    free(t);
}

static void test_no_picture_at_all(void)
{
    struct eval_features f;
    struct eval_result r;
    make_captions(&f);
    memset(f.x, 0, f.n * dim * sizeof *f.x);
    f.failed = f.n;
    ok(!eval_retrieval(&model, &f, &r, &e) && r.n_figures == 0,
       "retrieval among no pictures has no figure");
    eval_result_release(&r);
    f.label = calloc(f.n, sizeof *f.label);
    ok(!eval_zeroshot(&model, &set, &f, &r, &e) && r.n_figures == 0,
       "classes without pictures have none");
    eval_result_release(&r);
    eval_features_release(&f);
}

// ---- linear probe

static void test_probe(void)
{
    enum { N = 200 };
    struct eval_features f = {.n = N, .dim = dim, .failed = 2};
    struct eval_result r;
    struct rng rng;
    rng_init(&rng, 1, 0);
    f.x = calloc(N * dim, sizeof *f.x);
    f.label = calloc(N, sizeof *f.label);
    f.names = calloc(N, sizeof *f.names);
    for (size_t i = 0; i < N; i++) {
        double square = 0;
        f.names[i] = mem_strdup("row", &e);
        f.label[i] = (int32_t)(i % 3);
        for (size_t j = 0; j < dim; j++) {
            f.x[i * dim + j] = (float)(rng_normal(&rng) + (j == i % 3 ? 3 : 0));
            square += (double)f.x[i * dim + j] * (double)f.x[i * dim + j];
        }
        for (size_t j = 0; j < dim; j++)
            f.x[i * dim + j] =
                i == 7 || i == 8 ? 0 : (float)((double)f.x[i * dim + j] / sqrt(square));
    }
    ok(!eval_linear_probe(&model, &set, &f, &f, 1, 1000, 1, &r, &e), "linear probe at C = 1");
    ok(r.probe_converged && r.probe_iterations < 1000, "reaches its minimum");
    ok(eval_result_figure(&r, "lp_acc1") > 0.8 && r.of.n == N - 2 && r.failed == 2, "lp_acc1 %g",
       eval_result_figure(&r, "lp_acc1"));
    eval_result_release(&r);
    ok(!eval_linear_probe(&model, &set, &f, &f, 1e4, 3, 1, &r, &e), "C = 1e4, three iterations");
    ok(!r.probe_converged && r.probe_iterations == 3 && r.probe_c == 1e4, "are not enough");
    cJSON *j =
        eval_result_json(&r, &(struct eval_set){.name = (char[]){"x"}, .classes = set.classes}, "m",
                         &model, "0123", 3, &e);
    ok(j && cJSON_IsFalse(cJSON_GetObjectItem(j, "converged")), "and the JSON says so");
    cJSON_Delete(j);
    eval_result_release(&r);
    ok(!eval_linear_probe(&model, &set, &f, &f, 0, 200, 1, &r, &e) && r.probe_c > 0,
       "C searched: %g", r.probe_c);
    eval_result_release(&r);
    memset(f.x, 0, N * dim * sizeof *f.x);
    struct eval_set named = set;
    named.folder = (char[]){"nothing"};
    ok(eval_linear_probe(&model, &named, &f, &f, 0, 200, 1, &r, &e) && strstr(e.text, "too few"),
       "no picture to choose C on: %s", e.text);
    ok(eval_linear_probe(&model, &named, &f, &f, 1, 200, 1, &r, &e) &&
           strstr(e.text, "no training picture"),
       "nor to train on: %s", e.text);
    eval_features_release(&f);
}

static int open_model(struct tokenizer **t)
{
    const struct clip_model_options o = {.vision = true, .text = true};
    struct clip_weights w;
    if (dev_open(&dev, "cpu", DEV_F32, 2, false, &e) || clip_weights_open(&w, model_dir, &e))
        return -1;
    int rc = clip_model_load(&clip, &dev, &w, &o, &e);
    clip_weights_close(&w);
    if (rc || !(*t = tokenizer_open(vocabulary, &e)))
        return -1;
    model = (struct eval_model){.clip = &clip, .tokenizer = *t, .batch = 64, .threads = 2};
    dim = (size_t)clip.cfg.embed_dim;
    return 0;
}

static void test_average_precision(void)
{
    const bool ranking[] = {true, false, true}, none[] = {false, false};
    double ap = eval_average_precision(ranking, 3);
    ok(fabs(ap - 5.0 / 6) < 1e-12, "average precision of + - +: %.4f", ap);
    ok(eval_average_precision(none, 2) == 0, "without positives 0");
}

int main(void)
{
    struct tokenizer *t;
    float w[CLASSES * 64];
    if (open_model(&t) || eval_class_weights(&model, &set, w, &e)) {
        ok(false, "%s", e.text);
        return tap_done();
    }
    test_class_weights(w);
    test_zeroshot(w);
    test_multilabel(w);
    test_retrieval();
    test_no_picture_at_all();
    test_probe();
    test_average_precision();
    tokenizer_free(t);
    clip_model_release(&clip);
    dev_close(&dev);
    return tap_done();
}
