// SPDX-License-Identifier: Apache-2.0
// kernels [--device NAME] [--dtype f32|bf16] [--scale N] [--only PREFIX]: every operation of a
// device alone, at the sizes of ViT-L-14's towers and of a training step. A JSON line each:
// microseconds, bytes and FLOPs that the operation cannot do without (bench/roofline.md), and the
// share of its floor, which is the larger of FLOPs over the device's own GEMM rate and bytes over
// its own copy rate, both measured first in the same run. Times are medians of rounds of launches
// without a wait in between. --scale divides the number of rows.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "device/dev.h"
#include "base/half.h"
#include "base/rng.h"

enum {
    ROUNDS = 5,
    BUFFERS = 8,
    WIDTH = 1024,
    MLP = 4096,
    HEADS = 16,
    PATCHES = 256,
    LOGITS = 4096
};
static const double ROUND_SECONDS = 0.03;

struct bench {
    struct dev d;
    size_t rows;                   // of ViT-L-14's vision tower: 256 pictures of 257 rows
    size_t images, logits;         // pictures; rows and columns of a matrix of logits
    void *buf[BUFFERS];            // device, each with room for rows x MLP float32 values
    float *stat[3];                // device float32 [rows]
    int32_t *index, *start;        // device [rows], [images + 1]
    struct dev_weight *w, *square; // [MLP, WIDTH], [MLP, MLP]
    double *to;                    // device [1]
    double copy_rate, gemm_rate;
    const char *only;
};

// What an operation moves and computes, in bytes and FLOPs, and how it is called.
struct kernel {
    const char *file, *name;
    void (*call)(struct bench *);
    double bytes, flops;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void die(const struct err *e)
{
    fprintf(stderr, "kernels: %s\n", e->text);
    exit(1);
}

static double seconds_of(struct bench *b, const struct kernel *k, int times)
{
    struct err e;
    double begin = now();
    for (int i = 0; i < times; i++)
        k->call(b);
    if (b->d.op->sync(&b->d, &e))
        die(&e);
    return (now() - begin) / times;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Median seconds of a call.
static double measure(struct bench *b, const struct kernel *k)
{
    double t[ROUNDS];
    seconds_of(b, k, 1);
    double once = seconds_of(b, k, 1);
    int times = once > ROUND_SECONDS ? 1 : (int)(ROUND_SECONDS / (once > 1e-6 ? once : 1e-6)) + 1;
    for (int i = 0; i < ROUNDS; i++)
        t[i] = seconds_of(b, k, times);
    qsort(t, ROUNDS, sizeof *t, by_value);
    return t[ROUNDS / 2];
}

static void report(struct bench *b, const struct kernel *k)
{
    if (b->only && strncmp(k->file, b->only, strlen(b->only)))
        return;
    double s = measure(b, k);
    double by_bytes = b->copy_rate > 0 ? k->bytes / b->copy_rate : 0;
    double by_flops = b->gemm_rate > 0 ? k->flops / b->gemm_rate : 0;
    double least = by_bytes > by_flops ? by_bytes : by_flops;
    printf("{\"file\":\"%s\",\"name\":\"%s\",\"us\":%.2f,\"gb_s\":%.1f,\"tflop_s\":%.3f,"
           "\"bound\":\"%s\",\"share\":%.3f}\n",
           k->file, k->name, s * 1e6, k->bytes / s * 1e-9, k->flops / s * 1e-12,
           by_bytes > by_flops ? "memory" : "products", least / s);
    fflush(stdout);
}

// -- the calls

static void copy(struct bench *b)
{
    b->d.op->copy(&b->d, b->buf[0], b->buf[1], b->rows * MLP * sizeof(float));
}
static void square(struct bench *b)
{
    b->d.op->linear(&b->d, b->rows / 8, b->buf[0], MLP, b->square, NULL, b->buf[1], false);
}
static void linear(struct bench *b)
{
    b->d.op->linear(&b->d, b->rows, b->buf[0], WIDTH, b->w, NULL, b->buf[1], false);
}
static void linear_gelu(struct bench *b)
{
    struct dev_epilogue ep = {.bias = b->stat[0], .act = DEV_ACT_GELU};
    b->d.op->linear(&b->d, b->rows, b->buf[0], WIDTH, b->w, &ep, b->buf[1], false);
}
static void linear_pre(struct bench *b)
{
    struct dev_epilogue ep = {.bias = b->stat[0], .act = DEV_ACT_GELU, .pre = b->buf[2]};
    b->d.op->linear(&b->d, b->rows, b->buf[0], WIDTH, b->w, &ep, b->buf[1], false);
}
static void linear_dx(struct bench *b)
{
    b->d.op->linear_dx(&b->d, b->rows, b->buf[0], b->w, b->buf[1]);
}
static void linear_dw(struct bench *b)
{
    b->d.op->linear_dw(&b->d, b->rows, b->buf[0], b->buf[1], WIDTH, b->w, b->buf[2], b->buf[3]);
}
static void gemm(struct bench *b)
{
    size_t n = b->logits;
    b->d.op->gemm(&b->d, false, true, n, n, WIDTH, 1, b->buf[0], WIDTH, b->buf[1], WIDTH, 0,
                  b->buf[2], n);
}
static void layer_norm(struct bench *b)
{
    b->d.op->layer_norm(&b->d, b->rows, WIDTH, b->buf[0], WIDTH, b->stat[0], b->stat[0], 1e-5f,
                        b->buf[1], false, b->stat[1], b->stat[2]);
}
static void layer_norm_bwd(struct bench *b)
{
    b->d.op->layer_norm_bwd(&b->d, b->rows, WIDTH, b->buf[0], WIDTH, b->stat[0], b->stat[1],
                            b->stat[2], b->buf[1], false, b->buf[2], WIDTH, b->buf[3], b->buf[4]);
}
static struct dev_attention attention_of(struct bench *b)
{
    char *qkv = b->buf[0];
    return (struct dev_attention){.heads = HEADS,
                                  .head_dim = WIDTH / HEADS,
                                  .kv = {b->images, PATCHES + 1, b->start},
                                  .q = qkv,
                                  .k = qkv + WIDTH * b->d.act_size,
                                  .v = qkv + 2 * WIDTH * b->d.act_size,
                                  .q_ld = 3 * WIDTH,
                                  .kv_ld = 3 * WIDTH,
                                  .out = b->buf[1],
                                  .out_ld = WIDTH,
                                  .lse = b->buf[2]};
}
static void attention(struct bench *b)
{
    struct dev_attention a = attention_of(b);
    b->d.op->attention(&b->d, &a);
}
static void attention_bwd(struct bench *b)
{
    struct dev_attention a = attention_of(b);
    char *d = b->buf[4];
    b->d.op->attention_bwd(&b->d, &a, b->buf[3], d, d + WIDTH * b->d.act_size,
                           d + 2 * WIDTH * b->d.act_size);
}
static void act_bwd(struct bench *b)
{
    b->d.op->act_bwd(&b->d, b->rows * MLP, DEV_ACT_GELU, b->buf[0], b->buf[1], b->buf[2]);
}
static void to_act(struct bench *b)
{
    b->d.op->to_act(&b->d, b->rows, WIDTH, b->buf[0], WIDTH, NULL, b->buf[1]);
}
static void gamma_bwd(struct bench *b)
{
    b->d.op->gamma_bwd(&b->d, b->rows, WIDTH, b->buf[0], b->buf[1], b->buf[2]);
}
static void axpy(struct bench *b)
{
    b->d.op->axpy(&b->d, b->rows * WIDTH, 0.0f, b->buf[0], b->buf[1]);
}
static void gather(struct bench *b)
{
    b->d.op->gather(&b->d, b->rows, WIDTH, b->buf[0], WIDTH, b->index, b->buf[1]);
}
static void scatter(struct bench *b)
{
    b->d.op->scatter_add(&b->d, b->rows, WIDTH, b->buf[0], b->index, b->buf[1], WIDTH);
}
static void unit(struct bench *b)
{
    b->d.op->unit(&b->d, b->rows, WIDTH, b->buf[0], b->buf[1], b->stat[1]);
}
static void unit_bwd(struct bench *b)
{
    b->d.op->unit_bwd(&b->d, b->rows, WIDTH, b->buf[0], b->stat[1], b->buf[1], b->buf[2]);
}
static void patchify(struct bench *b)
{
    static const float mean[3] = {0.48f, 0.46f, 0.41f}, std[3] = {0.27f, 0.26f, 0.28f};
    b->d.op->patchify(&b->d, b->images, 224, 14, b->buf[0], mean, std, b->buf[1]);
}
static void assemble(struct bench *b)
{
    b->d.op->assemble(&b->d, b->images, PATCHES, WIDTH, b->buf[0], b->stat[0], b->buf[3],
                      b->buf[1]);
}
static void row_lse(struct bench *b)
{
    b->d.op->row_lse(&b->d, b->logits, b->logits, b->buf[0], b->logits, b->stat[0]);
}
static void softmax_ce(struct bench *b)
{
    b->d.op->softmax_ce(&b->d, b->logits, b->logits, b->buf[0], b->logits, b->index, 0.1f,
                        b->buf[1], b->stat[0]);
}
static void soft_ce(struct bench *b)
{
    b->d.op->softmax_soft_ce(&b->d, b->logits, b->logits, b->buf[0], b->logits, b->buf[1],
                             b->logits, 0.1f, b->buf[2], b->stat[0], b->stat[1]);
}
static void sigmoid_ce(struct bench *b)
{
    b->d.op->sigmoid_ce(&b->d, b->logits, b->logits, b->buf[0], b->logits, 0.1f, b->buf[1],
                        b->stat[0]);
}
static void dot_to(struct bench *b)
{
    b->d.op->dot_to(&b->d, b->rows * WIDTH, b->buf[0], b->buf[1], b->to);
}
static void adamw(struct bench *b)
{
    struct dev_adamw o = {1e-4f, 0.9f, 0.98f, 1e-6f, 0.2f, 0.1f, 0.02f, 1, NULL};
    b->d.op->adamw(&b->d, b->rows * WIDTH, &o, b->buf[0], b->buf[1], b->buf[2], b->buf[3]);
}
static void scores(struct bench *b)
{
    b->d.op->scores(&b->d, b->logits, b->buf[0], b->logits, b->buf[1], WIDTH, b->buf[2], b->logits);
}
static void hits_above(struct bench *b)
{
    struct dev_scores s = {b->buf[2], b->logits, b->logits, b->logits, 0, 0};
    struct dev_hits h = {b->buf[4], (uint32_t *)b->to, 1};
    b->d.op->hits_above(&b->d, &s, b->stat[0], false, &h);
}

// -- memory

static void *room(struct bench *b, size_t bytes)
{
    struct err e;
    void *p = b->d.op->alloc(&b->d, bytes, &e);
    if (!p)
        die(&e);
    return p;
}

// Values that are themselves as float32 and as pairs of bfloat16: any other bits would be numbers
// too small to be normal here and there, which take a processor a hundred times as long.
static void fill(struct bench *b, void *dst, size_t n)
{
    enum { RUN = 1 << 16 };
    static float x[RUN];
    struct rng r;
    rng_init(&r, 1, 0);
    for (size_t i = 0; i < RUN; i++) {
        uint32_t half = bf16_from_f32_one(0.125f * (float)rng_normal(&r)), both = half << 16 | half;
        memcpy(&x[i], &both, sizeof both);
    }
    for (size_t i = 0; i < n; i += RUN)
        b->d.op->upload(&b->d, (float *)dst + i, x, (n - i < RUN ? n - i : RUN) * sizeof *x);
}

// Over master values, as in training: products in both directions.
static struct dev_weight *weight(struct bench *b, size_t out, size_t in)
{
    struct err e;
    float *master = room(b, out * in * sizeof *master);
    fill(b, master, out * in);
    struct dev_weight *w = b->d.op->weight_view(&b->d, master, out, in, false, &e);
    if (!w)
        die(&e);
    return w;
}

static void prepare(struct bench *b, size_t scale)
{
    b->images = 256 / scale ? 256 / scale : 1;
    b->rows = b->images * (PATCHES + 1);
    b->logits = LOGITS / scale ? LOGITS / scale : 128;
    size_t values = b->rows * MLP;
    if (values < b->logits * b->logits)
        values = b->logits * b->logits;
    for (int i = 0; i < BUFFERS; i++) {
        b->buf[i] = room(b, values * sizeof(float));
        fill(b, b->buf[i], values);
    }
    size_t stats = b->rows > MLP ? b->rows : MLP;
    for (int i = 0; i < 3; i++) {
        b->stat[i] = room(b, stats * sizeof(float));
        fill(b, b->stat[i], stats);
    }
    int32_t *index = malloc(b->rows * sizeof *index),
            *start = malloc((b->images + 1) * sizeof *start);
    if (!index || !start)
        exit(1);
    for (size_t i = 0; i < b->rows; i++)
        index[i] = (int32_t)(i * 7919 % b->logits % b->rows);
    for (size_t i = 0; i <= b->images; i++)
        start[i] = (int32_t)(i * (PATCHES + 1));
    b->index = room(b, b->rows * sizeof *index);
    b->start = room(b, (b->images + 1) * sizeof *start);
    b->to = room(b, sizeof *b->to);
    b->d.op->upload(&b->d, b->index, index, b->rows * sizeof *index);
    b->d.op->upload(&b->d, b->start, start, (b->images + 1) * sizeof *start);
    free(index);
    free(start);
    b->w = weight(b, MLP, WIDTH);
    b->square = weight(b, MLP, MLP);
}

static void run(struct bench *b)
{
    double r = (double)b->rows, w = WIDTH, m = MLP, a = (double)b->d.act_size,
           l = (double)b->logits;
    double s = PATCHES + 1, images = (double)b->images;
    struct kernel rate = {"memory", "copy", copy, 2 * r * m * 4, 0};
    b->copy_rate = rate.bytes / measure(b, &rate);
    struct kernel big = {"gemm", "square", square, 0, 2 * (double)(b->rows / 8) * m * m};
    b->gemm_rate = big.flops / measure(b, &big);
    printf("{\"device\":\"%s\",\"dtype\":\"%s\",\"copy_gb_s\":%.1f,\"gemm_tflop_s\":%.3f}\n",
           b->d.name, b->d.act == DEV_BF16 ? "bf16" : "f32", b->copy_rate * 1e-9,
           b->gemm_rate * 1e-12);
    const struct kernel all[] = {
        {"gemm", "linear fc", linear, a * (r * w + r * m + w * m), 2 * r * w * m},
        {"gemm", "linear fc, bias, GELU", linear_gelu, a * (r * w + r * m + w * m), 2 * r * w * m},
        {"gemm", "linear fc, kept input", linear_pre, a * (r * w + 2 * r * m + w * m),
         2 * r * w * m},
        {"gemm", "linear dx", linear_dx, a * (r * w + r * m + w * m), 2 * r * w * m},
        {"gemm", "linear dw, db", linear_dw, a * (r * w + r * m) + 8 * w * m, 2 * r * w * m},
        {"gemm", "logits, float32", gemm, 4 * (2 * l * w + l * l), 2 * l * l * w},
        {"norm", "layer norm", layer_norm, r * w * (4 + a), 0},
        {"norm", "layer norm backward", layer_norm_bwd, r * w * (12 + a), 0},
        {"norm", "unit rows", unit, 8 * r * w, 0},
        {"norm", "unit rows backward", unit_bwd, 12 * r * w, 0},
        {"attention", "forward", attention, 4 * a * r * w, 4 * s * r * w},
        {"attention-bwd", "backward", attention_bwd, 8 * a * r * w, 10 * s * r * w},
        {"elementwise", "GELU backward", act_bwd, 3 * a * r * m, 0},
        {"elementwise", "to_act", to_act, r * w * (4 + a), 0},
        {"elementwise", "layer scale backward", gamma_bwd, r * w * (4 + a), 0},
        {"elementwise", "axpy", axpy, 12 * r * w, 0},
        {"rows", "gather", gather, 8 * r * w, 0},
        {"rows", "scatter_add", scatter, 12 * r * w, 0},
        {"rows", "patches", patchify, images * 224 * 224 * 3 * (1 + a), 0},
        {"rows", "assemble", assemble, 8 * r * w, 0},
        {"loss", "log-sum-exp", row_lse, 4 * l * l, 0},
        {"loss", "cross entropy", softmax_ce, 8 * l * l, 0},
        {"loss", "soft cross entropy", soft_ce, 12 * l * l, 0},
        {"loss", "sigmoid loss", sigmoid_ce, 8 * l * l, 0},
        {"reduce", "dot", dot_to, 8 * r * w, 0},
        {"optim", "adamw", adamw, 28 * r * w, 0},
        {"search", "scores", scores, 2 * a * l * w + 4 * l * l, 2 * l * l * w},
        {"search", "scores above", hits_above, 4 * l * l, 0},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        report(b, &all[i]);
}

int main(int argc, char **argv)
{
    static struct bench b;
    const char *device = "cuda:0", *dtype = "bf16";
    size_t scale = 1;
    struct err e;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--device"))
            device = argv[i + 1];
        else if (!strcmp(argv[i], "--dtype"))
            dtype = argv[i + 1];
        else if (!strcmp(argv[i], "--only"))
            b.only = argv[i + 1];
        else if (!strcmp(argv[i], "--scale"))
            scale = strtoull(argv[i + 1], NULL, 10);
    }
    if (argc % 2 == 0 || !scale || scale > 256 || (strcmp(dtype, "f32") && strcmp(dtype, "bf16"))) {
        fprintf(stderr,
                "usage: kernels [--device NAME] [--dtype f32|bf16] [--scale N] [--only FILE]\n");
        return 2;
    }
    if (dev_open(&b.d, device, strcmp(dtype, "f32") ? DEV_BF16 : DEV_F32, 2, true, &e))
        die(&e);
    prepare(&b, scale);
    run(&b);
    if (b.d.op->sync(&b.d, &e))
        die(&e);
    dev_close(&b.d);
    return 0;
}
