// SPDX-License-Identifier: Apache-2.0
// Inside the CUDA device: what its kernels share.
#ifndef DEVICE_CUDA_KERNEL_H
#define DEVICE_CUDA_KERNEL_H

#include "device/cuda/cuda.h"

typedef __nv_bfloat16 bf16;

// The block's dynamic shared memory, 16-byte aligned.
#ifdef CUDA_ON_CPU
template <class T> static inline T *shared_memory()
{
    return (T *)cuda_on_cpu::shared();
}
#else
template <class T> __device__ __forceinline__ T *shared_memory()
{
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    return (T *)dynamic_shared;
}
#endif

__device__ __forceinline__ float to_f32(float x)
{
    return x;
}
__device__ __forceinline__ float to_f32(bf16 x)
{
    return __bfloat162float(x);
}
template <class T> __device__ __forceinline__ T from_f32(float x);
template <> __device__ __forceinline__ float from_f32<float>(float x)
{
    return x;
}
template <> __device__ __forceinline__ bf16 from_f32<bf16>(float x)
{
    return __float2bfloat16_rn(x);
}

// Eight values at a 16-byte boundary: one access of 16 bytes, or two for float32.
struct alignas(16) words_4 {
    unsigned w[4];
};
__device__ __forceinline__ words_4 load_words(const void *p)
{
    words_4 v;
#ifdef CUDA_ON_CPU
    memcpy(&v, p, sizeof v);
#else
    uint4 u = *(const uint4 *)p;
    v = {{u.x, u.y, u.z, u.w}};
#endif
    return v;
}
__device__ __forceinline__ void store_words(void *p, const words_4 &v)
{
#ifdef CUDA_ON_CPU
    memcpy(p, &v, sizeof v);
#else
    *(uint4 *)p = make_uint4(v.w[0], v.w[1], v.w[2], v.w[3]);
#endif
}
__device__ __forceinline__ void store_word(void *p, unsigned w)
{
#ifdef CUDA_ON_CPU
    memcpy(p, &w, sizeof w);
#else
    *(unsigned *)p = w;
#endif
}
__device__ __forceinline__ float float_of(unsigned bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}
__device__ __forceinline__ unsigned bits_of(float f)
{
    unsigned bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}
// Two values as bfloat16, the first in the low half.
__device__ __forceinline__ unsigned pair_of(float lo, float hi)
{
    bf16 a = __float2bfloat16_rn(lo), b = __float2bfloat16_rn(hi);
    unsigned short x, y;
    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    return (unsigned)x | (unsigned)y << 16;
}
__device__ __forceinline__ void load_8(const bf16 *p, float (&v)[8])
{
    words_4 w = load_words(p);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        v[2 * i] = float_of(w.w[i] << 16);
        v[2 * i + 1] = float_of(w.w[i] & 0xffff0000u);
    }
}
__device__ __forceinline__ void load_8(const float *p, float (&v)[8])
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        words_4 w = load_words(p + 4 * h);
#pragma unroll
        for (int i = 0; i < 4; i++)
            v[4 * h + i] = float_of(w.w[i]);
    }
}
__device__ __forceinline__ void store_8(bf16 *p, const float (&v)[8])
{
    store_words(
        p, {{pair_of(v[0], v[1]), pair_of(v[2], v[3]), pair_of(v[4], v[5]), pair_of(v[6], v[7])}});
}
__device__ __forceinline__ void store_8(float *p, const float (&v)[8])
{
#pragma unroll
    for (int h = 0; h < 8; h += 4)
        store_words(p + h,
                    {{bits_of(v[h]), bits_of(v[h + 1]), bits_of(v[h + 2]), bits_of(v[h + 3])}});
}

// a / b, a % b: by 32-bit division, a quarter of the work, where both fit.
__device__ __forceinline__ size_t quotient(size_t a, size_t b)
{
    return (a | b) >> 32 ? a / b : (size_t)((uint32_t)a / (uint32_t)b);
}
__device__ __forceinline__ size_t remainder_of(size_t a, size_t b)
{
    return a - quotient(a, b) * b;
}

// All lanes get the sum (the largest), the same bits in each.
template <class T> __device__ __forceinline__ T warp_sum(T v)
{
#pragma unroll
    for (int o = CUDA_WARP / 2; o; o /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, o);
    return v;
}
__device__ __forceinline__ float warp_max(float v)
{
#pragma unroll
    for (int o = CUDA_WARP / 2; o; o /= 2)
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, o));
    return v;
}

// All threads of a block of CUDA_BLOCK get it. `room`: CUDA_BLOCK / CUDA_WARP values, used up.
template <class T> __device__ __forceinline__ T block_sum(T v, T *room)
{
    const int warps = CUDA_BLOCK / CUDA_WARP;
    v = warp_sum(v);
    if (threadIdx.x % CUDA_WARP == 0)
        room[threadIdx.x / CUDA_WARP] = v;
    __syncthreads();
    T s = room[0];
#pragma unroll
    for (int i = 1; i < warps; i++)
        s += room[i];
    __syncthreads();
    return s;
}

// f(i) for every i in [0, n): several a thread, so that loads overlap.
static constexpr int EACH = 4;
template <class F> __global__ void __launch_bounds__(CUDA_BLOCK) each_kernel(size_t n, F f)
{
    size_t first = (size_t)blockIdx.x * CUDA_BLOCK * EACH + threadIdx.x;
#pragma unroll
    for (int k = 0; k < EACH; k++) {
        size_t i = first + (size_t)k * CUDA_BLOCK;
        if (i < n)
            f(i);
    }
}
template <class F> void cuda_each(struct dev *d, const char *what, size_t n, F f)
{
    cuda_launch(d, what, each_kernel<F>, cuda_blocks(n, CUDA_BLOCK * EACH), CUDA_BLOCK, 0, n, f);
}

// f.one(i) for every i in [0, n), or where all of f's arrays are 16-byte aligned f.eight(i) for i,
// i + 8, ...: eight values at i.
template <class F> struct eights_op {
    F f;
    __device__ void operator()(size_t i) const
    {
        f.eight(8 * i);
    }
};
template <class F> struct ones_op {
    F f;
    size_t first;
    __device__ void operator()(size_t i) const
    {
        f.one(first + i);
    }
};
template <class F> void cuda_map(struct dev *d, const char *what, size_t n, bool aligned, F f)
{
    size_t eights = aligned ? n / 8 : 0;
    cuda_each(d, what, eights, eights_op<F>{f});
    cuda_each(d, what, n - 8 * eights, ones_op<F>{f, 8 * eights});
}
static inline bool cuda_aligned(const void *p)
{
    return (size_t)p % 16 == 0;
}

// Sums over rows of f(r, c, v), which gives N values; sums[o][c] += the o-th. Two kernels: partial
// sums over runs of rows, then the runs in order.
// A run has a multiple of 256 rows, so many that the runs are few enough to be joined quickly.
static constexpr size_t COLS_RUN = 256, COLS_RUNS_MOST = 128;
template <int N> struct col_targets {
    float *sums[N];
};
template <class F, int N>
__global__ void __launch_bounds__(CUDA_BLOCK)
    col_part_kernel(size_t rows, size_t cols, size_t runs, size_t length, F f, float *part)
{
    const int lanes = CUDA_BLOCK / CUDA_WARP;
    float *room = shared_memory<float>(); // [N][lanes][CUDA_WARP]
    size_t run = blockIdx.x % runs, c = blockIdx.x / runs * CUDA_WARP + threadIdx.x % CUDA_WARP;
    int lane = threadIdx.x / CUDA_WARP;
    size_t end = run * length + length < rows ? run * length + length : rows;
    float s[N];
#pragma unroll
    for (int o = 0; o < N; o++)
        s[o] = 0;
    if (c < cols)
        for (size_t r = run * length + lane; r < end; r += lanes) {
            float v[N];
            f(r, c, v);
#pragma unroll
            for (int o = 0; o < N; o++)
                s[o] += v[o];
        }
#pragma unroll
    for (int o = 0; o < N; o++)
        room[o * CUDA_BLOCK + threadIdx.x] = s[o];
    __syncthreads();
    if (lane || c >= cols)
        return;
    for (int o = 0; o < N; o++) {
        float t = 0;
        for (int i = 0; i < lanes; i++)
            t += room[o * CUDA_BLOCK + i * CUDA_WARP + threadIdx.x];
        part[(o * runs + run) * cols + c] = t;
    }
}
template <int N>
__global__ void __launch_bounds__(CUDA_BLOCK)
    col_join_kernel(size_t cols, size_t runs, const float *part, col_targets<N> to)
{
    size_t i = (size_t)blockIdx.x * CUDA_BLOCK + threadIdx.x;
    if (i >= N * cols)
        return;
    size_t o = i / cols, c = i % cols;
    float t = 0;
    for (size_t run = 0; run < runs; run++)
        t += part[(o * runs + run) * cols + c];
#pragma unroll
    for (int k = 0; k < N; k++)
        if ((size_t)k == o)
            to.sums[k][c] += t;
}
template <class F, int N>
void cuda_cols(struct dev *d, const char *what, size_t rows, size_t cols, F f, col_targets<N> to)
{
    if (!rows || !cols)
        return;
    size_t length = cuda_blocks(rows, COLS_RUN * COLS_RUNS_MOST) * COLS_RUN;
    size_t runs = cuda_blocks(rows, length), values, bytes;
    if (!mem_mul(runs * N, cols, &values) || !mem_mul(values, sizeof(float), &bytes)) {
        cuda_fail(d, "%s: too large", what);
        return;
    }
    float *part = (float *)cuda_slot(d, SLOT_REDUCE, bytes);
    if (!part)
        return;
    cuda_launch(d, what, col_part_kernel<F, N>, runs * cuda_blocks(cols, CUDA_WARP), CUDA_BLOCK,
                N * CUDA_BLOCK * sizeof(float), rows, cols, runs, length, f, part);
    cuda_launch(d, what, col_join_kernel<N>, cuda_blocks(N * cols, CUDA_BLOCK), CUDA_BLOCK, 0, cols,
                runs, (const float *)part, to);
}

#endif
