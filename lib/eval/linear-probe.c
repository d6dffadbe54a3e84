// SPDX-License-Identifier: Apache-2.0
#include "eval/linear-probe.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/lbfgs.h"
#include "base/mem.h"
#include "system/threads.h"

enum { BLOCK_ROWS = 2048, CLASS_TILE = 32, ROW_TILE = 64, GRID_FIRST_STEP = 16 };

// Buffers of one fit. The objective is divided by C n, so that its value stays near one for any C
// and float32 gradients keep their digits.
struct probe_fit {
    struct dev *dev;
    const struct probe_data *d;
    double penalty;              // 1 / (C n)
    float *w, *bias;             // device [classes, dim], [classes]
    float *grad, *bias_grad;     // device, the same
    float *logits, *loss, *ones; // device [rows of a block, classes], [rows], [rows]
    int32_t *label;              // device [n]
    float *host, *host_bias;     // [classes, dim], [classes]
};

static size_t block_rows(const struct probe_data *d)
{
    return d->n < BLOCK_ROWS ? d->n : BLOCK_ROWS;
}

static void fit_release(struct probe_fit *f)
{
    void *const of_device[] = {f->w,      f->bias, f->grad, f->bias_grad,
                               f->logits, f->loss, f->ones, f->label};
    for (size_t i = 0; i < sizeof of_device / sizeof *of_device; i++)
        f->dev->op->free(f->dev, of_device[i]);
    free(f->host);
    free(f->host_bias);
}

static int fit_fill(struct probe_fit *f, struct err *e)
{
    size_t rows = block_rows(f->d);
    float *one = mem_alloc(rows, sizeof *one, e);
    if (!one)
        return -1;
    for (size_t i = 0; i < rows; i++)
        one[i] = 1;
    f->dev->op->upload(f->dev, f->ones, one, rows * sizeof *one);
    f->dev->op->upload(f->dev, f->label, f->d->label, f->d->n * sizeof *f->d->label);
    int rc = f->dev->op->sync(f->dev, e);
    free(one);
    return rc;
}

static int fit_init(struct probe_fit *f, struct dev *dev, const struct probe_data *d, double c,
                    struct err *e)
{
    *f = (struct probe_fit){.dev = dev, .d = d, .penalty = 1 / (c * (double)d->n)};
    size_t cells = d->classes * d->dim, rows = block_rows(d);
    struct {
        float **to;
        size_t n;
    } need[] = {{&f->w, cells},
                {&f->bias, d->classes},
                {&f->grad, cells},
                {&f->bias_grad, d->classes},
                {&f->loss, rows},
                {&f->ones, rows},
                {&f->logits, rows * d->classes}};
    bool all = true;
    for (size_t i = 0; all && i < sizeof need / sizeof *need; i++)
        all = (*need[i].to = dev->op->alloc(dev, need[i].n * sizeof(float), e));
    f->label = all ? dev->op->alloc(dev, d->n * sizeof *f->label, e) : NULL;
    f->host = f->label ? mem_alloc(cells, sizeof *f->host, e) : NULL;
    f->host_bias = f->host ? mem_alloc(d->classes, sizeof *f->host_bias, e) : NULL;
    if (f->host_bias && fit_fill(f, e) == 0)
        return 0;
    fit_release(f);
    return -1;
}

// Weights and biases, which lie side by side in the variables, to the device.
static void send(struct probe_fit *f, const double *w)
{
    size_t classes = f->d->classes, dim = f->d->dim;
    for (size_t c = 0; c < classes; c++) {
        for (size_t j = 0; j < dim; j++)
            f->host[c * dim + j] = (float)w[c * (dim + 1) + j];
        f->host_bias[c] = (float)w[c * (dim + 1) + dim];
    }
    f->dev->op->upload(f->dev, f->w, f->host, classes * dim * sizeof(float));
    f->dev->op->upload(f->dev, f->bias, f->host_bias, classes * sizeof(float));
    f->dev->op->zero(f->dev, f->grad, classes * dim * sizeof(float));
    f->dev->op->zero(f->dev, f->bias_grad, classes * sizeof(float));
}

// Rows [at, at + rows): their gradients are added to the device's, their losses returned.
static double block(struct probe_fit *f, size_t at, size_t rows)
{
    const struct probe_data *d = f->d;
    const struct dev_ops *op = f->dev->op;
    size_t classes = d->classes, dim = d->dim;
    const float *x = d->x + at * dim;
    op->gemm(f->dev, false, false, rows, classes, 1, 1, f->ones, 1, f->bias, classes, 0, f->logits,
             classes);
    op->gemm(f->dev, false, true, rows, classes, dim, 1, x, dim, f->w, dim, 1, f->logits, classes);
    op->softmax_ce(f->dev, rows, classes, f->logits, classes, f->label + at, 1 / (float)d->n,
                   f->logits, f->loss);
    op->gemm(f->dev, true, false, classes, dim, rows, 1, f->logits, classes, x, dim, 1, f->grad,
             dim);
    op->gemm(f->dev, false, false, 1, classes, rows, 1, f->ones, rows, f->logits, classes, 1,
             f->bias_grad, classes);
    return op->sum(f->dev, rows, f->loss);
}

static int objective(void *user, const double *w, double *value, double *g, struct err *e)
{
    struct probe_fit *f = user;
    const struct probe_data *d = f->d;
    size_t classes = d->classes, dim = d->dim, stride = dim + 1;
    double loss = 0, square = 0;
    send(f, w);
    for (size_t at = 0; at < d->n; at += BLOCK_ROWS)
        loss += block(f, at, d->n - at < BLOCK_ROWS ? d->n - at : BLOCK_ROWS);
    if (f->dev->op->download(f->dev, f->host, f->grad, classes * dim * sizeof(float), e) ||
        f->dev->op->download(f->dev, f->host_bias, f->bias_grad, classes * sizeof(float), e))
        return -1;
    for (size_t c = 0; c < classes; c++) {
        for (size_t j = 0; j < dim; j++) {
            double v = w[c * stride + j];
            square += v * v;
            g[c * stride + j] = f->host[c * dim + j] + f->penalty * v;
        }
        g[c * stride + dim] = f->host_bias[c];
    }
    *value = loss / (double)d->n + f->penalty * square / 2;
    return 0;
}

// ---- the same in float64
// Where the penalty is small, rounding of float32 gradients leaves directions in which the minimum
// is flat undecided. The last iterations therefore run in float64, from where the fast ones ended.

struct exact {
    struct probe_fit fit;
    float *rows;   // [BLOCK_ROWS, dim], from the device
    double *x, *p; // the same rows; logits, then softmax - onehot [BLOCK_ROWS, classes]
    double *loss;  // [BLOCK_ROWS]
    size_t first, n_rows;
    const double *w;
    double *g;
};

static size_t tile_of(const struct exact *t, size_t i)
{
    size_t left = t->fit.d->classes - i * CLASS_TILE;
    return left < CLASS_TILE ? left : CLASS_TILE;
}

static void exact_logits(void *ctx, size_t i)
{
    const struct exact *t = ctx;
    size_t dim = t->fit.d->dim, classes = t->fit.d->classes, c = i * CLASS_TILE;
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)t->n_rows, (int)tile_of(t, i),
                (int)dim, 1, t->x, (int)dim, t->w + c * (dim + 1), (int)dim + 1, 0, t->p + c,
                (int)classes);
}

static void exact_gradient(void *ctx, size_t i)
{
    const struct exact *t = ctx;
    size_t dim = t->fit.d->dim, classes = t->fit.d->classes, c = i * CLASS_TILE;
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)tile_of(t, i), (int)dim,
                (int)t->n_rows, 1, t->p + c, (int)classes, t->x, (int)dim, 1, t->g + c * (dim + 1),
                (int)dim + 1);
    for (size_t row = 0; row < t->n_rows; row++)
        for (size_t k = c; k < c + tile_of(t, i); k++)
            t->g[k * (dim + 1) + dim] += t->p[row * classes + k];
}

static void exact_row(const struct exact *t, size_t row)
{
    const struct probe_data *d = t->fit.d;
    size_t classes = d->classes, stride = d->dim + 1, y = (size_t)d->label[t->first + row];
    double *z = t->p + row * classes, top = -INFINITY, sum = 0, scale = 1 / (double)d->n;
    for (size_t c = 0; c < classes; c++) {
        z[c] += t->w[c * stride + d->dim];
        top = fmax(top, z[c]);
    }
    double right = z[y];
    for (size_t c = 0; c < classes; c++)
        sum += z[c] = exp(z[c] - top);
    t->loss[row] = (log(sum) + top - right) * scale;
    for (size_t c = 0; c < classes; c++)
        z[c] *= scale / sum;
    z[y] -= scale;
}

static void exact_rows(void *ctx, size_t i)
{
    const struct exact *t = ctx;
    for (size_t row = i * ROW_TILE; row < (i + 1) * ROW_TILE && row < t->n_rows; row++)
        exact_row(t, row);
}

static int exact_objective(void *user, const double *w, double *value, double *g, struct err *e)
{
    struct exact *t = user;
    const struct probe_data *d = t->fit.d;
    struct dev *dev = t->fit.dev;
    size_t dim = d->dim, stride = dim + 1, tiles = (d->classes + CLASS_TILE - 1) / CLASS_TILE;
    t->w = w;
    t->g = g;
    memset(g, 0, d->classes * stride * sizeof *g);
    *value = 0;
    for (size_t at = 0; at < d->n; at += BLOCK_ROWS) {
        t->first = at;
        t->n_rows = d->n - at < BLOCK_ROWS ? d->n - at : BLOCK_ROWS;
        if (dev->op->download(dev, t->rows, d->x + at * dim, t->n_rows * dim * sizeof(float), e))
            return -1;
        for (size_t i = 0; i < t->n_rows * dim; i++)
            t->x[i] = t->rows[i];
        if (threads_for(dev->threads, tiles, exact_logits, t, e) ||
            threads_for(dev->threads, (t->n_rows + ROW_TILE - 1) / ROW_TILE, exact_rows, t, e) ||
            threads_for(dev->threads, tiles, exact_gradient, t, e))
            return -1;
        for (size_t i = 0; i < t->n_rows; i++)
            *value += t->loss[i];
    }
    for (size_t c = 0; c < d->classes; c++)
        for (size_t j = 0; j < dim; j++) {
            double v = w[c * stride + j];
            *value += t->fit.penalty * v * v / 2;
            g[c * stride + j] += t->fit.penalty * v;
        }
    return 0;
}

static int polish(struct exact *t, size_t n, int iterations, struct probe *p,
                  struct lbfgs_result *r, struct err *e)
{
    const struct lbfgs_options o = {iterations, 1e-9, 1e-14};
    const struct probe_data *d = t->fit.d;
    size_t rows = block_rows(d);
    t->rows = mem_alloc(rows * d->dim, sizeof *t->rows, e);
    t->x = t->rows ? mem_alloc(rows * d->dim, sizeof *t->x, e) : NULL;
    t->p = t->x ? mem_alloc(rows * d->classes, sizeof *t->p, e) : NULL;
    t->loss = t->p ? mem_alloc(rows, sizeof *t->loss, e) : NULL;
    int rc = t->loss ? lbfgs_minimise(n, p->w, exact_objective, t, &o, r, e) : -1;
    free(t->loss);
    free(t->p);
    free(t->x);
    free(t->rows);
    return rc;
}

int probe_fit(struct dev *dev, const struct probe_data *d, double c, int max_iterations, bool exact,
              struct probe *p, struct err *e)
{
    struct exact t = {.n_rows = 0};
    size_t n = d->classes * (d->dim + 1);
    if (!p->w || p->dim != d->dim || p->classes != d->classes) {
        probe_release(p);
        p->w = mem_alloc(n, sizeof *p->w, e);
        p->dim = d->dim;
        p->classes = d->classes;
    }
    if (!p->w || fit_init(&t.fit, dev, d, c, e))
        return -1;
    const struct lbfgs_options o = {max_iterations, 1e-7, 1e-10};
    struct lbfgs_result r;
    int rc = lbfgs_minimise(n, p->w, objective, &t.fit, &o, &r, e);
    p->iterations = r.iterations;
    if (rc == 0 && exact && r.iterations < max_iterations) {
        rc = polish(&t, n, max_iterations - r.iterations, p, &r, e);
        p->iterations += r.iterations;
    }
    fit_release(&t.fit);
    p->converged = r.converged;
    p->value = r.value * c * (double)d->n;
    return rc;
}

void probe_release(struct probe *p)
{
    free(p->w);
    *p = (struct probe){0};
}

int probe_scores(struct dev *dev, const struct probe *p, const float *x, size_t n, float *scores,
                 struct err *e)
{
    size_t cells = p->classes * p->dim;
    float *host = mem_alloc(cells, sizeof *host, e);
    float *w = host ? dev->op->alloc(dev, cells * sizeof(float), e) : NULL;
    float *z = w ? dev->op->alloc(dev, n * p->classes * sizeof(float), e) : NULL;
    int rc = -1;
    if (z) {
        for (size_t c = 0; c < p->classes; c++)
            for (size_t j = 0; j < p->dim; j++)
                host[c * p->dim + j] = (float)p->w[c * (p->dim + 1) + j];
        dev->op->upload(dev, w, host, cells * sizeof(float));
        dev->op->gemm(dev, false, true, n, p->classes, p->dim, 1, x, p->dim, w, p->dim, 0, z,
                      p->classes);
        rc = dev->op->download(dev, scores, z, n * p->classes * sizeof(float), e);
    }
    for (size_t i = 0; rc == 0 && i < n; i++)
        for (size_t c = 0; c < p->classes; c++)
            scores[i * p->classes + c] += (float)p->w[c * (p->dim + 1) + p->dim];
    dev->op->free(dev, z);
    dev->op->free(dev, w);
    free(host);
    return rc;
}

// ---- the sweep

double probe_grid_c(int k)
{
    return pow(10, -6 + k / 8.0);
}

int probe_search(probe_score_fn *score, void *user, int *best, struct err *e)
{
    double share[PROBE_GRID];
    bool known[PROBE_GRID] = {false};
    *best = -1;
    for (int step = GRID_FIRST_STEP; step >= 1; step /= 2) {
        int from = *best < 0 ? 0 : *best - step, to = *best < 0 ? PROBE_GRID - 1 : *best + step;
        for (int k = from; k <= to; k += step) {
            if (k < 0 || k >= PROBE_GRID || known[k])
                continue;
            if (score(user, probe_grid_c(k), &share[k], e))
                return -1;
            known[k] = true;
        }
        for (int k = 0; k < PROBE_GRID; k++)
            if (known[k] && (*best < 0 || share[k] > share[*best]))
                *best = k;
    }
    return 0;
}
