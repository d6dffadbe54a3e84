// SPDX-License-Identifier: Apache-2.0
#include "train/average.h"

#include <string.h>

int train_average_open(struct train_average *a, struct dev *d, size_t n, double x, struct err *e)
{
    *a = (struct train_average){.n = n, .x = x};
    if (!(a->flat = d->op->alloc(d, n * sizeof(float), e)))
        return -1;
    a->d = d;
    return 0;
}

void train_average_close(struct train_average *a)
{
    if (a->d)
        a->d->op->free(a->d, a->flat);
    memset(a, 0, sizeof *a);
}

void train_average_start(struct train_average *a, const float *weights)
{
    if (a->d)
        a->d->op->copy(a->d, a->flat, weights, a->n * sizeof *weights);
}

void train_average_take(struct train_average *a, const float *weights)
{
    if (!a->d)
        return;
    a->d->op->scale(a->d, a->n, (float)a->x, a->flat);
    a->d->op->axpy(a->d, a->n, (float)(1 - a->x), weights, a->flat);
}
