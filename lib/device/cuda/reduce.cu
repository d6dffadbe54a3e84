// SPDX-License-Identifier: Apache-2.0
// Sums over columns, and over whole buffers in float64.
#include "device/cuda/kernel.h"

template <class T> struct col_sum_op {
    const T *x;
    size_t x_ld;
    __device__ void operator()(size_t r, size_t c, float v[1]) const
    {
        v[0] = to_f32(x[r * x_ld + c]);
    }
};

void cuda_col_sums(struct dev *d, size_t rows, size_t cols, const void *x, bool x_f32, size_t x_ld,
                   float *sums)
{
    col_targets<1> to = {{sums}};
    if (x_f32 || d->act == DEV_F32)
        cuda_cols(d, "column sums", rows, cols, col_sum_op<float>{(const float *)x, x_ld}, to);
    else
        cuda_cols(d, "column sums", rows, cols, col_sum_op<bf16>{(const bf16 *)x, x_ld}, to);
}

template <class T> struct gamma_op {
    size_t cols;
    const float *dres;
    const T *branch;
    __device__ void operator()(size_t r, size_t c, float v[1]) const
    {
        v[0] = dres[r * cols + c] * to_f32(branch[r * cols + c]);
    }
};

void cuda_gamma_bwd(struct dev *d, size_t rows, size_t cols, const float *dres, const void *branch,
                    float *dgamma)
{
    col_targets<1> to = {{dgamma}};
    if (d->act == DEV_F32)
        cuda_cols(d, "layer scale backward", rows, cols,
                  gamma_op<float>{cols, dres, (const float *)branch}, to);
    else
        cuda_cols(d, "layer scale backward", rows, cols,
                  gamma_op<bf16>{cols, dres, (const bf16 *)branch}, to);
}

static constexpr size_t DOT_RUN = CUDA_DOT_RUN;

// Block b sums its run; y may be NULL.
__global__ void __launch_bounds__(CUDA_BLOCK)
    dot_kernel(size_t n, const float *x, const float *y, double *part)
{
    double *room = shared_memory<double>(), s = 0;
    size_t first = (size_t)blockIdx.x * DOT_RUN, end = first + DOT_RUN < n ? first + DOT_RUN : n;
    for (size_t i = first + threadIdx.x; i + cuda_planted<PLANT_reduce> < end; i += CUDA_BLOCK)
        s += (double)x[i] * (y ? (double)y[i] : 1.0);
    s = block_sum(s, room);
    if (threadIdx.x == 0)
        part[blockIdx.x] = s;
}

__global__ void __launch_bounds__(CUDA_BLOCK)
    join_kernel(size_t n, const double *part, bool add, double *to)
{
    double *room = shared_memory<double>(), s = 0;
    for (size_t i = threadIdx.x; i < n; i += CUDA_BLOCK)
        s += part[i];
    s = block_sum(s, room);
    if (threadIdx.x == 0)
        *to = add ? *to + s : s;
}

static constexpr size_t DOT_SHARED = CUDA_BLOCK / CUDA_WARP * sizeof(double);

void cuda_dot_runs(struct dev *d, size_t n, const float *x, const float *y, double *part)
{
    if (n)
        cuda_launch(d, "dot", dot_kernel, cuda_blocks(n, DOT_RUN), CUDA_BLOCK, DOT_SHARED, n, x, y,
                    part);
}

static void join(struct dev *d, size_t n, const double *part, bool add, double *to)
{
    cuda_launch(d, "dot", join_kernel, 1, CUDA_BLOCK, DOT_SHARED, n, part, add, to);
}

void cuda_dot_join(struct dev *d, size_t n, const double *part, double *to)
{
    join(d, n, part, false, to);
}

// Into *to, or behind the partial sums: where it stands, NULL for a failure.
static double *dot_into(struct dev *d, size_t n, const float *x, const float *y, bool add,
                        double *to)
{
    size_t runs = cuda_blocks(n, DOT_RUN);
    double *part = (double *)cuda_slot(d, SLOT_REDUCE, (runs + 1) * sizeof *part);
    if (!part)
        return NULL;
    to = to ? to : part + runs;
    cuda_launch(d, "dot", dot_kernel, runs, CUDA_BLOCK, DOT_SHARED, n, x, y, part);
    join(d, runs, part, add, to);
    return to;
}

void cuda_dot_to(struct dev *d, size_t n, const float *x, const float *y, double *to)
{
    dot_into(d, n, x, y, false, to);
}

void cuda_dot_add(struct dev *d, size_t n, const float *x, const float *y, double *to)
{
    dot_into(d, n, x, y, true, to);
}

double cuda_dot(struct dev *d, size_t n, const float *x, const float *y)
{
    struct err e;
    double s = 0, *at = n ? dot_into(d, n, x, y, false, NULL) : NULL;
    return !at || cuda_download(d, &s, at, sizeof s, &e) ? 0 : s;
}

double cuda_sum(struct dev *d, size_t n, const float *x)
{
    return cuda_dot(d, n, x, NULL);
}

struct weights {
    double w[DEV_WEIGH_MAX];
};
__global__ void __launch_bounds__(CUDA_WARP)
    weigh_kernel(size_t n, const double *x, weights w, float *to)
{
    double s = 0;
    if (threadIdx.x)
        return;
    for (size_t i = 0; i < n; i++)
        s += w.w[i] != 0 ? w.w[i] * x[i] : 0;
    *to = (float)s;
}

void cuda_weigh(struct dev *d, size_t n, const double *x, const double *w, float *to)
{
    weights all = {};
    if (n > DEV_WEIGH_MAX) {
        cuda_fail(d, "%zu weights are too many", n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        all.w[i] = w[i];
    cuda_launch(d, "weights of sums", weigh_kernel, 1, CUDA_WARP, 0, n, x, all, to);
}
