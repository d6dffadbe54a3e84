// SPDX-License-Identifier: Apache-2.0
#include "train/average.h"

#include <string.h>

enum { SWAP = 1 << 18 }; // values exchanged at a time

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

static void swap(struct dev *d, float *a, float *b, size_t n, float *through)
{
    size_t bytes = n * sizeof *a;
    d->op->copy(d, through, a, bytes);
    d->op->copy(d, a, b, bytes);
    d->op->copy(d, b, through, bytes);
}

int train_average_swap(struct train_average *a, float *weights, const struct clip_table *t,
                       const struct clip_locks *locks, struct err *e)
{
    struct dev *d = a->d;
    float *through = d->op->alloc(d, SWAP * sizeof *through, e);
    if (!through)
        return -1;
    for (size_t i = 0; i < t->n; i++)
        for (size_t at = 0; at < t->t[i].numel && !clip_locked(locks, t, i); at += SWAP) {
            size_t n = t->t[i].numel - at < SWAP ? t->t[i].numel - at : SWAP;
            size_t first = t->t[i].offset + at;
            swap(d, weights + first, a->flat + first, n, through);
        }
    int rc = d->op->sync(d, e);
    d->op->free(d, through);
    return rc;
}
