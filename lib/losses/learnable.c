// SPDX-License-Identifier: Apache-2.0
#include "losses/learnable.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { COLS = 512 };

struct learnable_row {
    double score;
    int32_t row;
};

static size_t columns(const struct learnable_set *s)
{
    return s->n < COLS ? s->n : COLS;
}

static size_t wider(const struct learnable_set *s)
{
    return s->dim[0] > s->dim[1] ? s->dim[0] : s->dim[1];
}

size_t learnable_bytes(const struct learnable_set *s)
{
    size_t cols = columns(s);
    return (s->n * cols + cols * wider(s) + 2 * s->n + cols) * sizeof(float);
}

static int open_host(struct learnable *l, struct err *e)
{
    size_t n = l->set.n;
    for (int i = 0; i < 2; i++)
        if (!(l->own[i] = mem_alloc(n, sizeof(double), e)))
            return -1;
    for (int i = 0; i < 4; i++)
        if (!(l->lse[i] = mem_alloc(n, sizeof(double), e)))
            return -1;
    return (l->host = mem_alloc(n, sizeof *l->host, e)) &&
                   (l->first = mem_alloc(n, sizeof *l->first, e)) &&
                   (l->order = mem_alloc(n, sizeof(struct learnable_row), e)) &&
                   (l->chosen = mem_alloc(l->set.keep, sizeof *l->chosen, e))
               ? 0
               : -1;
}

int learnable_open(struct learnable *l, struct dev *d, const struct learnable_set *s, struct err *e)
{
    size_t matrix;
    *l = (struct learnable){.d = d, .set = *s, .cols = columns(s)};
    if (!s->keep || s->keep > s->n || !s->blocks || s->blocks > s->keep)
        return err_set(e, "cannot choose %zu of %zu rows in %zu blocks", s->keep, s->n, s->blocks);
    if (!mem_mul(s->n, l->cols * sizeof(float), &matrix))
        return err_set(e, "too many rows: %zu", s->n);
    if (!(l->mat = d->op->alloc(d, matrix, e)) ||
        !(l->part = d->op->alloc(d, l->cols * wider(s) * sizeof(float), e)) ||
        !(l->sum = d->op->alloc(d, s->n * sizeof(float), e)) ||
        !(l->number = d->op->alloc(d, s->n * sizeof(int32_t), e)) ||
        !(l->index = d->op->alloc(d, l->cols * sizeof(int32_t), e)) || open_host(l, e)) {
        learnable_close(l);
        return -1;
    }
    int32_t *number = (int32_t *)(void *)l->host; // the same size, not in use yet
    for (size_t i = 0; i < s->n; i++)
        number[i] = (int32_t)i;
    d->op->upload(d, l->number, number, s->n * sizeof *number);
    return d->op->sync(d, e);
}

void learnable_close(struct learnable *l)
{
    void *dev[] = {l->mat, l->part, l->sum, l->number, l->index};
    for (size_t i = 0; l->d && i < sizeof dev / sizeof *dev; i++)
        if (dev[i])
            l->d->op->free(l->d, dev[i]);
    for (int i = 0; i < 2; i++)
        free(l->own[i]);
    for (int i = 0; i < 4; i++)
        free(l->lse[i]);
    free(l->host);
    free(l->first);
    free(l->order);
    free(l->chosen);
    *l = (struct learnable){0};
}

static double log_add(double a, double b)
{
    double most = a > b ? a : b;
    return most == -INFINITY ? most : most + log(exp(a - most) + exp(b - most));
}

static int fetch(struct learnable *l, struct err *e)
{
    return l->d->op->download(l->d, l->host, l->sum, l->set.n * sizeof *l->host, e);
}

// The diagonals.
static int find_own(struct learnable *l, const float *const x[2][2], const float scale[2],
                    struct err *e)
{
    struct dev *d = l->d;
    for (int s = 0; s < 2; s++) {
        d->op->pick_dots(d, l->set.n, 1, l->set.dim[s], scale[s], x[s][0], x[s][1], l->number,
                         l->sum);
        if (fetch(l, e))
            return -1;
        for (size_t i = 0; i < l->set.n; i++)
            l->own[s][i] = (double)l->host[i];
    }
    return 0;
}

// Adds the rows of `index` (host, n of them) to those that all rows are seen beside.
static int add_rows(struct learnable *l, const float *const x[2][2], const float scale[2],
                    const int32_t *index, size_t n, struct err *e)
{
    struct dev *d = l->d;
    for (size_t at = 0, m; at < n; at += m) {
        m = n - at < l->cols ? n - at : l->cols;
        d->op->upload(d, l->index, index + at, m * sizeof *index);
        for (int k = 0; k < 4; k++) {
            int s = k / 2;
            size_t dim = l->set.dim[s];
            d->op->gather(d, m, dim, x[s][!(k % 2)], dim, l->index, l->part);
            d->op->gemm(d, false, true, l->set.n, m, dim, scale[s], x[s][k % 2], dim, l->part, dim,
                        0, l->mat, l->cols);
            d->op->row_lse(d, l->set.n, m, l->mat, l->cols, l->sum);
            if (fetch(l, e))
                return -1;
            for (size_t i = 0; i < l->set.n; i++)
                l->lse[k][i] = log_add(l->lse[k][i], (double)l->host[i]);
        }
    }
    return 0;
}

// `inside`: the row itself is among those that it is seen beside.
static double score_of(const struct learnable *l, size_t i, bool inside)
{
    double sum = 0;
    for (int k = 0; k < 4; k++) {
        double own = l->own[k / 2][i];
        double loss = (inside ? l->lse[k][i] : log_add(own, l->lse[k][i])) - own;
        sum += k < 2 ? loss : -loss;
    }
    return sum / 2;
}

static int by_score(const void *x, const void *y)
{
    const struct learnable_row *a = x, *b = y;
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    return a->row < b->row ? -1 : a->row > b->row;
}

static int by_row(const void *x, const void *y)
{
    int32_t a = *(const int32_t *)x, b = *(const int32_t *)y;
    return a < b ? -1 : a > b;
}

// The best `take` rows of the n in l->order, to l->chosen from `at` on; the others stay.
static void take_best(struct learnable *l, size_t n, size_t at, size_t take, bool inside)
{
    struct learnable_row *r = l->order;
    for (size_t i = 0; i < n; i++) {
        double score = score_of(l, (size_t)r[i].row, inside);
        r[i].score = isnan(score) ? -INFINITY : score; // a batch that is not finite is seen later
        if (!inside)
            continue;
        l->first[r[i].row] = score;
        l->mean += score / (double)n;
    }
    qsort(r, n, sizeof *r, by_score);
    for (size_t i = 0; i < take; i++) {
        l->chosen[at + i] = r[i].row;
        l->mean_chosen += l->first[r[i].row] / (double)l->set.keep;
    }
    memmove(r, r + take, (n - take) * sizeof *r);
}

static void forget(struct learnable *l)
{
    for (int k = 0; k < 4; k++)
        for (size_t i = 0; i < l->set.n; i++)
            l->lse[k][i] = -INFINITY;
}

int learnable_choose(struct learnable *l, const float *const x[2][2], const float scale[2],
                     struct err *e)
{
    const struct learnable_set *s = &l->set;
    struct learnable_row *r = l->order;
    int32_t *all = mem_alloc(s->n, sizeof *all, e);
    if (!all)
        return -1;
    for (size_t i = 0; i < s->n; i++)
        r[i].row = all[i] = (int32_t)i;
    forget(l);
    l->mean = l->mean_chosen = 0;
    int rc = find_own(l, x, scale, e) || add_rows(l, x, scale, all, s->n, e);
    free(all);
    for (size_t b = 0, at = 0, end; b < s->blocks && !rc; b++, at = end) {
        end = (b + 1) * s->keep / s->blocks;
        take_best(l, s->n - at, at, end - at, !b);
        if (!b)
            forget(l);
        if (b + 1 < s->blocks)
            rc = add_rows(l, x, scale, l->chosen + at, end - at, e);
    }
    if (!rc)
        qsort(l->chosen, s->keep, sizeof *l->chosen, by_row);
    return rc ? -1 : 0;
}
