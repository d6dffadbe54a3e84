// SPDX-License-Identifier: Apache-2.0
// A model folder with image_u8_nhwc.npy, tokens.npy, image_embed.npy and text_embed.npy (raw
// embeddings of the reference implementation): float32 within 2e-5 of the vector's norm and unit
// rows with a difference under 1e-5, bfloat16
// with a cosine above 0.999, shortcuts or not, any batch size and number of threads.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"
#include "golden.h"
#include "base/mem.h"
#include "formats/npy.h"

static const double F32_BOUND = 2e-5, UNIT_BOUND = 1e-5, BF16_COSINE = 0.999;

struct golden {
    const char *dir;
    struct clip_weights weights;
    struct npy pixels, tokens, image, text;
};

struct run {
    enum dev_type type;
    int threads;
    bool whole;
    size_t batch; // 0: all at once
};

static int open_all(struct golden *g, struct err *e)
{
    char path[4096];
    const struct {
        const char *name;
        struct npy *to;
        enum npy_type type;
        int dims;
    } files[] = {{"image_u8_nhwc.npy", &g->pixels, NPY_U1, 4},
                 {"tokens.npy", &g->tokens, NPY_I4, 2},
                 {"image_embed.npy", &g->image, NPY_F4, 2},
                 {"text_embed.npy", &g->text, NPY_F4, 2}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", g->dir, files[i].name);
        if (npy_open_as(files[i].to, path, files[i].type, files[i].dims, e))
            return -1;
    }
    if (clip_weights_open(&g->weights, g->dir, e))
        return -1;
    const struct clip_config *c = &g->weights.table.cfg;
    uint64_t size = (uint64_t)c->image_size;
    if (g->pixels.h.shape[1] != size || g->pixels.h.shape[2] != size || g->pixels.h.shape[3] != 3 ||
        g->pixels.h.rows != g->image.h.rows || g->tokens.h.dim != (size_t)c->context ||
        g->tokens.h.rows != g->text.h.rows || g->image.h.dim != (size_t)c->embed_dim ||
        g->text.h.dim != (size_t)c->embed_dim)
        return err_set(e, "%s: the files do not fit the model", g->dir);
    return 0;
}

static void close_all(struct golden *g)
{
    clip_weights_close(&g->weights);
    npy_close(&g->pixels);
    npy_close(&g->tokens);
    npy_close(&g->image);
    npy_close(&g->text);
}

// The largest relative error, the largest length of the difference of unit rows, and the smallest
// cosine.
static void compare(const float *got, const float *want, size_t rows, size_t dim, double *error,
                    double *apart, double *cosine)
{
    for (size_t r = 0; r < rows; r++) {
        double d = 0, a = 0, b = 0, ab = 0;
        for (size_t i = r * dim; i < (r + 1) * dim; i++) {
            double x = (double)got[i], y = (double)want[i];
            d += (x - y) * (x - y);
            a += x * x;
            b += y * y;
            ab += x * y;
        }
        double rel = sqrt(d / b), cos = ab / sqrt(a * b);
        double u = 0;
        for (size_t i = r * dim; i < (r + 1) * dim; i++) {
            double x = (double)got[i] / sqrt(a) - (double)want[i] / sqrt(b);
            u += x * x;
        }
        u = sqrt(u);
        *error = rel > *error || rel != rel ? rel : *error;
        *apart = u > *apart || u != u ? u : *apart;
        *cosine = cos < *cosine || cos != cos ? cos : *cosine;
    }
}

static int embed(struct golden *g, struct clip_model *m, const struct run *r, float *image,
                 float *text, struct err *e)
{
    size_t n = g->pixels.h.rows, k, dim = g->image.h.dim;
    const uint8_t *pixels = g->pixels.data;
    const int32_t *tokens = g->tokens.data;
    for (size_t i = 0; i < n; i += k) {
        k = r->batch && n - i > r->batch ? r->batch : n - i;
        if (clip_model_images(m, k, pixels + i * g->pixels.h.dim, false, image + i * dim, e))
            return -1;
    }
    n = g->tokens.h.rows;
    for (size_t i = 0; i < n; i += k) {
        k = r->batch && n - i > r->batch ? r->batch : n - i;
        if (clip_model_texts(m, k, tokens + i * g->tokens.h.dim, false, text + i * dim, e))
            return -1;
    }
    return 0;
}

static int run_model(struct golden *g, const struct run *r, float *image, float *text,
                     struct err *e)
{
    struct dev d;
    struct clip_model m = {0};
    struct clip_model_options o = {.vision = true, .text = true, .whole = r->whole};
    if (dev_open(&d, GOLDEN_DEVICE, r->type, r->threads, true, e))
        return -1;
    int rc = clip_model_load(&m, &d, &g->weights, &o, e);
    if (!rc)
        rc = embed(g, &m, r, image, text, e);
    clip_model_release(&m);
    dev_close(&d);
    return rc;
}

static int judge(struct golden *g, const struct run *r, const float *image, const float *text)
{
    double error[2] = {0, 0}, apart[2] = {0, 0}, cosine[2] = {1, 1};
    compare(image, g->image.data, g->image.h.rows, g->image.h.dim, &error[0], &apart[0],
            &cosine[0]);
    compare(text, g->text.data, g->text.h.rows, g->text.h.dim, &error[1], &apart[1], &cosine[1]);
    bool good = true;
    for (int i = 0; i < 2; i++)
        good &= r->type == DEV_F32 ? error[i] <= F32_BOUND && apart[i] < UNIT_BOUND
                                   : cosine[i] > BF16_COSINE;
    printf("%s %s%s -t %d batch %zu: image error %.2e cosine %.7f, text error %.2e cosine %.7f, "
           "unit rows apart %.1e %.1e: %s\n",
           g->dir, r->type == DEV_F32 ? "f32" : "bf16", r->whole ? " whole" : "", r->threads,
           r->batch, error[0], cosine[0], error[1], cosine[1], apart[0], apart[1],
           good ? "ok" : "FAILED");
    return good ? 0 : 1;
}

// A large model is run once a type, a small one in every way.
static int run_all(struct golden *g, struct err *e)
{
    static const struct run runs[] = {{DEV_F32, 2, false, 0},  {DEV_F32, 1, false, 1},
                                      {DEV_F32, 3, true, 3},   {DEV_BF16, 2, false, 0},
                                      {DEV_BF16, 1, false, 1}, {DEV_BF16, 3, true, 3}};
    size_t image = g->image.h.rows * g->image.h.dim, text = g->text.h.rows * g->text.h.dim;
    bool large = g->weights.table.n_params > 50000000;
    int bad = 0;
    float *got = mem_alloc(image + text, sizeof *got, e), *first = NULL;
    if (got)
        first = mem_alloc(image + text, sizeof *first, e);
    for (size_t i = 0; first && i < sizeof runs / sizeof *runs; i++) {
        if (large && i % 3 != 0)
            continue;
        if (run_model(g, &runs[i], got, got + image, e)) {
            bad = -1;
            break;
        }
        bad |= judge(g, &runs[i], got, got + image);
        if (i % 3 == 0)
            memcpy(first, got, (image + text) * sizeof *got);
        if (i % 3 == 1 && memcmp(first, got, (image + text) * sizeof *got)) {
            printf("the bytes depend on batch size or threads: FAILED\n");
            bad |= 1;
        }
    }
    if (!first)
        bad = -1;
    free(first);
    free(got);
    return bad;
}

int golden_model(const char *dir)
{
    struct golden g = {.dir = dir};
    struct err e;
    int rc = open_all(&g, &e);
    if (!rc)
        rc = run_all(&g, &e);
    if (rc < 0)
        fprintf(stderr, "golden: %s\n", e.text);
    close_all(&g);
    return rc ? 1 : 0;
}
