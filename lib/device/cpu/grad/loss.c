// SPDX-License-Identifier: Apache-2.0
// Cross entropies over rows of logits, with their gradients.
#include "device/cpu/simd.h"
#include "device/cpu/grad/grad.h"

enum { ROWS = 4 };

struct loss_job {
    size_t rows, cols, ld, teacher_ld;
    const float *logits, *teacher;
    const int32_t *target;
    float weight, scale, margin, filter;
    float *grad, *loss, *entropy;
};

struct given_job {
    size_t rows, cols;
    const struct dev_given *g;
};

#define LEVELS_OF "device/cpu/grad/loss-levels.h"
#include "device/cpu/levels.h"

static void lse_block(void *ctx, size_t b)
{
    const struct loss_job *j = ctx;
    for (size_t r = b * ROWS; r < size_min(j->rows, (b + 1) * ROWS); r++)
        j->loss[r] = AT_LEVEL(lse_row)(j->logits + r * j->ld, j->cols);
}

void dev_cpu_row_lse(struct dev *d, size_t rows, size_t cols, const float *logits, size_t ld,
                     float *lse)
{
    struct loss_job j = {.rows = rows, .cols = cols, .ld = ld, .logits = logits, .loss = lse};
    dev_par(d, blocks_of(rows, ROWS), lse_block, &j);
}

static void ce_block(void *ctx, size_t b)
{
    const struct loss_job *j = ctx;
    for (size_t r = b * ROWS; r < size_min(j->rows, (b + 1) * ROWS); r++) {
        const float *x = j->logits + r * j->ld;
        float *g = j->grad + r * j->ld;
        int32_t y = j->target[r];
        if (y < 0) {
            memset(g, 0, j->cols * sizeof *g);
            j->loss[r] = 0;
            continue;
        }
        float lse = AT_LEVEL(lse_row)(x, j->cols);
        j->loss[r] = lse - x[y];
        AT_LEVEL(soft_row)(x, j->cols, lse, j->weight, g);
        g[y] -= j->weight;
    }
}

void dev_cpu_softmax_ce(struct dev *d, size_t rows, size_t cols, const float *logits, size_t ld,
                        const int32_t *target, float weight, float *grad, float *loss)
{
    struct loss_job j = {.rows = rows, .cols = cols, .ld = ld, .logits = logits, .target = target};
    j.weight = weight;
    j.grad = grad;
    j.loss = loss;
    dev_par(d, blocks_of(rows, ROWS), ce_block, &j);
}

static void soft_ce_block(void *ctx, size_t b)
{
    const struct loss_job *j = ctx;
    for (size_t r = b * ROWS; r < size_min(j->rows, (b + 1) * ROWS); r++)
        AT_LEVEL(soft_ce_row)(j, r);
}

void dev_cpu_softmax_soft_ce(struct dev *d, size_t rows, size_t cols, const float *logits,
                             size_t ld, const float *teacher, size_t teacher_ld, float weight,
                             float *grad, float *loss, float *entropy)
{
    struct loss_job j = {.rows = rows, .cols = cols, .ld = ld, .logits = logits};
    j.teacher = teacher;
    j.teacher_ld = teacher_ld;
    j.weight = weight;
    j.grad = grad;
    j.loss = loss;
    j.entropy = entropy;
    dev_par(d, blocks_of(rows, ROWS), soft_ce_block, &j);
}

static void given_block(void *ctx, size_t b)
{
    const struct given_job *j = ctx;
    for (size_t r = b * ROWS; r < size_min(j->rows, (b + 1) * ROWS); r++)
        if (j->g->teacher)
            AT_LEVEL(given_soft_row)(j->g, r, j->cols);
        else
            AT_LEVEL(given_row)(j->g, r, j->cols);
}

void dev_cpu_given_ce(struct dev *d, size_t rows, size_t cols, const struct dev_given *g)
{
    struct given_job j = {rows, cols, g};
    dev_par(d, blocks_of(rows, ROWS), given_block, &j);
}

static void sigmoid_block(void *ctx, size_t b)
{
    const struct loss_job *j = ctx;
    for (size_t r = b * ROWS; r < size_min(j->rows, (b + 1) * ROWS); r++) {
        const float *x = j->logits + r * j->ld;
        float *g = j->grad + r * j->ld;
        double sum = 0;
        for (size_t c = 0; c < j->cols; c++) {
            double z = c == r ? 1 : -1, a = z * x[c];
            // -log sigmoid(a), and its slope -sigmoid(-a), without overflow
            double ex = exp(-fabs(a));
            sum += (a < 0 ? -a : 0) + log1p(ex);
            g[c] = (float)(-(double)j->weight * z * (a < 0 ? 1 : ex) / (1 + ex));
        }
        j->loss[r] = (float)sum;
    }
}

void dev_cpu_sigmoid_ce(struct dev *d, size_t rows, size_t cols, const float *logits, size_t ld,
                        float weight, float *grad, float *loss)
{
    struct loss_job j = {.rows = rows, .cols = cols, .ld = ld, .logits = logits};
    j.weight = weight;
    j.grad = grad;
    j.loss = loss;
    dev_par(d, blocks_of(rows, ROWS), sigmoid_block, &j);
}

static void margin_block(void *ctx, size_t b)
{
    const struct loss_job *j = ctx;
    for (size_t r = b * ROWS; r < size_min(j->rows, (b + 1) * ROWS); r++) {
        const float *x = j->logits + r * j->ld;
        float *y = j->grad + r * j->ld;
        int32_t t = j->target[r];
        for (size_t c = 0; c < j->cols; c++) {
            if ((int64_t)c == t)
                y[c] = j->scale * (x[c] - j->margin);
            else
                y[c] = x[c] > j->filter ? -INFINITY : j->scale * x[c];
        }
    }
}

void dev_cpu_margin_filter(struct dev *d, size_t rows, size_t cols, const float *cosine, size_t ld,
                           const int32_t *target, float scale, float margin, float filter,
                           float *logits)
{
    struct loss_job j = {.rows = rows, .cols = cols, .ld = ld, .logits = cosine, .target = target};
    j.scale = scale;
    j.margin = margin;
    j.filter = filter;
    j.grad = logits;
    dev_par(d, blocks_of(rows, ROWS), margin_block, &j);
}

struct label_job {
    size_t rows, cols;
    const struct dev_margin *m;
};

static void least_of_row(const struct dev_margin *m, size_t cols, size_t r)
{
    const float *x = m->sims + r * m->ld;
    float least = INFINITY;
    double sum = 0, above = 0;
    m->at[r] = -1;
    for (size_t c = 0; c < cols; c++) {
        if (x[c] != x[c])
            sum = (double)NAN;
        if (m->label[c] == m->row_label[r] && x[c] < least) {
            least = x[c];
            m->at[r] = (int32_t)c;
        }
    }
    for (size_t c = 0; c < cols; c++)
        if (m->label[c] != m->row_label[r] && x[c] > least) {
            sum += (double)(x[c] - least);
            above++;
        }
    m->least[r] = least;
    m->loss[r] = (float)(sum * (double)m->row_share[r]);
    m->back[r] = (float)(above * (double)m->row_share[r]);
}

static void least_block(void *ctx, size_t b)
{
    const struct label_job *j = ctx;
    for (size_t r = b * ROWS; r < size_min(j->rows, (b + 1) * ROWS); r++)
        least_of_row(j->m, j->cols, r);
}

void dev_cpu_label_least(struct dev *d, size_t rows, size_t cols, const struct dev_margin *m)
{
    struct label_job j = {rows, cols, m};
    dev_par(d, blocks_of(rows, ROWS), least_block, &j);
}

static void label_block(void *ctx, size_t b)
{
    const struct label_job *j = ctx;
    const struct dev_margin *m = j->m;
    for (size_t r = b * ROWS; r < size_min(j->rows, (b + 1) * ROWS); r++) {
        const float *x = m->sims + r * m->ld;
        float *g = m->grad + r * m->ld;
        for (size_t c = 0; c < j->cols; c++) {
            bool other = m->label[c] != m->row_label[r];
            float v = x[c], sum = 0;
            sum += other && v > m->least[r] ? m->row_share[r] : 0;
            sum += other && v > m->other_least[c] ? m->share[c] : 0;
            sum -= m->at[r] == (int32_t)c ? m->back[r] : 0;
            sum -= m->other_at[c] == (int32_t)(m->row0 + r) ? m->other_back[c] : 0;
            g[c] = m->weight * sum;
        }
    }
}

void dev_cpu_label_margin(struct dev *d, size_t rows, size_t cols, const struct dev_margin *m)
{
    struct label_job j = {rows, cols, m};
    dev_par(d, blocks_of(rows, ROWS), label_block, &j);
}

struct pick_job {
    size_t rows, n, dim;
    float scale;
    const float *x, *y;
    const int32_t *index;
    float *out;
};

static void pick_block(void *ctx, size_t b)
{
    const struct pick_job *j = ctx;
    for (size_t i = b * ROWS * j->n; i < size_min(j->rows, (b + 1) * ROWS) * j->n; i++) {
        const float *x = j->x + i / j->n * j->dim;
        double sum = 0;
        if (j->index[i] >= 0)
            for (size_t k = 0; k < j->dim; k++)
                sum += (double)x[k] * (double)j->y[(size_t)j->index[i] * j->dim + k];
        j->out[i] = (float)((double)j->scale * sum);
    }
}

void dev_cpu_pick_dots(struct dev *d, size_t rows, size_t n, size_t dim, float scale,
                       const float *x, const float *y, const int32_t *index, float *out)
{
    struct pick_job j = {rows, n, dim, scale, x, y, index, out};
    dev_par(d, blocks_of(rows, ROWS), pick_block, &j);
}
