// SPDX-License-Identifier: Apache-2.0
// Searching blocks of scores: a warp a row, the block being in the second-level cache since its
// product was made. What is found goes to one list, whose order is that of the blocks' running and
// means nothing; which hits there are does not depend on it.
#include "device/cuda/kernel.h"

static constexpr int WARPS = CUDA_BLOCK / CUDA_WARP, PARTS = 8, SPAN = PARTS * CUDA_WARP;
static constexpr unsigned ALL = 0xffffffffu;

// Lists the lanes of `yes`.
__device__ __forceinline__ void list(const dev_hits &to, unsigned yes, uint32_t row, uint32_t col,
                                     float score)
{
    unsigned lane = threadIdx.x % CUDA_WARP, at = 0;
    if (lane == 0)
        at = atomicAdd(to.n, (uint32_t)__popc(yes));
    at = __shfl_sync(ALL, at, 0) + (unsigned)__popc(yes & ((1u << lane) - 1));
    if (yes >> lane & 1 && at < to.room)
        to.hit[at] = {row, col, score};
}

// SPAN scores of a row from column c on, PARTS a lane; those behind the last are -inf.
__device__ __forceinline__ void load(float x[PARTS], const float *v, size_t c, size_t cols)
{
#pragma unroll
    for (int p = 0; p < PARTS; p++) {
        size_t at = c + (size_t)p * CUDA_WARP + threadIdx.x % CUDA_WARP;
        x[p] = at < cols ? v[at] : -INFINITY;
    }
}

// The n greatest of all lanes' values, the i-th in lane i.
__device__ __forceinline__ float greatest(float x[PARTS + 1], int n)
{
    int lane = threadIdx.x % CUDA_WARP;
    float mine = -INFINITY;
    for (int i = 0; i < n; i++) {
        float top = x[0];
#pragma unroll
        for (int p = 1; p <= PARTS; p++)
            top = fmaxf(top, x[p]);
        float all = warp_max(top);
        bool taken = lane != __ffs((int)__ballot_sync(ALL, top == all)) - 1;
#pragma unroll
        for (int p = 0; p <= PARTS; p++)
            if (!taken && x[p] == all) {
                x[p] = -INFINITY;
                taken = true;
            }
        if (lane == i)
            mine = all;
    }
    return mine;
}

// A lane keeps the maxima of PARTS parts of its columns. The n-th greatest of all these and of the
// n best so far is at most that of all columns, and close to it.
__global__ void __launch_bounds__(CUDA_BLOCK) top_kernel(dev_scores s, dev_top t, dev_hits to)
{
    const int lane = threadIdx.x % CUDA_WARP, n = (int)t.n;
    size_t r = (size_t)blockIdx.x * WARPS + threadIdx.x / CUDA_WARP;
    if (r >= s.rows)
        return;
    const float *v = s.v + r * s.ld;
    float part[PARTS + 1], x[PARTS], most = -INFINITY;
    float best = lane < n && !t.first ? t.best[r * n + lane] : -INFINITY;
    uint32_t found = t.first ? 0 : t.found[r];
#pragma unroll
    for (int p = 0; p < PARTS; p++)
        part[p] = -INFINITY;
    for (size_t c = 0; c < s.cols; c += SPAN) {
        load(x, v, c, s.cols);
#pragma unroll
        for (int p = 0; p < PARTS; p++)
            part[p] = fmaxf(part[p], x[p]);
    }
#pragma unroll
    for (int p = 0; p < PARTS; p++)
        most = fmaxf(most, part[p]);
    most = warp_max(most);
    if (t.first || most > __shfl_sync(ALL, best, n - 1)) {
        part[PARTS] = best;
        best = greatest(part, n);
        if (lane < n)
            t.best[r * n + lane] = best;
    }
    float least = __shfl_sync(ALL, best, n - 1) - t.slack[r];
    bool open = most >= least && !(found & DEV_TOP_FULL);
    for (size_t c = 0; open && c < s.cols; c += SPAN) {
        load(x, v, c, s.cols);
#pragma unroll
        for (int p = 0; p < PARTS; p++) {
            size_t at = c + (size_t)p * CUDA_WARP + lane;
            unsigned yes = __ballot_sync(ALL, at < s.cols && x[p] >= least);
            if (!yes || !open)
                continue;
            if (found + (uint32_t)__popc(yes) > t.most) {
                found |= DEV_TOP_FULL;
                open = false;
                continue;
            }
            list(to, yes, s.row0 + (uint32_t)r, s.col0 + (uint32_t)at, x[p]);
            found += (uint32_t)__popc(yes);
        }
    }
    if (lane == 0)
        t.found[r] = found;
}

void cuda_hits_top(struct dev *d, const struct dev_scores *s, const struct dev_top *t,
                   const struct dev_hits *to)
{
    cuda_launch(d, "greatest scores", top_kernel, cuda_blocks(s->rows, WARPS), CUDA_BLOCK, 0, *s,
                *t, *to);
}

__global__ void __launch_bounds__(CUDA_BLOCK)
    above_kernel(dev_scores s, const float *least, bool later, dev_hits to)
{
    size_t r = (size_t)blockIdx.x * WARPS + threadIdx.x / CUDA_WARP, c = 0;
    if (r >= s.rows)
        return;
    const uint32_t row = s.row0 + (uint32_t)r;
    const float *v = s.v + r * s.ld, low = least[r] + (cuda_planted<PLANT_search> ? 0.05f : 0.0f);
    if (later && row >= s.col0)
        c = (row - s.col0) / SPAN * SPAN;
    for (; c < s.cols; c += SPAN) {
        float x[PARTS];
        bool any = false;
        load(x, v, c, s.cols);
#pragma unroll
        for (int p = 0; p < PARTS; p++)
            any |= x[p] >= low;
        if (!__any_sync(ALL, any))
            continue;
#pragma unroll
        for (int p = 0; p < PARTS; p++) {
            size_t at = c + (size_t)p * CUDA_WARP + threadIdx.x % CUDA_WARP;
            uint32_t col = s.col0 + (uint32_t)at;
            unsigned yes = __ballot_sync(ALL, at < s.cols && x[p] >= low && (!later || col > row));
            if (yes)
                list(to, yes, row, col, x[p]);
        }
    }
}

void cuda_hits_above(struct dev *d, const struct dev_scores *s, const float *least, bool later,
                     const struct dev_hits *to)
{
    cuda_launch(d, "scores above", above_kernel, cuda_blocks(s->rows, WARPS), CUDA_BLOCK, 0, *s,
                least, later, *to);
}
