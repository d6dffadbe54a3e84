// SPDX-License-Identifier: Apache-2.0
// Cross entropies over rows of logits, with their gradients: a block a row, no probabilities kept.
// The log-sum-exp is made in one pass: a thread holds the largest value so far and the sum of
// exponentials below it (Milakov and Gimelshein, Online normalizer calculation for softmax, 2018).
#include "device/cuda/kernel.h"

static constexpr int WARPS = CUDA_BLOCK / CUDA_WARP;
static const size_t ROOM = 2 * WARPS * sizeof(double);

// exp(x - top), where -inf against -inf is nothing and not NaN.
__device__ __forceinline__ float below(float x, float top)
{
    return x == top ? 1.0f : expf(x - top);
}

// Log-sum-exp of a row, the same in all threads; NaN when one is in it, -inf or inf as they come.
__device__ float row_lse(const float *x, size_t n, double *room)
{
    float top = -INFINITY, sum = 0;
    for (size_t i = threadIdx.x; i < n; i += CUDA_BLOCK) {
        float v = x[i];
        if (v > top) {
            sum = sum * below(top, v) + 1;
            top = v;
        } else {
            sum += v == -INFINITY ? 0 : below(v, top);
        }
    }
    float *tops = (float *)(room + WARPS);
    float all = warp_max(top);
    if (threadIdx.x % CUDA_WARP == 0)
        tops[threadIdx.x / CUDA_WARP] = all;
    __syncthreads();
    for (int i = 0; i < WARPS; i++)
        all = fmaxf(all, tops[i]);
    double s = block_sum((double)sum * (top == -INFINITY && sum == 0 ? 0 : below(top, all)), room);
    if (s != s || isinf(all))
        return s != s ? NAN : all;
    return (float)((double)all + log(s) + (cuda_planted<PLANT_loss> ? 0.01 : 0.0));
}

__global__ void __launch_bounds__(CUDA_BLOCK)
    lse_kernel(size_t cols, const float *logits, size_t ld, float *lse)
{
    float l = row_lse(logits + blockIdx.x * ld, cols, shared_memory<double>());
    if (threadIdx.x == 0)
        lse[blockIdx.x] = l;
}

void cuda_row_lse(struct dev *d, size_t rows, size_t cols, const float *logits, size_t ld,
                  float *lse)
{
    cuda_launch(d, "log-sum-exp", lse_kernel, rows, CUDA_BLOCK, ROOM, cols, logits, ld, lse);
}

__global__ void __launch_bounds__(CUDA_BLOCK)
    ce_kernel(size_t cols, const float *logits, size_t ld, const int32_t *target, float weight,
              float *grad, float *loss)
{
    const float *x = logits + blockIdx.x * ld;
    float *g = grad + blockIdx.x * ld;
    int32_t y = target[blockIdx.x];
    if (y < 0) {
        for (size_t c = threadIdx.x; c < cols; c += CUDA_BLOCK)
            g[c] = 0;
        if (threadIdx.x == 0)
            loss[blockIdx.x] = 0;
        return;
    }
    float l = row_lse(x, cols, shared_memory<double>());
    if (threadIdx.x == 0)
        loss[blockIdx.x] = l - x[y];
    __syncthreads(); // the gradient may be the logits
    for (size_t c = threadIdx.x; c < cols; c += CUDA_BLOCK) {
        float p = weight * expf(x[c] - l);
        g[c] = (size_t)y == c ? p - weight : p;
    }
}

void cuda_softmax_ce(struct dev *d, size_t rows, size_t cols, const float *logits, size_t ld,
                     const int32_t *target, float weight, float *grad, float *loss)
{
    cuda_launch(d, "cross entropy", ce_kernel, rows, CUDA_BLOCK, ROOM, cols, logits, ld, target,
                weight, grad, loss);
}

// With a = x - lse(x), b = t - lse(t), P = exp b: loss - sum P a, entropy - sum P b; where P is 0
// so is the product, whatever a is.
__global__ void __launch_bounds__(CUDA_BLOCK)
    soft_ce_kernel(size_t cols, const float *logits, size_t ld, const float *teacher,
                   size_t teacher_ld, float weight, float *grad, float *loss, float *entropy)
{
    double *room = shared_memory<double>();
    const float *x = logits + blockIdx.x * ld, *t = teacher + blockIdx.x * teacher_ld;
    float *g = grad + blockIdx.x * ld;
    float lx = row_lse(x, cols, room), lt = row_lse(t, cols, room);
    double s = 0, h = 0;
    for (size_t c = threadIdx.x; c < cols; c += CUDA_BLOCK) {
        float a = x[c] - lx, b = t[c] - lt, p = expf(b);
        g[c] = weight * (expf(a) - p);
        if (p > 0) {
            s -= (double)(p * a);
            h -= (double)(p * b);
        }
    }
    s = block_sum(s, room);
    h = block_sum(h, room);
    if (threadIdx.x)
        return;
    bool bad = lx != lx || lt != lt; // must not hide behind the selection
    loss[blockIdx.x] = bad ? NAN : (float)s;
    if (entropy)
        entropy[blockIdx.x] = bad ? NAN : (float)h;
}

void cuda_softmax_soft_ce(struct dev *d, size_t rows, size_t cols, const float *logits, size_t ld,
                          const float *teacher, size_t teacher_ld, float weight, float *grad,
                          float *loss, float *entropy)
{
    cuda_launch(d, "soft cross entropy", soft_ce_kernel, rows, CUDA_BLOCK, ROOM, cols, logits, ld,
                teacher, teacher_ld, weight, grad, loss, entropy);
}

__device__ __forceinline__ double log_times(float p, float a)
{
    return p > 0 ? (double)(p * a) : 0.0; // whatever a is
}

// One block a row; the gradient may be the logits.
__global__ void __launch_bounds__(CUDA_BLOCK) given_kernel(size_t cols, dev_given j)
{
    double *room = shared_memory<double>();
    size_t r = blockIdx.x;
    const float *x = j.logits + r * j.ld, *t = j.teacher ? j.teacher + r * j.teacher_ld : NULL;
    float *g = j.grad + r * j.ld, l = j.lse[r], lt = t ? j.teacher_lse[r] : 0;
    int32_t y = t ? -1 : j.target[r];
    float k = j.other ? 2 : 1, at = y < 0 ? 0 : x[y];
    double loss = 0, entropy = 0, slope = 0;
    __syncthreads();
    for (size_t c = threadIdx.x; c < cols; c += CUDA_BLOCK) {
        float v = x[c], a = v - l, d = expf(a);
        if (t) {
            float b = t[c] - lt, p = expf(b);
            d -= p;
            loss -= log_times(p, a);
            entropy -= log_times(p, b);
        }
        if (j.other) {
            float a2 = v - j.other[c], q = t ? expf(t[c] - j.teacher_other[c]) : 0;
            d += expf(a2) - q;
            loss -= log_times(q, a2);
        }
        d = j.weight * d;
        if (y >= 0 && (size_t)y == c)
            d -= k * j.weight;
        g[c] = d;
        slope += (double)(d * v);
    }
    loss = block_sum(loss, room);
    entropy = block_sum(entropy, room);
    slope = block_sum(slope, room);
    if (threadIdx.x)
        return;
    bool bad = t && (l != l || lt != lt); // must not hide behind the selection
    float hard = y < 0 ? 0 : l - at + (j.other ? j.other[y] - at : 0);
    if (j.loss)
        j.loss[r] = bad ? NAN : t ? (float)loss : hard;
    if (j.entropy)
        j.entropy[r] = bad ? NAN : (float)entropy;
    if (j.slope)
        j.slope[r] = (float)slope;
}

void cuda_given_ce(struct dev *d, size_t rows, size_t cols, const struct dev_given *g)
{
    cuda_launch(d, "cross entropy of known sums", given_kernel, rows, CUDA_BLOCK, ROOM, cols, *g);
}

__global__ void __launch_bounds__(CUDA_BLOCK)
    sigmoid_kernel(size_t cols, const float *logits, size_t ld, float weight, float *grad,
                   float *loss)
{
    const float *x = logits + blockIdx.x * ld;
    float *g = grad + blockIdx.x * ld;
    double sum = 0;
    for (size_t c = threadIdx.x; c < cols; c += CUDA_BLOCK) {
        double z = c == blockIdx.x ? 1 : -1, a = z * (double)x[c];
        // -log sigmoid(a), and its slope -sigmoid(-a), without overflow
        double ex = exp(-fabs(a));
        sum += (a < 0 ? -a : 0) + log1p(ex);
        g[c] = (float)(-(double)weight * z * (a < 0 ? 1 : ex) / (1 + ex));
    }
    sum = block_sum(sum, shared_memory<double>());
    if (threadIdx.x == 0)
        loss[blockIdx.x] = (float)sum;
}

void cuda_sigmoid_ce(struct dev *d, size_t rows, size_t cols, const float *logits, size_t ld,
                     float weight, float *grad, float *loss)
{
    cuda_launch(d, "sigmoid loss", sigmoid_kernel, rows, CUDA_BLOCK, ROOM, cols, logits, ld, weight,
                grad, loss);
}

struct margin_op {
    size_t cols, ld;
    const float *cosine;
    const int32_t *target;
    float scale, margin, filter;
    float *logits;
    __device__ void operator()(size_t i) const
    {
        size_t r = quotient(i, cols), c = i - r * cols;
        float x = cosine[r * ld + c], y = scale * x;
        if ((int64_t)c == target[r])
            y = scale * (x - margin);
        else if (x > filter)
            y = -INFINITY;
        logits[r * ld + c] = y;
    }
};

void cuda_margin_filter(struct dev *d, size_t rows, size_t cols, const float *cosine, size_t ld,
                        const int32_t *target, float scale, float margin, float filter,
                        float *logits)
{
    cuda_each(d, "margins", rows * cols,
              margin_op{cols, ld, cosine, target, scale, margin, filter, logits});
}

// The greatest value of a block, the same in all threads; NaN is passed over.
__device__ float block_greatest(float v, double *room)
{
    float *tops = (float *)(room + WARPS);
    v = warp_max(v);
    if (threadIdx.x % CUDA_WARP == 0)
        tops[threadIdx.x / CUDA_WARP] = v;
    __syncthreads();
    for (int i = 0; i < WARPS; i++)
        v = fmaxf(v, tops[i]);
    __syncthreads();
    return v;
}

// Columns are counted in floats, exact up to 2^24.
__global__ void __launch_bounds__(CUDA_BLOCK) least_kernel(size_t cols, dev_margin m)
{
    double *room = shared_memory<double>();
    size_t r = blockIdx.x;
    const float *x = m.sims + r * m.ld;
    int32_t own = m.row_label[r];
    float least = INFINITY, at = -INFINITY;
    double sum = 0, above = 0;
    for (size_t c = threadIdx.x; c < cols; c += CUDA_BLOCK) {
        if (x[c] != x[c])
            sum = NAN;
        if (m.label[c] == own && x[c] < least)
            least = x[c];
    }
    least = -block_greatest(-least, room);
    for (size_t c = threadIdx.x; c < cols; c += CUDA_BLOCK) {
        if (m.label[c] == own && x[c] == least && least < INFINITY)
            at = fmaxf(at, -(float)c);
        if (m.label[c] != own && x[c] > least) {
            sum += (double)(x[c] - least);
            above++;
        }
    }
    at = block_greatest(at, room);
    sum = block_sum(sum, room);
    above = block_sum(above, room);
    if (threadIdx.x)
        return;
    m.least[r] = least;
    m.at[r] = at == -INFINITY ? -1 : (int32_t)-at;
    m.loss[r] = (float)(sum * (double)m.row_share[r]);
    m.back[r] = (float)(above * (double)m.row_share[r]);
}

void cuda_label_least(struct dev *d, size_t rows, size_t cols, const struct dev_margin *m)
{
    cuda_launch(d, "least of a label", least_kernel, rows, CUDA_BLOCK, ROOM, cols, *m);
}

struct label_op {
    size_t cols;
    dev_margin m;
    __device__ void operator()(size_t i) const
    {
        size_t r = quotient(i, cols), c = i - r * cols;
        bool other = m.label[c] != m.row_label[r];
        float v = m.sims[r * m.ld + c], sum = 0;
        sum += other && v > m.least[r] ? m.row_share[r] : 0;
        sum += other && v > m.other_least[c] ? m.share[c] : 0;
        sum -= m.at[r] == (int32_t)c ? m.back[r] : 0;
        sum -= m.other_at[c] == (int32_t)(m.row0 + r) ? m.other_back[c] : 0;
        m.grad[r * m.ld + c] = m.weight * sum;
    }
};

void cuda_label_margin(struct dev *d, size_t rows, size_t cols, const struct dev_margin *m)
{
    cuda_each(d, "margins of labels", rows * cols, label_op{cols, *m});
}

struct pick_op {
    size_t n, dim;
    float scale;
    const float *x, *y;
    const int32_t *index;
    float *out;
    __device__ void operator()(size_t i) const
    {
        const float *a = x + quotient(i, n) * dim, *b = y + (size_t)index[i] * dim;
        double sum = 0;
        for (size_t k = 0; index[i] >= 0 && k < dim; k++)
            sum += (double)a[k] * (double)b[k];
        out[i] = (float)((double)scale * sum);
    }
};

void cuda_pick_dots(struct dev *d, size_t rows, size_t n, size_t dim, float scale, const float *x,
                    const float *y, const int32_t *index, float *out)
{
    cuda_each(d, "picked products", rows * n, pick_op{n, dim, scale, x, y, index, out});
}
