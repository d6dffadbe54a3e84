// SPDX-License-Identifier: Apache-2.0
// probe [ROWS [CLASSES [DIM [ITERATIONS [THREADS]]]]]: seconds an iteration of the linear probe's
// two stages on made-up features (clusters of unit rows, one a class).
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/isa.h"
#include "base/mem.h"
#include "eval/linear-probe.h"
#include "base/rng.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Row i: its class's centre and noise, made unit.
static void fill(float *x, int32_t *label, size_t n, size_t dim, size_t classes)
{
    for (size_t i = 0; i < n; i++) {
        struct rng centre, noise;
        double square = 0;
        label[i] = (int32_t)(i % classes);
        rng_init(&centre, 1, (uint64_t)label[i]);
        rng_init(&noise, 2, i);
        for (size_t j = 0; j < dim; j++) {
            double v = rng_normal(&centre) + 2 * rng_normal(&noise);
            x[i * dim + j] = (float)v;
            square += v * v;
        }
        for (size_t j = 0; j < dim; j++)
            x[i * dim + j] /= (float)sqrt(square);
    }
}

static size_t arg(int argc, char **argv, int i, size_t otherwise)
{
    return argc > i ? strtoul(argv[i], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
    size_t n = arg(argc, argv, 1, 50000), classes = arg(argc, argv, 2, 1000);
    size_t dim = arg(argc, argv, 3, 512), iterations = arg(argc, argv, 4, 10);
    struct dev d;
    struct err e;
    if (isa_start(argv, &e)) {
        fprintf(stderr, "probe: %s\n", e.text);
        return 1;
    }
    if (dev_open(&d, "cpu", DEV_F32, (int)arg(argc, argv, 5, 2), false, &e)) {
        fprintf(stderr, "probe: %s\n", e.text);
        return 1;
    }
    int32_t *label = mem_alloc(n, sizeof *label, &e);
    float *x = d.op->alloc(&d, n * dim * sizeof *x, &e);
    if (!label || !x)
        return 1;
    fill(x, label, n, dim, classes);
    const struct probe_data data = {x, label, n, dim, classes};
    for (int exact = 0; exact < 2; exact++) {
        struct probe p = {0};
        double began = now(), cpu = (double)clock();
        if (probe_fit(&d, &data, 1, (int)iterations, exact, &p, &e)) {
            fprintf(stderr, "probe: %s\n", e.text);
            return 1;
        }
        double s = now() - began, c = ((double)clock() - cpu) / CLOCKS_PER_SEC;
        printf(
            "%s: %d iterations, %.3f s each (%.3f of processors), converged %d, objective %.6f\n",
            exact ? "with float64" : "float32", p.iterations, s / p.iterations, c / p.iterations,
            p.converged, p.value);
        probe_release(&p);
    }
    d.op->free(&d, x);
    free(label);
    dev_close(&d);
    return 0;
}
