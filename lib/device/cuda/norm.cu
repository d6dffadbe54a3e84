// SPDX-License-Identifier: Apache-2.0
// Layer norm and unit rows, forward and backward: a warp a row. A row is read from memory once and
// from the cache after that.
#include "device/cuda/kernel.h"

static constexpr int ROW_WARPS = 4, ROW_BLOCK = ROW_WARPS * CUDA_WARP;

__device__ __forceinline__ size_t row_of_warp()
{
    return (size_t)blockIdx.x * ROW_WARPS + threadIdx.x / CUDA_WARP;
}

// Two passes, the mean first: the sum of squared differences does not cancel. y may be x.
template <class Y>
__global__ void __launch_bounds__(ROW_BLOCK)
    norm_kernel(size_t rows, size_t cols, const float *x, size_t x_ld, const float *gain,
                const float *bias, float eps, Y *y, float *mean, float *rstd)
{
    size_t r = row_of_warp();
    int lane = threadIdx.x % CUDA_WARP;
    if (r >= rows)
        return;
    x += r * x_ld;
    float s = 0, q = 0;
    for (size_t c = lane; c < cols; c += CUDA_WARP)
        s += x[c];
    float m = warp_sum(s) / (float)cols;
    for (size_t c = lane; c < cols; c += CUDA_WARP)
        q += (x[c] - m) * (x[c] - m);
    float k = 1.0f / sqrtf(warp_sum(q) / (float)(cols - cuda_planted<PLANT_norm>)+eps);
    for (size_t c = lane; c < cols; c += CUDA_WARP)
        y[r * cols + c] = from_f32<Y>((x[c] - m) * k * gain[c] + bias[c]);
    if (lane == 0 && mean)
        mean[r] = m;
    if (lane == 0 && rstd)
        rstd[r] = k;
}

void cuda_layer_norm(struct dev *d, size_t rows, size_t cols, const float *x, size_t x_ld,
                     const float *gain, const float *bias, float eps, void *y, bool y_f32,
                     float *mean, float *rstd)
{
    size_t blocks = cuda_blocks(rows, ROW_WARPS);
    if (y_f32 || d->act == DEV_F32)
        cuda_launch(d, "layer norm", norm_kernel<float>, blocks, ROW_BLOCK, 0, rows, cols, x, x_ld,
                    gain, bias, eps, (float *)y, mean, rstd);
    else
        cuda_launch(d, "layer norm", norm_kernel<bf16>, blocks, ROW_BLOCK, 0, rows, cols, x, x_ld,
                    gain, bias, eps, (bf16 *)y, mean, rstd);
}

// With h = (x - mean) rstd and g = dy gain: dx += rstd (g - mean(g) - h mean(g h)).
template <class Y>
__global__ void __launch_bounds__(ROW_BLOCK)
    norm_dx_kernel(size_t rows, size_t cols, const float *x, size_t x_ld, const float *gain,
                   const float *mean, const float *rstd, const Y *dy, float *dx, size_t dx_ld)
{
    size_t r = row_of_warp();
    int lane = threadIdx.x % CUDA_WARP;
    if (r >= rows)
        return;
    x += r * x_ld;
    dx += r * dx_ld;
    dy += r * cols;
    float m = mean[r], k = rstd[r], sg = 0, sgh = 0;
    for (size_t c = lane; c < cols; c += CUDA_WARP) {
        float g = to_f32(dy[c]) * gain[c];
        sg += g;
        sgh += g * (x[c] - m) * k;
    }
    sg = warp_sum(sg) / (float)cols;
    sgh = warp_sum(sgh) / (float)cols;
    for (size_t c = lane; c < cols; c += CUDA_WARP) {
        float g = to_f32(dy[c]) * gain[c], h = (x[c] - m) * k;
        dx[c] += k * (g - sg - h * sgh);
    }
}

template <class Y> struct norm_params_op {
    const float *x, *mean, *rstd;
    const Y *dy;
    size_t cols, x_ld;
    __device__ void operator()(size_t r, size_t c, float v[2]) const
    {
        float g = to_f32(dy[r * cols + c]);
        v[0] = g * (x[r * x_ld + c] - mean[r]) * rstd[r];
        v[1] = g;
    }
};

template <class Y>
static void norm_bwd(struct dev *d, size_t rows, size_t cols, const float *x, size_t x_ld,
                     const float *gain, const float *mean, const float *rstd, const void *dy,
                     float *dx, size_t dx_ld, float *dgain, float *dbias)
{
    // The sums first: dx may be what x was made from.
    cuda_cols(d, "layer norm backward", rows, cols,
              norm_params_op<Y>{x, mean, rstd, (const Y *)dy, cols, x_ld},
              col_targets<2>{{dgain, dbias}});
    cuda_launch(d, "layer norm backward", norm_dx_kernel<Y>, cuda_blocks(rows, ROW_WARPS),
                ROW_BLOCK, 0, rows, cols, x, x_ld, gain, mean, rstd, (const Y *)dy, dx, dx_ld);
}

void cuda_layer_norm_bwd(struct dev *d, size_t rows, size_t cols, const float *x, size_t x_ld,
                         const float *gain, const float *mean, const float *rstd, const void *dy,
                         bool dy_f32, float *dx, size_t dx_ld, float *dgain, float *dbias)
{
    if (dy_f32 || d->act == DEV_F32)
        norm_bwd<float>(d, rows, cols, x, x_ld, gain, mean, rstd, dy, dx, dx_ld, dgain, dbias);
    else
        norm_bwd<bf16>(d, rows, cols, x, x_ld, gain, mean, rstd, dy, dx, dx_ld, dgain, dbias);
}

__global__ void __launch_bounds__(ROW_BLOCK)
    unit_kernel(size_t rows, size_t cols, const float *x, float *y, float *norm)
{
    size_t r = row_of_warp();
    int lane = threadIdx.x % CUDA_WARP;
    if (r >= rows)
        return;
    double q = 0;
    for (size_t c = lane; c < cols; c += CUDA_WARP)
        q += (double)x[r * cols + c] * (double)x[r * cols + c];
    double n = sqrt(warp_sum(q)), k = n > 0 ? 1 / n : 0;
    for (size_t c = lane; c < cols; c += CUDA_WARP)
        y[r * cols + c] = (float)((double)x[r * cols + c] * k);
    if (lane == 0 && norm)
        norm[r] = (float)n;
}

void cuda_unit(struct dev *d, size_t rows, size_t cols, const float *x, float *y, float *norm)
{
    cuda_launch(d, "unit rows", unit_kernel, cuda_blocks(rows, ROW_WARPS), ROW_BLOCK, 0, rows, cols,
                x, y, norm);
}

__global__ void __launch_bounds__(ROW_BLOCK)
    unit_bwd_kernel(size_t rows, size_t cols, const float *y, const float *norm, const float *dy,
                    float *dx)
{
    size_t r = row_of_warp();
    int lane = threadIdx.x % CUDA_WARP;
    if (r >= rows)
        return;
    double dot = 0;
    for (size_t c = lane; c < cols; c += CUDA_WARP)
        dot += (double)y[r * cols + c] * (double)dy[r * cols + c];
    // A zero row stayed zero whatever its values: no gradient.
    float s = (float)warp_sum(dot), k = norm[r] > 0 ? 1 / norm[r] : 0;
    for (size_t c = lane; c < cols; c += CUDA_WARP)
        dx[r * cols + c] = (dy[r * cols + c] - y[r * cols + c] * s) * k;
}

void cuda_unit_bwd(struct dev *d, size_t rows, size_t cols, const float *y, const float *norm,
                   const float *dy, float *dx)
{
    cuda_launch(d, "unit rows backward", unit_bwd_kernel, cuda_blocks(rows, ROW_WARPS), ROW_BLOCK,
                0, rows, cols, y, norm, dy, dx);
}
