// SPDX-License-Identifier: Apache-2.0
// gen-mixture FILE ROWS DIM CENTERS SPREAD SEED [f2|f4] [COPIES]: unit rows around random centres,
// as embeddings lie: row = centre + SPREAD * noise, made unit. A share COPIES (0..1) of the rows
// repeats an earlier row of its centre with a thirtieth of the noise: what sem-balance is to find.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/npy-write.h"
#include "system/threads.h"
#include "base/rng.h"

enum { ROWS = 16384, TASK = 256 };

struct gen {
    uint64_t first, n, centers, seed;
    size_t dim;
    float spread, *rows;
    double copies;
};

// About normal, variance 1: four bytes summed (Irwin-Hall), four values a block.
static void noise(float *out, size_t dim, uint64_t seed, uint64_t stream)
{
    for (size_t d = 0; d < dim; d += 4) {
        uint32_t w[4];
        rng_block(seed, stream, d / 4, w);
        for (size_t i = 0; i < 4 && d + i < dim; i++) {
            uint32_t sum = (w[i] & 255) + (w[i] >> 8 & 255) + (w[i] >> 16 & 255) + (w[i] >> 24);
            out[d + i] = ((float)sum - 510) / 147.8f;
        }
    }
}

static void make_row(const struct gen *g, uint64_t i, float *x, float *work)
{
    struct rng r;
    rng_init(&r, g->seed, (uint64_t)1 << 62 | i);
    bool copy = i > 0 && rng_uniform(&r) < g->copies;
    uint64_t of = copy ? rng_below(&r, i) : i, center = of * 2654435761u % g->centers;
    noise(x, g->dim, g->seed, (uint64_t)1 << 61 | center);
    noise(work, g->dim, g->seed, of);
    for (size_t d = 0; d < g->dim; d++)
        x[d] += g->spread * work[d];
    if (copy) {
        noise(work, g->dim, g->seed, i);
        for (size_t d = 0; d < g->dim; d++)
            x[d] += g->spread / 30 * work[d];
    }
    double norm = 0;
    for (size_t d = 0; d < g->dim; d++)
        norm += (double)x[d] * x[d];
    for (size_t d = 0; d < g->dim; d++)
        x[d] = (float)(x[d] / sqrt(norm));
}

static void task(void *ctx, size_t t)
{
    const struct gen *g = ctx;
    float *work = malloc(g->dim * sizeof *work);
    for (uint64_t i = t * TASK; work && i < (t + 1) * TASK && i < g->n; i++)
        make_row(g, g->first + i, g->rows + i * g->dim, work);
    free(work);
}

int main(int argc, char **argv)
{
    struct err e;
    struct npy_writer w;
    if (argc < 7)
        return fprintf(stderr, "usage: gen-mixture FILE ROWS DIM CENTERS SPREAD SEED [f2|f4] "
                               "[COPIES]\n"),
               2;
    uint64_t rows = strtoull(argv[2], NULL, 10), dim = strtoull(argv[3], NULL, 10);
    struct gen g = {.dim = dim,
                    .centers = strtoull(argv[4], NULL, 10),
                    .spread = strtof(argv[5], NULL),
                    .seed = strtoull(argv[6], NULL, 10),
                    .copies = argc > 8 ? strtod(argv[8], NULL) : 0};
    enum npy_type type = argc > 7 && !strcmp(argv[7], "f4") ? NPY_F4 : NPY_F2;
    g.rows = malloc(ROWS * dim * sizeof *g.rows);
    int r = !g.rows || !g.centers || npy_create(&w, argv[1], type, 1, &dim, rows, &e);
    for (; !r && g.first < rows; g.first += g.n) {
        g.n = rows - g.first < ROWS ? rows - g.first : ROWS;
        r = threads_for(threads_cpus(), (g.n + TASK - 1) / TASK, task, &g, &e) ||
            npy_write_f32(&w, g.rows, g.n, &e);
    }
    if (!r)
        r = npy_commit(&w, &e);
    if (r)
        fprintf(stderr, "gen-mixture: %s\n", e.text);
    free(g.rows);
    return r != 0;
}
