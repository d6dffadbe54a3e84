// SPDX-License-Identifier: Apache-2.0
// How the CUDA device is used: a training step waits for it once and asks for no memory; embedding
// waits only where rows are wanted, and plays the image tower again from a graph; the memory said
// to be needed is what is taken. Under the stand-in of tests/cuda-on-cpu, which counts.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cuda-on-cpu/counts.h"
#include "model/model.h"
#include "unit/tap.h"
#include "train/step.h"

enum { N = 8, SIZE = 16, CONTEXT = 9, VOCAB = 30, DIM = 8, K = 5 };
struct world {
    struct dev d;
    struct clip_config cfg;
    uint8_t pixels[N * SIZE * SIZE * 3];
    int32_t tokens[N * CONTEXT], labels[N];
    float teacher[2][N * DIM], centroids[K * DIM];
    uint64_t draw[N]; // patches that dropout keeps
};

static void make_world(struct world *w)
{
    struct err e;
    w->cfg = (struct clip_config){
        .embed_dim = DIM,
        .image_size = SIZE,
        .patch_size = 8,
        .grid = 2,
        .context = CONTEXT,
        .vocab = VOCAB,
        .eos_id = -1,
        .logit_scale = 2.6592,
        .vision = {.layers = 2, .width = 16, .heads = 2, .head_width = 8, .mlp = 64, .eps = 1e-5},
        .text = {.layers = 2,
                 .width = 8,
                 .heads = 2,
                 .head_width = 4,
                 .mlp = 32,
                 .eps = 1e-5,
                 .act = CLIP_QUICK_GELU}};
    clip_preprocess_default(&w->cfg.preprocess, SIZE);
    ok(!clip_config_check(&w->cfg, &e), "a model");
    for (size_t i = 0; i < sizeof w->pixels; i++)
        w->pixels[i] = (uint8_t)(i * 37 + i / 100);
    for (int i = 0; i < N * DIM; i++) {
        w->teacher[0][i] = sinf((float)i);
        w->teacher[1][i] = cosf((float)i * 3);
    }
    for (int i = 0; i < K * DIM; i++)
        w->centroids[i] = sinf((float)i * 7 + 1);
    for (int i = 0; i < N; i++) {
        w->labels[i] = i % K;
        w->draw[i] = (uint64_t)i * 1000003;
    }
}

// Captions of up to `longest` tokens.
static void captions(struct world *w, int longest)
{
    for (int i = 0; i < N; i++)
        for (int k = 0; k < CONTEXT; k++)
            w->tokens[i * CONTEXT + k] = k == 0                       ? VOCAB - 2
                                         : k == 1 + i % (longest - 1) ? VOCAB - 1
                                                                      : (i * 5 + k) % (VOCAB - 2);
}

static size_t used(struct dev *d)
{
    size_t available, total;
    struct err e;
    return d->op->memory(d, &available, &total, &e) ? 0 : total - available;
}

static int load(struct train_core *c)
{
    struct err e;
    float *flat = calloc(c->table.n_flat, sizeof *flat);
    for (size_t i = 0; i < c->table.n; i++)
        clip_init_tensor(&c->table, i, 1, flat + c->table.t[i].offset);
    int rc = train_core_load(c, flat, &e);
    free(flat);
    return rc;
}

static void steps(struct world *w, struct train_core *c, const char *what)
{
    struct train_batch b = {.n = N,
                            .pixels = w->pixels,
                            .tokens = w->tokens,
                            .tv = w->teacher[0],
                            .tt = w->teacher[1],
                            .labels = w->labels,
                            .draw = w->draw};
    struct err e;
    double loss, norm, least = INFINITY, most = 0;
    for (int i = 0; i < 4; i++) {
        struct cuda_on_cpu_counts before = cuda_on_cpu_counts;
        captions(w, 3 + 2 * i);
        int rc = train_core_step(c, &b, &loss, &norm, &e);
        uint64_t waits = cuda_on_cpu_counts.waits - before.waits;
        uint64_t mallocs = cuda_on_cpu_counts.mallocs - before.mallocs;
        ok(!rc && isfinite(norm) && waits == 1, "%s, step %d: waits %u, %u launches", what, i,
           (unsigned)waits, (unsigned)(cuda_on_cpu_counts.launches - before.launches));
        ok(!i || !mallocs, "  asked for memory %u times", (unsigned)mallocs);
        least = fmin(least, norm);
        most = fmax(most, norm);
    }
    ok(most > least && c->optim.step == 4, "  the model moves");
}

// until: steps with patch dropout, 0: all.
static void training(struct world *w, const char *terms, size_t pieces, bool recompute,
                     double dropout, uint64_t until)
{
    struct train_set s = {.batch = N, .accumulate = pieces, .recompute = recompute, .dim_t = DIM};
    s.patch_dropout = dropout;
    s.dropout_until = until;
    s.scale_of[0] = 20;
    struct train_core c;
    struct train_memory m;
    struct clip_table t;
    struct err e;
    s.k = K;
    s.n_label = 1;
    s.cluster = (struct cluster_set){.sigma = 16, .rate = 1, .filter = 1};
    optim_set_default(&s.optim);
    s.optim.steps = 10;
    size_t before = used(&w->d);
    ok(!losses_parse(&s.losses, terms, &e) &&
           !train_core_open(&c, &w->d, &w->cfg, &s, w->centroids, &e) && !load(&c),
       "%s", terms);
    size_t opened = used(&w->d) - before;
    ok(!clip_table_init(&t, &w->cfg, &e), "the table");
    train_memory(&t, &s, &w->d, &m);
    clip_table_release(&t);
    // Slots of 256 KiB are the device's own.
    ok(opened <= m.total && opened + (1 << 20) >= (m.total - m.own), "memory: %zu of %zu", opened,
       m.total);
    steps(w, &c, terms);
    ok(used(&w->d) - before <= m.total, "the steps' own memory is in it");
    // NaN is seen by the device itself.
    double loss, norm;
    float bad = NAN;
    struct train_batch b = {.n = N,
                            .pixels = w->pixels,
                            .tokens = w->tokens,
                            .tv = w->teacher[0],
                            .tt = w->teacher[1],
                            .labels = w->labels,
                            .draw = w->draw};
    w->d.op->upload(&w->d, c.teacher[0][0], &bad, sizeof bad);
    w->d.op->upload(&w->d, c.model.flat + c.table.t[0].offset, &bad, sizeof bad);
    ok(!train_core_step(&c, &b, &loss, &norm, &e) && !isfinite(loss) && !isfinite(norm) &&
           c.optim.step == 4,
       "a step that is not finite is not taken");
    train_core_close(&c);
}

static void other_pixels(struct world *w, int step)
{
    for (size_t i = 0; i < sizeof w->pixels; i++)
        w->pixels[i] = (uint8_t)(i * 37 + i / 100 + (size_t)step * 11);
}

// Pictures that travel during the step before give the same bytes, and the host may change them.
static void ahead(struct world *w, double dropout)
{
    enum { STEPS = 4 };
    struct train_set s = {.batch = N, .accumulate = 1, .patch_dropout = dropout};
    struct train_core c;
    struct train_batch b = {.n = N, .pixels = w->pixels, .tokens = w->tokens, .draw = w->draw};
    struct err e;
    double loss[2][STEPS], norm;
    bool good = !losses_parse(&s.losses, "clip", &e);
    optim_set_default(&s.optim);
    s.optim.steps = 10;
    captions(w, 5);
    for (int k = 0; k < 2 && good; k++) {
        good = !train_core_open(&c, &w->d, &w->cfg, &s, NULL, &e) && !load(&c);
        other_pixels(w, 0);
        uint64_t waits = cuda_on_cpu_counts.waits;
        for (int i = 0; i < STEPS && good; i++) {
            good = !train_core_begin(&c, &b, &e);
            other_pixels(w, i + 1);
            if (k)
                train_core_ahead(&c, &b);
            good = good && !train_core_end(&c, &loss[k][i], &norm, &e);
        }
        ok(cuda_on_cpu_counts.waits == waits + STEPS, "a wait a step");
        train_core_close(&c);
    }
    ok(good && !memcmp(loss[0], loss[1], sizeof loss[0]) && loss[0][0] > loss[0][3] &&
           isfinite(loss[0][3]),
       "pictures sent ahead: the same losses");
    other_pixels(w, 0);
}

// Losses of steps with patch dropout, the last two without, as the CPU device has them.
static void dropout(struct world *w)
{
    enum { STEPS = 4 };
    struct train_set s = {.batch = N, .accumulate = 2, .patch_dropout = 0.5, .dropout_until = 2};
    struct train_core c;
    struct train_batch b = {.n = N, .pixels = w->pixels, .tokens = w->tokens, .draw = w->draw};
    struct dev cpu;
    struct err e;
    double loss[3][STEPS], norm, off = 0, apart = 0;
    bool good =
        !losses_parse(&s.losses, "clip", &e) && !dev_open(&cpu, "cpu", DEV_F32, 1, false, &e);
    optim_set_default(&s.optim);
    s.optim.steps = 10;
    captions(w, 5);
    for (int k = 0; k < 3 && good; k++) {
        s.patch_dropout = k < 2 ? 0.5 : 0;
        good = !train_core_open(&c, k ? &cpu : &w->d, &w->cfg, &s, NULL, &e) && !load(&c);
        for (int i = 0; i < STEPS && good; i++)
            good = !train_core_step(&c, &b, &loss[k][i], &norm, &e);
        train_core_close(&c);
    }
    for (int i = 0; i < STEPS && good; i++) {
        off = fmax(off, fabs(loss[0][i] / loss[1][i] - 1));
        apart = fmax(apart, fabs(loss[2][i] / loss[1][i] - 1));
    }
    ok(good && off < 1e-4 && apart > 1e-3, "patch dropout: losses %g from the CPU's, %g from whole",
       off, apart);
    dev_close(&cpu);
}

static void embedding(struct world *w, const char *folder)
{
    struct clip_model m = {0};
    struct clip_weights weights;
    struct clip_model_memory plan;
    struct clip_model_options o = {.vision = true, .text = true};
    struct err e;
    enum { BATCHES = 4 };
    size_t before = used(&w->d);
    bool open = !clip_weights_open(&weights, folder, &e) &&
                !clip_model_memory(&weights.table, &w->d, &o, &plan, &e) &&
                !clip_model_load(&m, &w->d, &weights, &o, &e) && !w->d.op->sync(&w->d, &e);
    ok(open, "%s", folder);
    if (!open) {
        printf("Bail out! %s\n", e.text);
        exit(1);
    }
    size_t size = (size_t)m.cfg.image_size, dim = (size_t)m.cfg.embed_dim;
    size_t context = (size_t)m.cfg.context, image = size * size * 3;
    uint8_t *pixels = calloc(BATCHES * N, image);
    int32_t *tokens = calloc(BATCHES * N, context * sizeof *tokens);
    float *rows[2] = {calloc(BATCHES * N, dim * 4), calloc(BATCHES * N, dim * 4)};
    float *again = calloc(BATCHES * N, dim * 4);
    uint64_t number[BATCHES], text;
    for (size_t i = 0; i < BATCHES * N * image; i++)
        pixels[i] = (uint8_t)(i * 31 + i / 77);
    for (size_t i = 0; i < BATCHES * N * context; i++)
        tokens[i] = (int32_t)(i * 7 % (size_t)m.cfg.vocab);
    struct cuda_on_cpu_counts was = cuda_on_cpu_counts;
    for (size_t i = 0; i < BATCHES; i++) {
        if (clip_model_images_start(&m, N, pixels + i * N * image, true, rows[0] + i * N * dim,
                                    &number[i], &e) ||
            clip_model_texts_start(&m, N, tokens + i * N * context, true, rows[1] + i * N * dim,
                                   &text, &e))
            break;
        number[i] = text;
        memset(pixels + i * N * image, 0, i ? N * image : 0); // it may be given back at once
    }
    ok(cuda_on_cpu_counts.waits == was.waits, "batches are given to the device without waiting");
    ok(cuda_on_cpu_counts.graphs - was.graphs == (getenv("CUDA_ON_CPU_GRAPHS") ? 0 : BATCHES - 1),
       "the image tower is played from a graph %u times",
       (unsigned)(cuda_on_cpu_counts.graphs - was.graphs));
    ok(!clip_model_wait(&m, number[0], &e) && cuda_on_cpu_counts.waits == was.waits + 2,
       "a wait for pictures and one for texts");
    memcpy(again, rows[0] + N * dim, N * dim * 4);
    ok(!clip_model_wait(&m, text, &e) && memcmp(again, rows[0] + N * dim, N * dim * 4),
       "the second batch comes later");
    // A graph, and what it was made of, give the same bytes.
    for (size_t i = 0; i < N * image; i++)
        pixels[i] = (uint8_t)(i * 31 + i / 77);
    ok(!clip_model_images(&m, N, pixels, true, again, &e) && !memcmp(again, rows[0], N * dim * 4) &&
           !clip_model_images(&m, 3, pixels, true, again, &e) &&
           !memcmp(again, rows[0], 3 * dim * 4),
       "the same bytes from it, and without it");
    ok(used(&w->d) - before <= plan.total, "memory: %zu of %zu", used(&w->d) - before, plan.total);
    ok(used(&w->d) - before + w->d.own_bytes >= plan.weights + plan.work, "  and not much less");
    free(pixels);
    free(tokens);
    free(rows[0]);
    free(rows[1]);
    free(again);
    clip_model_release(&m);
    clip_weights_close(&weights);
}

int main(void)
{
    static struct world w;
    struct err e;
    if (!&cuda_on_cpu_counts) {
        printf("1..0 # SKIP the stand-in counts\n");
        return 0;
    }
    make_world(&w);
    for (int type = 0; type < 2; type++) {
        ok(!dev_open(&w.d, "cuda", type ? DEV_BF16 : DEV_F32, 1, true, &e), "a device");
        training(&w, "instance,cluster,clip", 1, false, 0, 0);
        training(&w, "cluster_soft,clip", 4, false, 0, 0);
        training(&w, "relation,align,clip", 1, false, 0, 0);
        training(&w, "margin,clip", 4, false, 0, 0);
        training(&w, "siglip,affinity,feature", 4, true, 0, 0);
        training(&w, "instance,clip", 1, false, 0.5, 0);
        training(&w, "instance,clip", 2, false, 0.5, 2);
        ahead(&w, 0);
        ahead(&w, 0.5);
        if (!type)
            dropout(&w);
        embedding(&w, "tests/data/models/odd");
        embedding(&w, "tests/data/models/quick");
        dev_close(&w.d);
        setenv("CUDA_ON_CPU_GRAPHS", "0", 1); // the second time without graphs
    }
    return tap_done();
}
