// SPDX-License-Identifier: Apache-2.0
// Moving rows: gathers, sums into rows, patches, the inputs of the towers.
#include "device/cuda/kernel.h"

template <class T> struct gather_op {
    size_t cols, src_ld;
    const T *src;
    const int32_t *index;
    T *dst;
    __device__ void operator()(size_t i) const
    {
        size_t r = quotient(i, cols);
        dst[i] = src[(size_t)index[r] * src_ld + (i - r * cols)];
    }
};

void cuda_gather(struct dev *d, size_t n, size_t cols, const float *src, size_t src_ld,
                 const int32_t *index, float *dst)
{
    cuda_each(d, "gather", n * cols, gather_op<float>{cols, src_ld, src, index, dst});
}

void cuda_gather_act(struct dev *d, size_t n, size_t cols, const void *src, size_t src_ld,
                     const int32_t *index, void *dst)
{
    if (d->act == DEV_F32)
        cuda_each(d, "gather", n * cols,
                  gather_op<float>{cols, src_ld, (const float *)src, index, (float *)dst});
    else
        cuda_each(d, "gather", n * cols,
                  gather_op<bf16>{cols, src_ld, (const bf16 *)src, index, (bf16 *)dst});
}

// -- scatter: (row, place) pairs are sorted, so equal rows lie together in the order of their
// places; each run of equal rows is then summed by one block. Bitonic sort (Batcher, 1968); the
// pairs are all different, so its result is one whatever the schedule.
static constexpr size_t SORT_BLOCK = 512, SORT_TILE = 2 * SORT_BLOCK;

static const uint64_t NO_PAIR = ~(uint64_t)0; // behind all others

// Of the first n, or the first *live (on the device; n is then the most it can be).
struct pairs_op {
    size_t n;
    const int32_t *live, *index;
    uint64_t *pair;
    __device__ void operator()(size_t i) const
    {
        size_t end = live ? (size_t)*live : n;
        pair[i] = i < end ? (uint64_t)(uint32_t)index[i] << 32 | (uint32_t)i : NO_PAIR;
    }
};

__device__ __forceinline__ void order_pair(uint64_t *p, size_t i, size_t j, bool up)
{
    uint64_t a = p[i], b = p[j];
    if ((a > b) == up) {
        p[i] = b;
        p[j] = a;
    }
}

// The t-th pair of places that are `step` apart.
__device__ __forceinline__ size_t place(size_t t, size_t step)
{
    return t + (t & ~(step - 1)); // step is a power of two
}

// Sorts every tile: all stages `from` .. SORT_TILE whose steps stay inside one.
__global__ void __launch_bounds__(SORT_BLOCK)
    sort_tile_kernel(uint64_t *pair, size_t from, size_t to)
{
    uint64_t *s = shared_memory<uint64_t>();
    size_t base = (size_t)blockIdx.x * SORT_TILE, t = threadIdx.x;
    s[t] = pair[base + t];
    s[t + SORT_BLOCK] = pair[base + t + SORT_BLOCK];
    __syncthreads();
    for (size_t size = from; size <= to; size *= 2)
        for (size_t step = size / 2 < SORT_BLOCK ? size / 2 : SORT_BLOCK; step; step /= 2) {
            size_t i = place(t, step);
            order_pair(s, i, i + step, ((base + i) & size) == 0);
            __syncthreads();
        }
    pair[base + t] = s[t];
    pair[base + t + SORT_BLOCK] = s[t + SORT_BLOCK];
}

struct sort_step_op {
    uint64_t *pair;
    size_t size, step;
    __device__ void operator()(size_t t) const
    {
        size_t i = place(t, step);
        order_pair(pair, i, i + step, (i & size) == 0);
    }
};

static uint64_t *sorted_pairs(struct dev *d, size_t n, const int32_t *live, const int32_t *index)
{
    size_t room = SORT_TILE, shared = SORT_TILE * sizeof(uint64_t);
    if (n > (size_t)1 << 30) {
        cuda_fail(d, "scatter: %zu rows are too many", n);
        return NULL;
    }
    while (room < n)
        room *= 2;
    uint64_t *pair = (uint64_t *)cuda_slot(d, SLOT_KEYS, room * sizeof *pair);
    if (!pair)
        return NULL;
    cuda_each(d, "scatter", room, pairs_op{n, live, index, pair});
    cuda_launch(d, "scatter", sort_tile_kernel, room / SORT_TILE, SORT_BLOCK, shared, pair,
                (size_t)2, (size_t)SORT_TILE);
    for (size_t size = 2 * SORT_TILE; size <= room; size *= 2) {
        for (size_t step = size / 2; step >= SORT_TILE; step /= 2)
            cuda_each(d, "scatter", room / 2, sort_step_op{pair, size, step});
        cuda_launch(d, "scatter", sort_tile_kernel, room / SORT_TILE, SORT_BLOCK, shared, pair,
                    size, size);
    }
    return pair;
}

static constexpr int RUN_BLOCK = 128, RUN_AHEAD = 16;

// Block i: when pair i is the first of its row, the sum of the row's run. A frequent token has a
// run of thousands, added one by one for the same bits whatever the schedule; its values are read
// RUN_AHEAD at a time.
__global__ void __launch_bounds__(RUN_BLOCK) run_kernel(size_t n, size_t cols, const uint64_t *pair,
                                                        const float *src, float *dst, size_t dst_ld)
{
    size_t i = blockIdx.x;
    uint64_t row = pair[i] >> 32;
    if (pair[i] == NO_PAIR || (i && pair[i - 1] >> 32 == row))
        return;
    for (size_t c = threadIdx.x; c < cols; c += RUN_BLOCK) {
        float s = dst[row * dst_ld + c], v[RUN_AHEAD];
        for (size_t j = i + cuda_planted<PLANT_rows>; j < n && pair[j] >> 32 == row;
             j += RUN_AHEAD) {
#pragma unroll
            for (int k = 0; k < RUN_AHEAD; k++) {
                bool more = j + k < n && pair[j + k] >> 32 == row;
                v[k] = more ? src[(pair[j + k] & 0xffffffffu) * cols + c] : -0.0f;
            }
#pragma unroll
            for (int k = 0; k < RUN_AHEAD; k++)
                s += v[k];
        }
        dst[row * dst_ld + c] = s;
    }
}

static void scatter(struct dev *d, size_t n, const int32_t *live, size_t cols, const float *src,
                    const int32_t *index, float *dst, size_t dst_ld)
{
    uint64_t *pair = n ? sorted_pairs(d, n, live, index) : NULL;
    if (pair)
        cuda_launch(d, "scatter", run_kernel, n, RUN_BLOCK, 0, n, cols, (const uint64_t *)pair, src,
                    dst, dst_ld);
}

void cuda_scatter_add(struct dev *d, size_t n, size_t cols, const float *src, const int32_t *index,
                      float *dst, size_t dst_ld)
{
    scatter(d, n, NULL, cols, src, index, dst, dst_ld);
}

// -- inputs of the towers
// A thread takes a line of one channel of a patch.
template <class T> struct patchify_op {
    size_t size, patch, grid;
    const uint8_t *pixels;
    float scale[3], shift[3]; // v * scale + shift
    T *out;
    __device__ void operator()(size_t i) const
    {
        size_t row = quotient(i, 3 * patch), at = i - row * 3 * patch, c = quotient(at, patch);
        size_t y = at - c * patch, picture = quotient(row, grid * grid);
        size_t cell = row - picture * grid * grid, py = quotient(cell, grid), px = cell - py * grid;
        size_t p = (picture * size + py * patch + y) * size + px * patch;
        const uint8_t *from = pixels + 3 * p + c;
        T *to = out + i * patch;
        float k = c == 0 ? scale[0] : c == 1 ? scale[1] : scale[2];
        float s = c == 0 ? shift[0] : c == 1 ? shift[1] : shift[2];
        size_t x = 0;
        if (patch % 8 == 0)
            for (; x < patch; x += 8) {
                float v[8];
#pragma unroll
                for (int j = 0; j < 8; j++)
                    v[j] = (float)from[3 * (x + j)] * k + s;
                store_8(to + x, v);
            }
#pragma unroll 2
        for (; x < patch; x++)
            to[x] = from_f32<T>((float)from[3 * x] * k + s);
    }
};

template <class T>
static void patchify(struct dev *d, size_t n, size_t size, size_t patch, const uint8_t *pixels,
                     const float mean[3], const float std[3], void *out)
{
    size_t grid = size / patch;
    patchify_op<T> op = {size, patch, grid, pixels, {}, {}, (T *)out};
    for (int c = 0; c < 3; c++) {
        op.scale[c] = (float)(1 / (255.0 * (double)std[c]));
        op.shift[c] = (float)(-(double)mean[c] / (double)std[c]);
    }
    cuda_each(d, "patches", n * grid * grid * 3 * patch, op);
}

void cuda_patchify(struct dev *d, size_t n, size_t size, size_t patch, const uint8_t *pixels,
                   const float mean[3], const float std[3], void *out)
{
    if (d->act == DEV_F32)
        patchify<float>(d, n, size, patch, pixels, mean, std, out);
    else
        patchify<bf16>(d, n, size, patch, pixels, mean, std, out);
}

// first: 1 with a class token.
struct assemble_op {
    size_t patches, first, cols;
    const float *rows, *cls, *pos;
    float *x;
    __device__ void operator()(size_t i) const
    {
        size_t r = quotient(i, cols), c = i - r * cols;
        size_t picture = quotient(r, first + patches), p = r - picture * (first + patches);
        float v = p < first ? cls[c] : rows[(picture * patches + p - first) * cols + c];
        x[i] = v + pos[p * cols + c];
    }
};

void cuda_assemble(struct dev *d, size_t n, size_t patches, size_t cols, const float *patch_rows,
                   const float *cls, const float *pos, float *x)
{
    size_t first = cls != NULL;
    cuda_each(d, "assemble", n * (first + patches) * cols,
              assemble_op{patches, first, cols, patch_rows, cls, pos, x});
}

template <class T> struct patch_rows_op {
    size_t patches, first, cols;
    const float *dx;
    T *out;
    __device__ void operator()(size_t i) const
    {
        size_t r = quotient(i, cols), picture = quotient(r, patches);
        size_t p = r - picture * patches;
        out[i] = from_f32<T>(dx[(picture * (first + patches) + first + p) * cols + (i - r * cols)]);
    }
};

void cuda_assemble_bwd(struct dev *d, size_t n, size_t patches, size_t cols, const float *dx,
                       float *dcls, float *dpos, void *dpatch_rows)
{
    size_t first = dcls != NULL, all = (first + patches) * cols, values = n * patches * cols;
    cuda_col_sums(d, n, all, dx, true, all, dpos);
    if (dcls)
        cuda_col_sums(d, n, cols, dx, true, all, dcls);
    if (d->act == DEV_F32)
        cuda_each(d, "assemble backward", values,
                  patch_rows_op<float>{patches, first, cols, dx, (float *)dpatch_rows});
    else
        cuda_each(d, "assemble backward", values,
                  patch_rows_op<bf16>{patches, first, cols, dx, (bf16 *)dpatch_rows});
}

static constexpr int EMBED_BLOCK = 128;

// Block: position p of sequence i.
__global__ void __launch_bounds__(EMBED_BLOCK)
    embed_kernel(size_t max_len, const int32_t *start, size_t cols, const int32_t *token,
                 const float *table, const float *pos, float *x)
{
    size_t i = blockIdx.x / max_len, p = blockIdx.x % max_len;
    size_t r = (size_t)start[i] + p;
    if (r >= (size_t)start[i + 1])
        return;
    const float *t = table + (size_t)token[r] * cols;
    for (size_t c = threadIdx.x; c < cols; c += EMBED_BLOCK)
        x[r * cols + c] = t[c] + pos[p * cols + c];
}

void cuda_embed(struct dev *d, const struct dev_ragged *r, size_t cols, const int32_t *token,
                const float *table, const float *pos, float *x)
{
    cuda_launch(d, "embed", embed_kernel, r->n * r->max_len, EMBED_BLOCK, 0, r->max_len, r->start,
                cols, token, table, pos, x);
}

// Block: a position and a run of columns; sequences in order.
__global__ void __launch_bounds__(EMBED_BLOCK)
    embed_pos_kernel(size_t n, size_t col_blocks, const int32_t *start, size_t cols,
                     const float *dx, float *dpos)
{
    size_t p = blockIdx.x / col_blocks, c = blockIdx.x % col_blocks * EMBED_BLOCK + threadIdx.x;
    if (c >= cols)
        return;
    float s = dpos[p * cols + c];
    for (size_t i = 0; i < n; i++) {
        size_t r = (size_t)start[i] + p;
        if (r < (size_t)start[i + 1])
            s += dx[r * cols + c];
    }
    dpos[p * cols + c] = s;
}

void cuda_embed_bwd(struct dev *d, const struct dev_ragged *r, size_t cols, const int32_t *token,
                    const float *dx, float *dtable, float *dpos)
{
    size_t col_blocks = cuda_blocks(cols, EMBED_BLOCK);
    // The number of rows is known on the device only: no waiting for it here.
    scatter(d, r->n * r->max_len, r->start + r->n, cols, dx, token, dtable, cols);
    cuda_launch(d, "embed backward", embed_pos_kernel, r->max_len * col_blocks, EMBED_BLOCK, 0,
                r->n, col_blocks, r->start, cols, dx, dpos);
}
