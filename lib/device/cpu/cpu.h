// SPDX-License-Identifier: Apache-2.0
// Private to lib/device/cpu: what its files share.
//
// Work is cut into pieces whose bounds depend only on the sizes, never on the number of threads or
// on what else is in the batch, so that the bytes are the same for any -t.
#ifndef DEVICE_CPU_CPU_H
#define DEVICE_CPU_CPU_H

#include "device/dev.h"
#include "base/half.h"
#include "system/pool.h"

enum {
    CPU_TILE_ROWS = 128, // rows of one matrix product, at most
    CPU_TILE_COLS = 512, // columns, at most
    CPU_SLOTS = 4,       // scratch blocks of a worker
};

struct cpu_scratch {
    void *p;
    size_t n;
};
struct cpu_matmul; // matmul.c

struct cpu {
    struct pool *pool;
    bool emulate; // bfloat16 values, float32 products
    struct cpu_matmul *matmul;
    struct cpu_scratch *scratch; // [threads * CPU_SLOTS]
};

int dev_cpu_open(struct dev *d, enum dev_type act, int threads, bool emulate, struct err *e);

static inline struct cpu *cpu_of(struct dev *d)
{
    return d->impl;
}

// Keeps the first failure.
void cpu_fail(struct dev *d, const struct err *e);
// Block `slot` of a worker, at least `bytes`, 64-byte aligned, contents undefined; NULL (failure
// kept) when there is no memory.
void *cpu_scratch(struct dev *d, int worker, int slot, size_t bytes);
// pool_for over n items in runs of `run`: work(ctx, first, count, worker).
void cpu_for_runs(struct dev *d, size_t n, size_t run,
                  void (*work)(void *ctx, size_t first, size_t count, int worker), void *ctx);

// -- activations
// Address of element i.
static inline void *cpu_at(const struct dev *d, const void *p, size_t i)
{
    return (char *)(size_t)p + i * d->act_size;
}
// n elements at p as float32: p itself in DEV_F32, else converted into tmp.
static inline const float *cpu_load(const struct dev *d, const void *p, size_t n, float *tmp)
{
    if (d->act == DEV_F32)
        return p;
    bf16_to_f32(p, tmp, n);
    return tmp;
}
// Where to make n float32 results that end at p: p itself in DEV_F32, else tmp; cpu_store then
// converts.
static inline float *cpu_dest(const struct dev *d, void *p, float *tmp)
{
    return d->act == DEV_F32 ? p : tmp;
}
static inline void cpu_store(const struct dev *d, const float *made, void *p, size_t n)
{
    if (d->act == DEV_BF16)
        bf16_from_f32(made, p, n);
}

// -- matrix products with a right side B [k, n] that is packed once: C[m, n] = A[m, k] B
struct cpu_pack;
// From host values of type `src_type`, element (i, j) of B at src[i * row_step + j * col_step].
// The products are float32, or bfloat16 with float32 sums in DEV_BF16. NULL with e set.
struct cpu_pack *cpu_pack_new(struct dev *d, size_t k, size_t n, const void *src,
                              enum dev_type src_type, size_t row_step, size_t col_step,
                              struct err *e);
// New values, of the same shape, from float32.
int cpu_pack_fill(struct dev *d, struct cpu_pack *b, const float *src, size_t row_step,
                  size_t col_step, struct err *e);
void cpu_pack_free(struct cpu_pack *b);
// Called for each finished tile, on any thread: rows [row0, row0 + rows), columns [col0, col0 +
// cols) of C at c[r * ldc + j], which the callee may overwrite.
typedef void cpu_tile_fn(void *ctx, size_t row0, size_t rows, size_t col0, size_t cols, float *c,
                         size_t ldc, int worker);
// A is act [m, k] with rows lda apart.
void cpu_matmul(struct dev *d, size_t m, const void *a, size_t lda, const struct cpu_pack *b,
                cpu_tile_fn *done, void *ctx);
struct cpu_matmul *cpu_matmul_new(int threads, struct err *e);
void cpu_matmul_free(struct cpu_matmul *m);

// -- weights
struct dev_weight {
    size_t out, in;
    bool transposed;      // `view` lies [in, out]
    const float *view;    // master values of weight_view, else NULL
    struct cpu_pack *fwd; // B = W^T [in, out], for y = x W^T
    struct cpu_pack *bwd; // B = W [out, in], for dx = dy W; made at the first linear_dx, refreshed
                          // with fwd from then on
};
// Element (o, i) of the view is at view[o * out_step + i * in_step].
static inline size_t cpu_out_step(const struct dev_weight *w)
{
    return w->transposed ? 1 : w->in;
}
static inline size_t cpu_in_step(const struct dev_weight *w)
{
    return w->transposed ? w->out : 1;
}

// -- operations, by file
// gemm.c
struct dev_weight *cpu_weight_new(struct dev *, const void *, enum dev_type, size_t, size_t, bool,
                                  struct err *);
struct dev_weight *cpu_weight_view(struct dev *, const float *, size_t, size_t, bool, struct err *);
void cpu_weight_refresh(struct dev *, struct dev_weight *);
void cpu_weight_free(struct dev *, struct dev_weight *);
size_t cpu_weight_values(const struct dev_weight *);
void cpu_linear(struct dev *, size_t, const void *, size_t, const struct dev_weight *,
                const struct dev_epilogue *, void *, bool);
void cpu_gemm(struct dev *, bool, bool, size_t, size_t, size_t, float, const float *, size_t,
              const float *, size_t, float, float *, size_t);
// grad/linear.c
void cpu_linear_dx(struct dev *, size_t, const void *, const struct dev_weight *, void *);
void cpu_linear_dw(struct dev *, size_t, const void *, const void *, size_t,
                   const struct dev_weight *, float *, float *);
// attention.c
void cpu_attention(struct dev *, const struct dev_attention *);
// norm.c
void cpu_layer_norm(struct dev *, size_t, size_t, const float *, size_t, const float *,
                    const float *, float, void *, bool, float *, float *);
void cpu_unit(struct dev *, size_t, size_t, const float *, float *, float *);
// rows.c
void cpu_gather(struct dev *, size_t, size_t, const float *, size_t, const int32_t *, float *);
void cpu_gather_act(struct dev *, size_t, size_t, const void *, size_t, const int32_t *, void *);
void cpu_patchify(struct dev *, size_t, size_t, size_t, const uint8_t *, const float[3],
                  const float[3], void *);
void cpu_assemble(struct dev *, size_t, size_t, size_t, const float *, const float *, const float *,
                  float *);
void cpu_embed(struct dev *, const struct dev_ragged *, size_t, const int32_t *, const float *,
               const float *, float *);
// glu.c
void cpu_swiglu(struct dev *, size_t, size_t, const void *, void *);
void cpu_rotate(struct dev *, size_t, size_t, size_t, size_t, const float *, bool, void *, size_t);
void cpu_widen(struct dev *, size_t, const void *, float *);
void cpu_mean_rows(struct dev *, size_t, size_t, size_t, size_t, const float *, float *);
// search.c
void cpu_scores(struct dev *, size_t, const void *, size_t, const void *, size_t, float *, size_t);
void cpu_hits_top(struct dev *, const struct dev_scores *, const struct dev_top *,
                  const struct dev_hits *);
void cpu_hits_above(struct dev *, const struct dev_scores *, const float *, bool,
                    const struct dev_hits *);

#endif
