// SPDX-License-Identifier: Apache-2.0
// Times a model's towers: samples a second, GFLOP/s, the share of what oneDNN's own product reaches
// on the same shapes, and where the time goes.
//
//     embed-table MODEL f32|bf16 THREADS BATCH [TOKENS.npy]
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model/model.h"
#include "device/cpu/dnnl.h"
#include "base/isa.h"
#include "base/mem.h"
#include "formats/npy.h"
#include "base/rng.h"

enum { RUNS = 5, MAX_SHAPES = 32 };
enum kind { LINEAR, ATTENTION, NORM, ELEMENT, STEM, MOVE, KINDS };
static const char *const kind_names[] = {"linear",      "attention", "norm",
                                         "elementwise", "stem",      "moves"};

struct shape {
    size_t rows, in, out;
    uint64_t calls;
    double seconds;
};

static const struct dev_ops *real;
static double spent[KINDS], attended; // seconds; operations of attention
static struct shape shapes[MAX_SHAPES];
static size_t n_shapes;
// dev_weight is opaque: its shape is kept here at its making.
static struct {
    const struct dev_weight *w;
    size_t in, out;
} weights[4096];
static size_t n_weights;

extern void omp_set_num_threads(int) __attribute__((weak));

// One thread is timed by its processor time, which other programs disturb less.
static clockid_t clock_used = CLOCK_MONOTONIC;

static double now(void)
{
    struct timespec t;
    clock_gettime(clock_used, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static struct dev_weight *timed_weight(struct dev *d, const void *v, enum dev_type type, size_t out,
                                       size_t in, bool transposed, struct err *e)
{
    struct dev_weight *w = real->weight_new(d, v, type, out, in, transposed, e);
    if (w && n_weights < sizeof weights / sizeof *weights) {
        weights[n_weights].w = w;
        weights[n_weights].in = in;
        weights[n_weights++].out = out;
    }
    return w;
}

static void note_shape(size_t rows, const struct dev_weight *w, double seconds)
{
    size_t in = 0, out = 0, i = 0;
    for (size_t k = 0; k < n_weights; k++)
        if (weights[k].w == w) {
            in = weights[k].in;
            out = weights[k].out;
        }
    while (i < n_shapes && (shapes[i].rows != rows || shapes[i].in != in || shapes[i].out != out))
        i++;
    if (i == MAX_SHAPES)
        return;
    if (i == n_shapes)
        shapes[n_shapes++] = (struct shape){rows, in, out, 0, 0};
    shapes[i].calls++;
    shapes[i].seconds += seconds;
}

static void timed_linear(struct dev *d, size_t rows, const void *x, size_t ld,
                         const struct dev_weight *w, const struct dev_epilogue *ep, void *y,
                         bool y_f32)
{
    double start = now();
    real->linear(d, rows, x, ld, w, ep, y, y_f32);
    double s = now() - start;
    spent[LINEAR] += s;
    note_shape(rows, w, s);
}

#define TIMED(kind, call)                                                                          \
    double start = now();                                                                          \
    real->call;                                                                                    \
    spent[kind] += now() - start

static void timed_attention(struct dev *d, const struct dev_attention *a)
{
    size_t queries = a->last_only ? 1 : a->kv.max_len;
    TIMED(ATTENTION, attention(d, a));
    // Of sequences of one length, as pictures are.
    attended +=
        4.0 * (double)(a->kv.n * queries * a->kv.max_len) * (double)(a->heads * a->head_dim);
}

static void timed_norm(struct dev *d, size_t rows, size_t cols, const float *x, size_t ld,
                       const float *g, const float *b, float eps, void *y, bool y_f32, float *mean,
                       float *rstd)
{
    TIMED(NORM, layer_norm(d, rows, cols, x, ld, g, b, eps, y, y_f32, mean, rstd));
}

static void timed_swiglu(struct dev *d, size_t rows, size_t cols, const void *pre, void *mid)
{
    TIMED(ELEMENT, swiglu(d, rows, cols, pre, mid));
}

static void timed_rotate(struct dev *d, size_t rows, size_t cols, size_t head_dim, size_t positions,
                         const float *table, bool back, void *x, size_t x_ld)
{
    TIMED(ELEMENT, rotate(d, rows, cols, head_dim, positions, table, back, x, x_ld));
}

static void timed_widen(struct dev *d, size_t n, const void *x, float *y)
{
    TIMED(ELEMENT, widen(d, n, x, y));
}

static void timed_axpy(struct dev *d, size_t n, float alpha, const float *x, float *y)
{
    TIMED(ELEMENT, axpy(d, n, alpha, x, y));
}

static void timed_copy(struct dev *d, void *dst, const void *src, size_t bytes)
{
    TIMED(ELEMENT, copy(d, dst, src, bytes));
}

static void timed_patchify(struct dev *d, size_t n, size_t size, size_t patch, const uint8_t *p,
                           const float mean[3], const float std[3], void *out)
{
    TIMED(STEM, patchify(d, n, size, patch, p, mean, std, out));
}

static void timed_assemble(struct dev *d, size_t n, size_t patches, size_t cols, const float *rows,
                           const float *cls, const float *pos, float *x)
{
    TIMED(STEM, assemble(d, n, patches, cols, rows, cls, pos, x));
}

static void timed_embed(struct dev *d, const struct dev_ragged *r, size_t cols,
                        const int32_t *token, const float *table, const float *pos, float *x)
{
    TIMED(STEM, embed(d, r, cols, token, table, pos, x));
}

static void timed_upload(struct dev *d, void *dst, const void *host, size_t bytes)
{
    TIMED(MOVE, upload(d, dst, host, bytes));
}

// The device with each operation timed.
static struct dev_ops watch(struct dev *d)
{
    real = d->op;
    struct dev_ops ops = *d->op;
    ops.weight_new = timed_weight;
    ops.linear = timed_linear;
    ops.attention = timed_attention;
    ops.layer_norm = timed_norm;
    ops.swiglu = timed_swiglu;
    ops.rotate = timed_rotate;
    ops.widen = timed_widen;
    ops.axpy = timed_axpy;
    ops.copy = timed_copy;
    ops.patchify = timed_patchify;
    ops.assemble = timed_assemble;
    ops.embed = timed_embed;
    ops.upload = timed_upload;
    return ops;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

// oneDNN's own product of this shape on its own threads, GFLOP/s; the best of some runs.
static double peer_rate(const struct shape *s, bool bf16, int threads)
{
    struct err e;
    struct mm_engine *g = mm_engine_new(&e);
    struct mm_shape shape = {s->rows, s->out, s->in, s->in, bf16};
    if (omp_set_num_threads)
        omp_set_num_threads(threads);
    struct mm *p = g ? mm_new(g, &shape, NULL, 1, &e) : NULL;
    struct mm_b *b = p ? mm_b_new(g, p, &e) : NULL;
    void *a = mem_alloc(s->rows * s->in, 4, &e);
    float *w = mem_alloc(s->in * s->out, sizeof *w, &e), *c = mem_alloc(s->rows * s->out, 4, &e);
    double best = 0;
    int rc = !b || !a || !w || !c || mm_b_fill(g, b, w, false, s->out, 1, &e);
    for (int i = 0; !rc && i < 8; i++) {
        double start = now();
        rc = mm_run(p, 0, a, b, c, &e);
        double rate = 2e-9 * (double)(s->rows * s->in) * (double)s->out / (now() - start);
        best = rate > best ? rate : best;
    }
    if (rc)
        fprintf(stderr, "embed-table: %s\n", e.text);
    free(a);
    free(w);
    free(c);
    mm_b_free(b);
    mm_free(p);
    mm_engine_free(g);
    if (omp_set_num_threads)
        omp_set_num_threads(1);
    return best;
}

static void print_shapes(bool bf16, int threads)
{
    printf("  %6s %6s %6s %8s %10s %8s\n", "rows", "in", "out", "GFLOP/s", "oneDNN", "share");
    double ours = 0, theirs = 0;
    for (size_t i = 0; i < n_shapes; i++) {
        const struct shape *s = &shapes[i];
        double flop = 2e-9 * (double)(s->rows * s->in) * (double)s->out * (double)s->calls;
        double peer = peer_rate(s, bf16, threads);
        ours += s->seconds;
        theirs += flop / peer;
        if (s->seconds > 0.01)
            printf("  %6zu %6zu %6zu %8.1f %10.1f %7.0f%%\n", s->rows, s->in, s->out,
                   flop / s->seconds, peer, 100 * flop / s->seconds / peer);
    }
    printf("  all products: %.0f%% of oneDNN's own rate\n", 100 * theirs / ours);
}

static void print_table(const char *what, double *times, size_t n, double flop, double total)
{
    qsort(times, RUNS, sizeof *times, by_value);
    double t = times[RUNS / 2], sum = 0;
    printf("%s/s %.2f  GFLOP/s %.1f\n ", what, (double)n / t, 1e-9 * flop / t);
    for (int i = 0; i < KINDS; i++) {
        printf(" %s %.1f%%", kind_names[i], 100 * spent[i] / total);
        sum += spent[i];
    }
    printf(" other %.1f%%\n", 100 * (total - sum) / total);
}

static int time_tower(struct clip_model *m, enum clip_tower_id tower, size_t n, const void *in,
                      bool bf16, struct err *e)
{
    double times[RUNS], total = 0, flop = 0;
    float *out = mem_alloc(n * (size_t)m->cfg.embed_dim, sizeof *out, e);
    int rc = out ? 0 : -1;
    for (int i = -1; !rc && i < RUNS; i++) {
        if (i == 0) {
            memset(spent, 0, sizeof spent);
            attended = 0;
            n_shapes = 0;
        }
        double start = now();
        rc = tower == CLIP_VISION ? clip_model_images(m, n, in, true, out, e)
                                  : clip_model_texts(m, n, in, true, out, e);
        if (i >= 0)
            total += times[i] = now() - start;
    }
    for (size_t i = 0; i < n; i++) {
        size_t len =
            tower == CLIP_VISION
                ? 0
                : clip_text_length(&m->cfg, (const int32_t *)in + i * (size_t)m->cfg.context);
        flop += clip_model_flop(&m->cfg, tower, len, m->whole);
    }
    if (!rc) {
        print_table(tower == CLIP_VISION ? "images" : "captions", times, n, flop, total);
        if (tower == CLIP_VISION)
            printf("  attention: heads of %d, %.1f GFLOP/s\n", m->cfg.vision.head_width,
                   1e-9 * attended / spent[ATTENTION]);
        print_shapes(bf16, m->dev->threads);
    }
    free(out);
    return rc;
}

static int time_images(struct clip_model *m, size_t batch, bool bf16, struct err *e)
{
    size_t size = (size_t)m->cfg.image_size, bytes = batch * size * size * 3;
    uint8_t *pixels = mem_alloc(bytes, 1, e);
    struct rng r;
    rng_init(&r, 1, 0);
    for (size_t i = 0; pixels && i < bytes; i++)
        pixels[i] = (uint8_t)rng_u32(&r);
    int rc = pixels ? time_tower(m, CLIP_VISION, batch, pixels, bf16, e) : -1;
    free(pixels);
    return rc;
}

static int time_texts(struct clip_model *m, const char *path, bool bf16, struct err *e)
{
    struct npy a = {0};
    int rc = npy_open_as(&a, path, NPY_I4, 2, e);
    if (!rc && a.h.dim != (size_t)m->cfg.context)
        rc = err_set(e, "%s: rows of %zu tokens, the model has %d", path, a.h.dim, m->cfg.context);
    if (!rc)
        rc = time_tower(m, CLIP_TEXT, a.h.rows, a.data, bf16, e);
    npy_close(&a);
    return rc;
}

int main(int argc, char **argv)
{
    struct clip_weights w = {0};
    struct clip_model m = {0};
    struct dev d = {0};
    struct err e;
    if (isa_start(argv, &e)) {
        fprintf(stderr, "embed-table: %s\n", e.text);
        return 1;
    }
    if (argc < 5) {
        fprintf(stderr, "usage: embed-table MODEL f32|bf16 THREADS BATCH [TOKENS.npy]\n");
        return 2;
    }
    bool bf16 = !strcmp(argv[2], "bf16");
    size_t batch = strtoull(argv[4], NULL, 10);
    struct clip_model_options o = {.vision = batch > 0, .text = argc > 5};
    if (atoi(argv[3]) == 1)
        clock_used = CLOCK_THREAD_CPUTIME_ID;
    double start = now();
    int rc = clip_weights_open(&w, argv[1], &e) ||
             dev_open(&d, "cpu", bf16 ? DEV_BF16 : DEV_F32, atoi(argv[3]), false, &e);
    struct dev_ops ops;
    if (!rc) {
        ops = watch(&d);
        d.op = &ops;
        rc = clip_model_load(&m, &d, &w, &o, &e);
    }
    if (!rc)
        printf("%s %s, %s threads, batch %zu: loaded in %.1f s\n", argv[1], argv[2], argv[3], batch,
               now() - start);
    if (!rc && batch)
        rc = time_images(&m, batch, bf16, &e);
    if (!rc && argc > 5)
        rc = time_texts(&m, argv[5], bf16, &e);
    if (rc)
        fprintf(stderr, "embed-table: %s\n", e.text);
    clip_model_release(&m);
    dev_close(&d);
    clip_weights_close(&w);
    return rc ? 1 : 0;
}
