// SPDX-License-Identifier: Apache-2.0
// Stands in for the CUDA runtime's header, so that the sources under lib/device/cuda compile as C++
// and run on a processor: the same names, the same meaning, only what those sources use.
//
// A launch runs its blocks one after the other; the threads of a block are fibers that really wait
// at __syncthreads and in warp functions. A stream is a queue that runs no sooner than somebody
// waits for it, so a missing wait or a host buffer reused too early shows. Memory from cudaMalloc
// lies between unmapped pages and starts out as NaN, dynamic shared memory too; the host cannot
// touch it. Environment:
//   CUDA_ON_CPU_ORDER   forward (default), reverse or shuffle: order of blocks, and of the threads
//                       between two barriers
//   CUDA_ON_CPU_MEMORY  bytes of device memory (default 4 GiB)
//   CUDA_ON_CPU_DEVICES number of devices (default 1)
//   CUDA_ON_CPU_GRAPHS  0: nothing can be captured
// What the real runtime leaves undefined ends the program with a message.
#ifndef CUDA_ON_CPU_RUNTIME_H
#define CUDA_ON_CPU_RUNTIME_H

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>

#define CUDA_ON_CPU 1
#define CUDART_VERSION 13000
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __shared__ static // blocks run one at a time

struct uint3 {
    unsigned x, y, z;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c)
    {
    }
};

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorIllegalAddress = 700,
    cudaErrorIllegalInstruction = 715,
    cudaErrorMisalignedAddress = 716,
    cudaErrorLaunchFailure = 719,
    cudaErrorStreamCaptureUnsupported = 900,
};
enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaDeviceAttr {
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76
};
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };

struct CUstream_st;
struct CUevent_st;
typedef CUstream_st *cudaStream_t;
typedef CUevent_st *cudaEvent_t;
struct CUgraph_st;
struct CUgraphExec_st;
typedef CUgraph_st *cudaGraph_t;
typedef CUgraphExec_st *cudaGraphExec_t;
struct cudaLaunchAttribute;
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    cudaLaunchAttribute *attrs;
    unsigned numAttrs;
};

const char *cudaGetErrorString(cudaError_t);
const char *cudaGetErrorName(cudaError_t);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int *);
cudaError_t cudaSetDevice(int);
cudaError_t cudaDeviceGetAttribute(int *, cudaDeviceAttr, int);
cudaError_t cudaMalloc(void **, size_t);
cudaError_t cudaFree(void *);
cudaError_t cudaMallocHost(void **, size_t);
cudaError_t cudaFreeHost(void *);
cudaError_t cudaMemGetInfo(size_t *, size_t *);
cudaError_t cudaMemcpyAsync(void *, const void *, size_t, cudaMemcpyKind, cudaStream_t);
cudaError_t cudaMemsetAsync(void *, int, size_t, cudaStream_t);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *, unsigned);
cudaError_t cudaStreamDestroy(cudaStream_t);
cudaError_t cudaStreamSynchronize(cudaStream_t);
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *, unsigned);
cudaError_t cudaEventDestroy(cudaEvent_t);
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t);
cudaError_t cudaEventSynchronize(cudaEvent_t);
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode);
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *, cudaGraph_t, unsigned long long);
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t);
cudaError_t cudaGraphDestroy(cudaGraph_t);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t);

namespace cuda_on_cpu
{
// The thread that runs: kernels read it through the names below.
struct place {
    uint3 thread, block;
    dim3 block_dim, grid_dim;
    unsigned lane;
};
extern place here;
void *shared(); // the block's dynamic shared memory
void barrier();
// Every lane of the warp gives n bytes (32 at most); what `all` points to on return holds them, 32
// bytes a lane, until the warp's next function but one. `work` runs once on all of them.
unsigned char *warp(unsigned mask, const void *mine, size_t n,
                    void (*work)(unsigned char *) = nullptr);
cudaError_t check_launch(const cudaLaunchConfig_t *, const void *kernel);
void enqueue(cudaStream_t, std::function<void()>);
void run_grid(const cudaLaunchConfig_t &, void (*body)(void *), void *ctx);
cudaError_t allow_shared(const void *kernel, int bytes);
} // namespace cuda_on_cpu

inline const uint3 &threadIdx = cuda_on_cpu::here.thread;
inline const uint3 &blockIdx = cuda_on_cpu::here.block;
inline const dim3 &blockDim = cuda_on_cpu::here.block_dim;
inline const dim3 &gridDim = cuda_on_cpu::here.grid_dim;

template <class... P>
cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute, int value)
{
    return cuda_on_cpu::allow_shared((const void *)kernel, value);
}

template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *c, void (*kernel)(P...), A &&...a)
{
    cudaError_t e = cuda_on_cpu::check_launch(c, (const void *)kernel);
    if (e != cudaSuccess)
        return e;
    std::tuple<P...> args(a...);
    cudaLaunchConfig_t config = *c;
    cuda_on_cpu::enqueue(c->stream, [config, kernel, args] {
        auto body = [&] { std::apply(kernel, args); };
        cuda_on_cpu::run_grid(
            config, [](void *p) { (*(decltype(body) *)p)(); }, &body);
    });
    return cudaSuccess;
}

inline void __syncthreads()
{
    cuda_on_cpu::barrier();
}
inline void __syncwarp(unsigned mask = 0xffffffffu)
{
    cuda_on_cpu::warp(mask, nullptr, 0);
}
template <class T> T cuda_on_cpu_lane(const unsigned char *all, unsigned lane)
{
    T v;
    memcpy(&v, all + 32 * lane, sizeof v);
    return v;
}
template <class T> T __shfl_sync(unsigned mask, T v, int lane, int = 32)
{
    return cuda_on_cpu_lane<T>(cuda_on_cpu::warp(mask, &v, sizeof v), (unsigned)lane & 31u);
}
template <class T> T __shfl_xor_sync(unsigned mask, T v, int x, int = 32)
{
    unsigned lane = cuda_on_cpu::here.lane;
    return cuda_on_cpu_lane<T>(cuda_on_cpu::warp(mask, &v, sizeof v), (lane ^ (unsigned)x) & 31u);
}
template <class T> T __shfl_down_sync(unsigned mask, T v, unsigned by, int = 32)
{
    unsigned lane = cuda_on_cpu::here.lane;
    unsigned char *all = cuda_on_cpu::warp(mask, &v, sizeof v);
    return lane + by < 32 ? cuda_on_cpu_lane<T>(all, lane + by) : v;
}
template <class T> T __shfl_up_sync(unsigned mask, T v, unsigned by, int = 32)
{
    unsigned lane = cuda_on_cpu::here.lane;
    unsigned char *all = cuda_on_cpu::warp(mask, &v, sizeof v);
    return lane >= by ? cuda_on_cpu_lane<T>(all, lane - by) : v;
}
inline unsigned __ballot_sync(unsigned mask, int yes)
{
    unsigned char *all = cuda_on_cpu::warp(mask, &yes, sizeof yes);
    unsigned b = 0;
    for (unsigned i = 0; i < 32; i++)
        b |= (cuda_on_cpu_lane<int>(all, i) ? 1u : 0u) << i;
    return b;
}
inline int __any_sync(unsigned mask, int yes)
{
    return __ballot_sync(mask, yes) != 0;
}
inline int __all_sync(unsigned mask, int yes)
{
    return __ballot_sync(mask, yes) == 0xffffffffu;
}
inline int __popc(unsigned v)
{
    return __builtin_popcount(v);
}
inline int __ffs(int v)
{
    return __builtin_ffs(v);
}
template <class T> T atomicAdd(T *p, T v)
{
    T old = *p;
    *p = old + v;
    return old;
}
template <class T> T atomicMin(T *p, T v)
{
    T old = *p;
    *p = v < old ? v : old;
    return old;
}
template <class T> T atomicMax(T *p, T v)
{
    T old = *p;
    *p = v > old ? v : old;
    return old;
}
using std::isinf;
using std::max;
using std::min;
template <class T> T atomicCAS(T *p, T expected, T v)
{
    T old = *p;
    if (old == expected)
        *p = v;
    return old;
}

#endif
