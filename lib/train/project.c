// SPDX-License-Identifier: Apache-2.0
#include "train/project.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

// Streams of the random generator for the two maps, different from those of tensors and steps.
#define MAP_STREAM (UINT64_C(3) << 40)

static int fill(struct train_project *p, int tower, uint64_t seed, struct err *e)
{
    size_t n = p->dim * p->dim_t;
    float *host = mem_alloc(n, sizeof *host, e);
    if (!host)
        return -1;
    struct rng r;
    rng_init(&r, seed, MAP_STREAM + (uint64_t)tower);
    for (size_t i = 0; i < n; i++)
        host[i] = (float)(rng_normal(&r) / sqrt((double)p->dim));
    p->d->op->upload(p->d, p->map[tower], host, n * sizeof *host);
    int rc = p->d->op->sync(p->d, e);
    free(host);
    return rc;
}

size_t train_project_bytes(size_t dim, size_t dim_t, size_t n_max)
{
    return (8 * dim * dim_t + 5 * n_max * dim_t + 2 * n_max) * sizeof(float);
}

int train_project_open(struct train_project *p, struct dev *d, size_t dim, size_t dim_t,
                       size_t n_max, uint64_t seed, struct err *e)
{
    *p = (struct train_project){.d = d, .dim = dim, .dim_t = dim_t, .n_max = n_max};
    size_t map = dim * dim_t * sizeof(float), rows = n_max * dim_t * sizeof(float);
    bool ok = (p->raw = d->op->alloc(d, rows, e));
    for (int i = 0; i < 2 && ok; i++)
        ok = (p->map[i] = d->op->alloc(d, map, e)) && (p->grad[i] = d->op->alloc(d, map, e)) &&
             (p->unit[i] = d->op->alloc(d, rows, e)) && (p->dunit[i] = d->op->alloc(d, rows, e)) &&
             (p->norm[i] = d->op->alloc(d, n_max * sizeof(float), e)) && !fill(p, i, seed, e);
    if (ok)
        return 0;
    train_project_close(p);
    return -1;
}

void train_project_close(struct train_project *p)
{
    if (!p->d)
        return;
    if (p->raw)
        p->d->op->free(p->d, p->raw);
    for (int i = 0; i < 2; i++) {
        void *all[] = {p->map[i], p->grad[i], p->unit[i], p->dunit[i], p->norm[i]};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            if (all[k])
                p->d->op->free(p->d, all[k]);
    }
    memset(p, 0, sizeof *p);
}

void train_project_forward(struct train_project *p, int tower, size_t at, size_t n, const float *x)
{
    const struct dev_ops *op = p->d->op;
    size_t first = at * p->dim_t;
    op->gemm(p->d, false, true, n, p->dim_t, p->dim, 1, x + at * p->dim, p->dim, p->map[tower],
             p->dim, 0, p->raw, p->dim_t);
    op->unit(p->d, n, p->dim_t, p->raw, p->unit[tower] + first, p->norm[tower] + at);
    op->zero(p->d, p->dunit[tower] + first, n * p->dim_t * sizeof(float));
}

void train_project_back(struct train_project *p, int tower, bool begins, size_t at, size_t n,
                        const float *x, float *dx)
{
    const struct dev_ops *op = p->d->op;
    size_t first = at * p->dim_t;
    op->unit_bwd(p->d, n, p->dim_t, p->unit[tower] + first, p->norm[tower] + at,
                 p->dunit[tower] + first, p->raw);
    op->gemm(p->d, true, false, p->dim_t, p->dim, n, 1, p->raw, p->dim_t, x + at * p->dim, p->dim,
             begins ? 0 : 1, p->grad[tower], p->dim);
    op->gemm(p->d, false, false, n, p->dim, p->dim_t, 1, p->raw, p->dim_t, p->map[tower], p->dim, 1,
             dx + at * p->dim, p->dim);
}
