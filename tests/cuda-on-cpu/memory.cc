// SPDX-License-Identifier: Apache-2.0
// Device memory between unmapped pages, and streams that run when somebody waits for them.
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <set>
#include <sys/mman.h>
#include <vector>

#include "counts.h"
#include "cuda_runtime.h"

// An event counts its records; a record is done when the stream has run up to it.
struct CUevent_st {
    uint64_t recorded, done;
    CUstream_st *by;
};
struct CUstream_st {
    std::deque<std::function<void()>> queue;
    bool running;
    CUgraph_st *capture; // where what is given goes instead, or null
};

struct CUgraph_st {
    std::vector<std::function<void()>> work;
};
struct CUgraphExec_st {
    std::vector<std::function<void()>> work;
};

struct cuda_on_cpu_counts cuda_on_cpu_counts;

// Says to the tests that no GPU is under them.
extern "C" const char cuda_on_cpu_stand_in;
const char cuda_on_cpu_stand_in = 1;

namespace
{
const size_t PAGE = 4096;
struct piece {
    size_t bytes, mapped;
    unsigned char *map;
};
std::map<void *, piece> pieces;
std::set<CUstream_st *> streams;
size_t in_use;

[[noreturn]] void die(const char *what)
{
    fprintf(stderr, "cuda-on-cpu: %s\n", what);
    abort();
}

size_t from_env(const char *name, size_t otherwise)
{
    const char *s = getenv(name);
    return s && *s ? (size_t)strtoull(s, nullptr, 10) : otherwise;
}

// CUDA_ON_CPU_FAIL=N: the N-th wait for work finds that a kernel failed.
cudaError_t result_of_wait()
{
    static const size_t fails = from_env("CUDA_ON_CPU_FAIL", 0);
    static size_t waits;
    return ++waits == fails ? cudaErrorIllegalAddress : cudaSuccess;
}

size_t memory_size()
{
    return from_env("CUDA_ON_CPU_MEMORY", (size_t)4 << 30);
}

// Device memory can be touched while a stream runs, and by nobody else: the first pages of every
// piece, since all of a large one would take long.
const size_t CLOSED = 16 * PAGE;
int runs;

void piece_open(const piece &p, bool yes)
{
    size_t n = p.mapped - 2 * PAGE;
    if (mprotect(p.map + PAGE, n < CLOSED ? n : CLOSED, yes ? PROT_READ | PROT_WRITE : PROT_NONE))
        die("mprotect");
}

void open_pieces(bool yes)
{
    for (auto &p : pieces)
        piece_open(p.second, yes);
}

// Runs what is queued: all of it, or up to the n-th record of an event.
void run(CUstream_st *s, const CUevent_st *until = nullptr, uint64_t n = 0)
{
    if (s->running)
        die("a stream waits for itself");
    if (s->queue.empty())
        return;
    if (!runs++)
        open_pieces(true);
    s->running = true;
    while (!s->queue.empty() && !(until && until->done >= n)) {
        std::function<void()> f = std::move(s->queue.front());
        s->queue.pop_front();
        f();
    }
    s->running = false;
    if (!--runs)
        open_pieces(false);
}

void run_all()
{
    for (CUstream_st *s : streams)
        run(s);
}

// Whole in one piece of device memory?
bool on_device(const void *p, size_t n)
{
    auto it = pieces.upper_bound((void *)p);
    if (it == pieces.begin())
        return false;
    --it;
    return (const char *)p >= (const char *)it->first &&
           (const char *)p + n <= (const char *)it->first + it->second.bytes;
}
} // namespace

void cuda_on_cpu::enqueue(cudaStream_t s, std::function<void()> f)
{
    if (s->capture) {
        s->capture->work.push_back(std::move(f));
        return;
    }
    cuda_on_cpu_counts.launches++;
    s->queue.push_back(std::move(f));
}

const char *cudaGetErrorName(cudaError_t e)
{
    return e == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaError";
}

const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
    case cudaSuccess:
        return "no error";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInvalidConfiguration:
        return "invalid configuration argument";
    case cudaErrorNoDevice:
        return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
        return "invalid device ordinal";
    case cudaErrorIllegalAddress:
        return "an illegal memory access was encountered";
    default:
        return "invalid argument";
    }
}

cudaError_t cudaGetLastError()
{
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = (int)from_env("CUDA_ON_CPU_DEVICES", 1);
    return *n ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t cudaSetDevice(int i)
{
    int n;
    cudaGetDeviceCount(&n);
    return i >= 0 && i < n ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t cudaDeviceGetAttribute(int *v, cudaDeviceAttr a, int)
{
    *v = a == cudaDevAttrMaxSharedMemoryPerBlockOptin ? 99 << 10
         : a == cudaDevAttrComputeCapabilityMajor     ? 9
                                                      : 0;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    if (!bytes || bytes > memory_size() - in_use)
        return bytes ? cudaErrorMemoryAllocation : cudaErrorInvalidValue;
    size_t room = (bytes + 15) / 16 * 16, pages = (room + PAGE - 1) / PAGE * PAGE;
    size_t mapped = pages + 2 * PAGE;
    cuda_on_cpu_counts.mallocs++;
    void *m = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED || mprotect(m, PAGE, PROT_NONE) ||
        mprotect((char *)m + PAGE + pages, PAGE, PROT_NONE))
        return cudaErrorMemoryAllocation;
    *p = (char *)m + PAGE + pages - room;
    memset(*p, 0xff, room);
    pieces[*p] = {bytes, mapped, (unsigned char *)m};
    piece_open(pieces[*p], false);
    in_use += bytes;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    if (!p)
        return cudaSuccess;
    run_all();
    auto it = pieces.find(p);
    if (it == pieces.end())
        return cudaErrorInvalidValue;
    piece_open(it->second, true);
    for (size_t i = it->second.bytes; i % 16; i++)
        if (((unsigned char *)p)[i] != 0xff)
            die("something wrote behind a buffer");
    in_use -= it->second.bytes;
    munmap(it->second.map, it->second.mapped);
    pieces.erase(it);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    *p = malloc(bytes);
    return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFreeHost(void *p)
{
    run_all();
    free(p);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    *total = memory_size();
    *available = *total - in_use;
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t n, cudaMemcpyKind kind,
                            cudaStream_t s)
{
    bool to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (on_device(dst, n) != to || on_device(src, n) != from)
        return cudaErrorInvalidValue;
    cuda_on_cpu::enqueue(s, [=] { memmove(dst, src, n); });
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *dst, int v, size_t n, cudaStream_t s)
{
    if (!on_device(dst, n))
        return cudaErrorInvalidValue;
    cuda_on_cpu::enqueue(s, [=] { memset(dst, v, n); });
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    *s = new CUstream_st{{}, false, nullptr};
    streams.insert(*s);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    run(s);
    streams.erase(s);
    delete s;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    if (s->capture)
        return cudaErrorStreamCaptureUnsupported;
    if (s->queue.empty())
        return cudaSuccess;
    cuda_on_cpu_counts.waits++;
    run(s);
    return result_of_wait();
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned)
{
    *e = new CUevent_st{0, 0, nullptr};
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    run_all();
    delete e;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    if (s->capture)
        die("an event recorded in a graph");
    uint64_t n = ++e->recorded;
    e->by = s;
    cuda_on_cpu::enqueue(s, [=] { e->done = n; });
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
    uint64_t n = e->recorded;
    CUstream_st *by = e->by;
    cuda_on_cpu::enqueue(s, [=] {
        if (e->done < n)
            run(by, e, n);
    });
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    if (e->done >= e->recorded)
        return cudaSuccess;
    cuda_on_cpu_counts.waits++;
    run(e->by, e, e->recorded);
    return result_of_wait();
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode)
{
    if (s->capture)
        return cudaErrorInvalidValue;
    s->capture = new CUgraph_st;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g)
{
    *g = s->capture;
    s->capture = nullptr;
    if (from_env("CUDA_ON_CPU_GRAPHS", 1))
        return *g ? cudaSuccess : cudaErrorInvalidValue;
    delete *g;
    *g = nullptr;
    return cudaErrorStreamCaptureUnsupported;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long)
{
    *e = new CUgraphExec_st{g->work};
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t s)
{
    cuda_on_cpu_counts.launches++;
    cuda_on_cpu_counts.graphs++;
    for (const std::function<void()> &f : e->work)
        s->queue.push_back(f);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    delete g;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e)
{
    run_all(); // what was launched from it
    delete e;
    return cudaSuccess;
}
