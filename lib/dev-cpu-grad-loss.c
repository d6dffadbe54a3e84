// SPDX-License-Identifier: Apache-2.0
// Cross entropies over rows of logits, with their gradients.
#include "dev-cpu-grad-simd.h"
#include "dev-cpu-grad.h"

enum { ROWS = 4 };

struct loss_job {
    size_t rows, cols, ld, teacher_ld;
    const float *logits, *teacher;
    const int32_t *target;
    float weight, scale, margin, filter;
    float *grad, *loss, *entropy;
};

// log sum exp of a row: its largest value and the sum of exponentials below it. A row of -inf gives
// -inf.
SIMD static float lse_row(const float *x, size_t n)
{
    float top = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        if (x[i] != x[i])
            return x[i]; // NaN
        top = x[i] > top ? x[i] : top;
    }
    if (isinf(top))
        return top;
    vf t = vf_all(top), s = {0};
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        s += vf_exp(vf_load(x + i) - t);
    double sum = (double)vf_sum(s);
    for (; i < n; i++)
        sum += exp((double)x[i] - top);
    return (float)(top + log(sum));
}

// y = weight exp(x - lse)
SIMD static void soft_row(const float *x, size_t n, float lse, float weight, float *y)
{
    vf l = vf_all(lse), w = vf_all(weight);
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        vf_store(y + i, w * vf_exp(vf_load(x + i) - l));
    if (i < n)
        vf_store_n(y + i, w * vf_exp(vf_load_n(x + i, n - i) - l), n - i);
}

static void lse_block(void *ctx, size_t b)
{
    const struct loss_job *j = ctx;
    for (size_t r = b * ROWS; r < size_min(j->rows, (b + 1) * ROWS); r++)
        j->loss[r] = lse_row(j->logits + r * j->ld, j->cols);
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
        float lse = lse_row(x, j->cols);
        j->loss[r] = lse - x[y];
        soft_row(x, j->cols, lse, j->weight, g);
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

// With a = x - lse(x), b = t - lse(t): loss - sum P a, entropy - sum P b; P = exp b, where it is 0
// the product is 0 whatever a is.
SIMD static void soft_ce_row(const struct loss_job *j, size_t r)
{
    const float *x = j->logits + r * j->ld, *t = j->teacher + r * j->teacher_ld;
    float *g = j->grad + r * j->ld, lx = lse_row(x, j->cols), lt = lse_row(t, j->cols);
    double loss = 0, entropy = 0;
    vf w = vf_all(j->weight), ll = vf_all(lx), lu = vf_all(lt), zero = {0};
    for (size_t i = 0; i < j->cols; i += VF) {
        size_t k = size_min(VF, j->cols - i);
        vf a = (k == VF ? vf_load(x + i) : vf_load_n(x + i, k)) - ll;
        vf c = (k == VF ? vf_load(t + i) : vf_load_n(t + i, k)) - lu;
        vf p = vf_exp(c), y = w * (vf_exp(a) - p);
        if (k == VF) {
            vf_store(g + i, y);
        } else {
            vf_store_n(g + i, y, k);
            float live[VF];
            vf_store(live, p);
            memset(live + k, 0, (VF - k) * sizeof *live);
            p = vf_load(live);
        }
        vi some = p > zero;
        loss -= (double)vf_sum(vf_select(some, p * a, zero));
        entropy -= (double)vf_sum(vf_select(some, p * c, zero));
    }
    // A NaN must not hide behind the selection.
    if (lx != lx || lt != lt)
        loss = entropy = (double)NAN;
    j->loss[r] = (float)loss;
    if (j->entropy)
        j->entropy[r] = (float)entropy;
}

static void soft_ce_block(void *ctx, size_t b)
{
    const struct loss_job *j = ctx;
    for (size_t r = b * ROWS; r < size_min(j->rows, (b + 1) * ROWS); r++)
        soft_ce_row(j, r);
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
