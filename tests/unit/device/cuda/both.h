// SPDX-License-Identifier: Apache-2.0
// The CPU and the CUDA device side by side: the same values on both, results compared. For
// cuda-test.c.
#ifndef UNIT_DEVICE_CUDA_BOTH_H
#define UNIT_DEVICE_CUDA_BOTH_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "device/dev.h"
#include "base/half.h"
#include "base/rng.h"
#include "system/digest.h"
#include "unit/tap.h"

static struct dev dev[2]; // CPU, CUDA
static struct rng rng;
static uint64_t digest;  // of every result of the CUDA device
static const char *file; // of lib/device/cuda that the test is about

#define BOTH(call)                                                                                 \
    for (int k = 0; k < 2; k++) {                                                                  \
        struct dev *d = &dev[k];                                                                   \
        d->op->call;                                                                               \
    }

// The same values on both devices.
struct buf {
    size_t n, item;
    void *p[2];
};

static struct buf buf_bytes(const void *from, size_t n, size_t item)
{
    struct buf b = {n, item, {NULL, NULL}};
    struct err e;
    for (int k = 0; k < 2; k++) {
        b.p[k] = dev[k].op->alloc(&dev[k], n * item, &e);
        if (!b.p[k]) {
            printf("Bail out! %s\n", e.text);
            exit(1);
        }
        if (from)
            dev[k].op->upload(&dev[k], b.p[k], from, n * item);
    }
    return b;
}

static void release(struct buf *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < 2; k++)
            dev[k].op->free(&dev[k], b[i].p[k]);
}
#define RELEASE(...)                                                                               \
    release((struct buf[]){__VA_ARGS__}, sizeof((struct buf[]){__VA_ARGS__}) / sizeof(struct buf))

static struct buf floats(size_t n)
{
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)rng_normal(&rng);
    struct buf b = buf_bytes(x, n, sizeof *x);
    free(x);
    return b;
}

static struct buf acts(size_t n)
{
    if (dev[0].act == DEV_F32)
        return floats(n);
    float *x = malloc(n * sizeof *x);
    uint16_t *h = malloc(n * sizeof *h);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)rng_normal(&rng);
    bf16_from_f32(x, h, n);
    struct buf b = buf_bytes(h, n, sizeof *h);
    free(x);
    free(h);
    return b;
}

static struct buf ints(const int32_t *v, size_t n)
{
    return buf_bytes(v, n, sizeof *v);
}

static void *at(const struct buf *b, int k, size_t i)
{
    return (char *)b->p[k] + i * b->item;
}

static float *fetch(const struct buf *b, int k)
{
    struct err e;
    float *x = malloc(b->n * sizeof *x + 1);
    void *raw = malloc(b->n * b->item + 1);
    if (dev[k].op->download(&dev[k], raw, b->p[k], b->n * b->item, &e)) {
        printf("Bail out! %s\n", e.text);
        exit(1);
    }
    if (k)
        digest = digest_u64((uint64_t[]){digest, digest_u64(raw, b->n * b->item)}, 16);
    if (b->item == 2)
        bf16_to_f32(raw, x, b->n);
    else
        memcpy(x, raw, b->n * sizeof *x);
    free(raw);
    return x;
}

// Largest difference against the largest value.
static void same(const struct buf *b, double f32, double bf16, const char *what)
{
    float *want = fetch(b, 0), *got = fetch(b, 1);
    double e = 0, size = 0, bound = dev[0].act == DEV_F32 ? f32 : bf16;
    for (size_t i = 0; i < b->n; i++) {
        if (want[i] == got[i])
            continue;
        double d = fabs((double)want[i] - (double)got[i]);
        e = d > e || d != d ? d : e;
        size = fabs((double)want[i]) > size ? fabs((double)want[i]) : size;
    }
    for (size_t i = 0; i < b->n; i++)
        size = isfinite(want[i]) && fabs((double)want[i]) > size ? fabs((double)want[i]) : size;
    e /= size > 0 ? size : 1;
    ok(e <= bound, "%s: %s, %s: %.1e", file, what, dev[0].act == DEV_F32 ? "f32" : "bf16", e);
    free(want);
    free(got);
}

#endif
