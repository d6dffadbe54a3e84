// SPDX-License-Identifier: Apache-2.0
// cluster-head K DIM BATCH RATE [STEPS [THREADS]]: time and memory of the cluster loss and its
// optimiser for K clusters of which a share RATE is drawn at each step. The cost of a step should
// go with RATE x K, not with K.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "losses/cluster-head.h"
#include "base/isa.h"
#include "losses/losses.h"
#include "base/mem.h"
#include "losses/optim.h"
#include "base/rng.h"

struct bench {
    struct dev d;
    struct losses losses;
    struct cluster_head head;
    struct optim optim;
    struct optim_slot *slot;
    size_t k, dim, n;
    float *v, *tv, *dv;
    int32_t *labels;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void randoms(float *x, size_t n, uint64_t stream)
{
    struct rng r;
    rng_init(&r, 1, stream);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)rng_uniform(&r) - 0.5f;
}

static int open_bench(struct bench *b, double rate, int threads, struct err *e)
{
    struct cluster_set set = {.sigma = 64, .rate = rate, .filter = 1};
    struct optim_set o;
    optim_set_default(&o);
    o.steps = 1000000;
    float *centroids = mem_alloc(b->k * b->dim, sizeof *centroids, e);
    if (!centroids || dev_open(&b->d, "cpu", DEV_F32, threads, false, e))
        return -1;
    randoms(centroids, b->k * b->dim, 0);
    int rc = losses_parse(&b->losses, "cluster", e) || losses_open(&b->losses, &b->d, b->n, 1, e) ||
             cluster_head_open(&b->head, &b->d, &set, centroids, b->k, b->dim, b->n, 1, e);
    free(centroids);
    if (rc)
        return -1;
    optim_init(&b->optim, &b->d, &o);
    b->slot = optim_add(&b->optim, "centroids", b->k * b->dim, b->head.w, b->head.dw, true, e);
    b->v = mem_alloc(b->n * b->dim, sizeof *b->v, e);
    b->tv = mem_alloc(b->n * b->dim, sizeof *b->tv, e);
    b->dv = mem_alloc(b->n * b->dim, sizeof *b->dv, e);
    b->labels = mem_alloc(b->n, sizeof *b->labels, e);
    if (!b->slot || !b->v || !b->tv || !b->dv || !b->labels)
        return -1;
    b->slot->cols = b->dim;
    b->slot->rows = b->head.all ? NULL : b->head.ids_dev;
    randoms(b->v, b->n * b->dim, 1);
    randoms(b->tv, b->n * b->dim, 2);
    b->d.op->unit(&b->d, b->n, b->dim, b->v, b->v, NULL);
    b->d.op->unit(&b->d, b->n, b->dim, b->tv, b->tv, NULL);
    return 0;
}

static int step(struct bench *b, uint64_t i, struct err *e)
{
    struct rng r;
    double loss, norm;
    rng_init(&r, 2, i);
    for (size_t k = 0; k < b->n; k++)
        b->labels[k] = (int32_t)rng_below(&r, b->k);
    struct loss_batch l = {.n = b->n, .dim = b->dim, .dim_t = b->dim, .scale = 1, .w = &b->head};
    l.v = l.t = l.pv = l.pt = b->v;
    l.tv = l.tt = b->tv;
    l.label = b->labels;
    l.n_label = 1;
    l.step = i;
    struct loss_grads g = {b->dv, b->dv, b->dv, b->dv, 0, 0};
    if (losses_run(&b->losses, &l, &g, &loss, e))
        return -1;
    b->slot->n_rows = b->head.s;
    return optim_step(&b->optim, &norm, e);
}

int main(int argc, char **argv)
{
    static struct bench b;
    struct err e;
    if (isa_start(argv, &e)) {
        fprintf(stderr, "cluster-head: %s\n", e.text);
        return 1;
    }
    if (argc < 5) {
        fprintf(stderr, "usage: cluster-head K DIM BATCH RATE [STEPS [THREADS]]\n");
        return 2;
    }
    b.k = strtoull(argv[1], NULL, 10);
    b.dim = strtoull(argv[2], NULL, 10);
    b.n = strtoull(argv[3], NULL, 10);
    double rate = atof(argv[4]), best = 1e9, sum = 0;
    int steps = argc > 5 ? atoi(argv[5]) : 10;
    if (open_bench(&b, rate, argc > 6 ? atoi(argv[6]) : 2, &e))
        goto failed;
    for (int i = 0; i < steps; i++) {
        double t = now();
        if (step(&b, (uint64_t)i, &e))
            goto failed;
        t = now() - t;
        best = t < best ? t : best;
        sum += t;
    }
    printf("K %zu x %zu, batch %zu, sample %zu: %.1f ms a step, %.1f at best; head and moments "
           "%.2f GiB\n",
           b.k, b.dim, b.n, b.head.s, 1e3 * sum / steps, 1e3 * best,
           (double)cluster_head_bytes(&b.head.set, b.k, b.dim, b.n, 1) / 1073741824.0);
    return 0;
failed:
    fprintf(stderr, "cluster-head: %s\n", e.text);
    return 1;
}
