// SPDX-License-Identifier: Apache-2.0
// Inside the CUDA device: what its files share on the host. Nobody else includes it.
//
// Everything is given to one stream, in order; the only other stream carries copies from the host,
// into buffers of its own. Every call's status goes through cuda_check: the first failure is kept
// in the device, and after it nothing more is launched.
//
// Kernels have one-dimensional grids and blocks. No sum depends on the order in which blocks run:
// there are no floating-point atomics, partial sums have fixed bounds and are joined in one order.
#ifndef DEVICE_CUDA_CUDA_H
#define DEVICE_CUDA_CUDA_H

#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

extern "C" {
#include "device/dev.h"
#include "base/mem.h"
}

static constexpr int CUDA_WARP = 32, CUDA_BLOCK = 256;
static constexpr size_t CUDA_DOT_RUN = 16384; // dev.h: dot_run

// Buffers that an operation needs for itself, by what they hold.
enum cuda_slot {
    SLOT_GEMM,    // cuBLASLt's workspace
    SLOT_LINEAR,  // float32 rows before a layer scale
    SLOT_BIAS,    // a bias in the activation's type
    SLOT_REDUCE,  // partial sums
    SLOT_ATT,     // attention's dout . out
    SLOT_KEYS,    // sorted (row, place) pairs
    SLOT_STAGING, // copies from the host on their way
    SLOT_COUNT
};

// A planted fault: -DPLANT=norm makes what norm.cu computes slightly wrong, so that a test can show
// that the tests of the device notice it and name the file. Without -DPLANT nothing is planted.
enum cuda_plant {
    PLANT_none,
    PLANT_attention,
    PLANT_attention_bwd,
    PLANT_elementwise,
    PLANT_gemm,
    PLANT_glu,
    PLANT_loss,
    PLANT_norm,
    PLANT_optim,
    PLANT_reduce,
    PLANT_rows,
    PLANT_search
};
#ifndef PLANT
#define PLANT none
#endif
#define PLANT_JOIN(name) PLANT_##name
#define PLANT_OF(name) PLANT_JOIN(name)
template <enum cuda_plant File> static constexpr bool cuda_planted = File == PLANT_OF(PLANT);

struct cuda_pool; // memory.cu
struct cuda_plans;

// Pieces of pinned memory, used in turn, for copies on their way.
static constexpr int CUDA_PIECES_MAX = 256;
struct cuda_staging {
    int n, next;
    size_t bytes;        // of a piece
    unsigned char *host; // pinned [n, bytes]
    struct cuda_copy {
        cudaEvent_t copied, taken; // the piece is free again; so is the device's
        bool used;
        void *to;     // downloads: where the bytes go
        size_t bytes; // and how many
    } copy[CUDA_PIECES_MAX];
};

// A kernel that fails is found out at a wait: the ones given last are named then.
static constexpr size_t CUDA_LAUNCHED = 6;

struct cuda {
    int ordinal;
    bool tf32;
    char name[32];
    cudaStream_t stream, copies;
    cublasLtHandle_t lt;
    struct cuda_pool *pool;
    struct cuda_plans *plans;
    struct cuda_staging small, up, down; // small ones to the device; others, both ways
    uint64_t fetches, delivered;         // downloads begun, finished
    void *slot[SLOT_COUNT];
    size_t slot_bytes[SLOT_COUNT];
    uint64_t slot_moves;                 // how often a slot got other memory
    struct dev_record *recording;        // or NULL
    const char *launched[CUDA_LAUNCHED]; // the kernels given last, by number
    size_t launches;
};

static inline struct cuda *cuda_of(struct dev *d)
{
    return (struct cuda *)d->impl;
}

// Keeps the first failure.
void cuda_fail(struct dev *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// True when `e` is success; keeps "cuda:0: WHAT: why" otherwise.
bool cuda_check(struct dev *d, cudaError_t e, const char *what);
bool cuda_check_lt(struct dev *d, cublasStatus_t s, const char *what);
static inline bool cuda_failed(const struct dev *d)
{
    return d->failure.text[0] != 0;
}

// Makes the device the calling thread's current one; false when that or an earlier call failed.
bool cuda_enter(struct dev *d);

// At least `bytes` of device memory, contents undefined, good until the slot is asked for again;
// NULL when that failed or an earlier call did.
void *cuda_slot(struct dev *d, enum cuda_slot slot, size_t bytes);

// -- memory.cu
int cuda_memory(struct dev *d, size_t *available, size_t *total, struct err *e);
size_t cuda_own_bytes(void); // of device memory that slots take at most, SLOT_LINEAR left out
int cuda_memory_open(struct dev *d, struct err *e);
void cuda_memory_close(struct dev *d);
void *cuda_raw(struct dev *d, size_t bytes, struct err *e); // not zeroed
void *cuda_alloc(struct dev *d, size_t bytes, struct err *e);
void cuda_free(struct dev *d, void *p);
void cuda_upload(struct dev *d, void *dst, const void *host, size_t bytes);
void cuda_upload_ahead(struct dev *d, void *dst, const void *host, size_t bytes);
int cuda_download(struct dev *d, void *host, const void *src, size_t bytes, struct err *e);
uint64_t cuda_fetch(struct dev *d, void *host, const void *src, size_t bytes);
int cuda_fetched(struct dev *d, uint64_t number, struct err *e);
int cuda_sync(struct dev *d, struct err *e);
void cuda_zero(struct dev *d, void *dst, size_t bytes);
void cuda_copy(struct dev *d, void *dst, const void *src, size_t bytes);

// Launches kernel(args...) on `blocks` blocks of `threads`; none for zero blocks. `shared`: bytes
// of dynamic shared memory.
template <class... P, class... A>
void cuda_launch(struct dev *d, const char *what, void (*kernel)(P...), size_t blocks,
                 unsigned threads, size_t shared, A... args)
{
    if (!blocks || !cuda_enter(d))
        return;
    if (blocks > 0x7fffffff) {
        cuda_fail(d, "%s: %zu blocks are more than one launch has", what, blocks);
        return;
    }
    cudaError_t e = cudaSuccess;
    if (shared > 48 << 10)
        e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    cudaLaunchConfig_t c = {};
    c.gridDim = dim3((unsigned)blocks);
    c.blockDim = dim3(threads);
    c.dynamicSmemBytes = shared;
    c.stream = cuda_of(d)->stream;
    cuda_of(d)->launched[cuda_of(d)->launches++ % CUDA_LAUNCHED] = what;
    if (e == cudaSuccess)
        e = cudaLaunchKernelEx(&c, kernel, P(args)...);
    if (e != cudaSuccess)
        cuda_fail(d, "%s: %zu blocks of %u threads, %zu bytes of shared memory: %s", what, blocks,
                  threads, shared, cudaGetErrorString(e));
}

static inline size_t cuda_blocks(size_t n, size_t per)
{
    return n / per + (n % per != 0);
}

// -- operations, by file
// record.cu
bool cuda_record(struct dev *, struct dev_record **);
bool cuda_recorded(struct dev *, struct dev_record *);
void cuda_record_free(struct dev *, struct dev_record *);
// gemm.cu
int cuda_gemm_open(struct dev *d, struct err *e);
void cuda_gemm_close(struct dev *d);
size_t cuda_gemm_workspace(void);
struct dev_weight *cuda_weight_new(struct dev *, const void *, enum dev_type, size_t, size_t, bool,
                                   struct err *);
struct dev_weight *cuda_weight_view(struct dev *, const float *, size_t, size_t, bool,
                                    struct err *);
void cuda_weight_refresh(struct dev *, struct dev_weight *);
void cuda_weight_free(struct dev *, struct dev_weight *);
size_t cuda_weight_values(const struct dev_weight *);
void cuda_linear(struct dev *, size_t, const void *, size_t, const struct dev_weight *,
                 const struct dev_epilogue *, void *, bool);
void cuda_linear_dx(struct dev *, size_t, const void *, const struct dev_weight *, void *);
void cuda_linear_dw(struct dev *, size_t, const void *, const void *, size_t,
                    const struct dev_weight *, float *, float *);
void cuda_gemm(struct dev *, bool, bool, size_t, size_t, size_t, float, const float *, size_t,
               const float *, size_t, float, float *, size_t);
// norm.cu
void cuda_layer_norm(struct dev *, size_t, size_t, const float *, size_t, const float *,
                     const float *, float, void *, bool, float *, float *);
void cuda_layer_norm_bwd(struct dev *, size_t, size_t, const float *, size_t, const float *,
                         const float *, const float *, const void *, bool, float *, size_t, float *,
                         float *);
void cuda_unit(struct dev *, size_t, size_t, const float *, float *, float *);
void cuda_unit_bwd(struct dev *, size_t, size_t, const float *, const float *, const float *,
                   float *);
// attention.cu, attention-bwd.cu
void cuda_attention(struct dev *, const struct dev_attention *);
void cuda_attention_bwd(struct dev *, const struct dev_attention *, const void *, void *, void *,
                        void *);
// elementwise.cu
// y = act(x) gamma, rows of `cols`: added to `residual`, or stored as float32 (y_f32) or act. x is
// float32 (x_f32) or act, and may be y of the same type.
void cuda_finish(struct dev *, size_t rows, size_t cols, const void *x, bool x_f32, enum dev_act,
                 const float *gamma, float *residual, void *y, bool y_f32);
void cuda_act_bwd(struct dev *, size_t, enum dev_act, const void *, const void *, void *);
void cuda_to_act(struct dev *, size_t, size_t, const float *, size_t, const float *, void *);
void cuda_gamma_bwd(struct dev *, size_t, size_t, const float *, const void *, float *);
void cuda_axpy(struct dev *, size_t, float, const float *, float *);
void cuda_scale(struct dev *, size_t, float, float *);
// glu.cu
void cuda_swiglu(struct dev *, size_t, size_t, const void *, void *);
void cuda_swiglu_bwd(struct dev *, size_t, size_t, const void *, const void *, void *);
void cuda_rotate(struct dev *, size_t, size_t, size_t, size_t, const float *, bool, void *, size_t);
void cuda_widen(struct dev *, size_t, const void *, float *);
void cuda_mean_rows(struct dev *, size_t, size_t, size_t, size_t, const float *, float *);
void cuda_mean_rows_bwd(struct dev *, size_t, size_t, size_t, size_t, const float *, float *);
// reduce.cu
void cuda_col_sums(struct dev *, size_t rows, size_t cols, const void *x, bool x_f32, size_t x_ld,
                   float *sums);
double cuda_dot(struct dev *, size_t, const float *, const float *);
double cuda_sum(struct dev *, size_t, const float *);
void cuda_dot_to(struct dev *, size_t, const float *, const float *, double *);
void cuda_dot_runs(struct dev *, size_t, const float *, const float *, double *);
void cuda_dot_join(struct dev *, size_t, const double *, double *);
void cuda_dot_add(struct dev *, size_t, const float *, const float *, double *);
void cuda_weigh(struct dev *, size_t, const double *, const double *, float *);
// rows.cu
void cuda_gather(struct dev *, size_t, size_t, const float *, size_t, const int32_t *, float *);
void cuda_gather_act(struct dev *, size_t, size_t, const void *, size_t, const int32_t *, void *);
void cuda_scatter_add(struct dev *, size_t, size_t, const float *, const int32_t *, float *,
                      size_t);
void cuda_patchify(struct dev *, size_t, size_t, size_t, const uint8_t *, const float[3],
                   const float[3], void *);
void cuda_assemble(struct dev *, size_t, size_t, size_t, const float *, const float *,
                   const float *, float *);
void cuda_assemble_bwd(struct dev *, size_t, size_t, size_t, const float *, float *, float *,
                       void *);
void cuda_embed(struct dev *, const struct dev_ragged *, size_t, const int32_t *, const float *,
                const float *, float *);
void cuda_embed_bwd(struct dev *, const struct dev_ragged *, size_t, const int32_t *, const float *,
                    float *, float *);
// loss.cu
void cuda_row_lse(struct dev *, size_t, size_t, const float *, size_t, float *);
void cuda_softmax_ce(struct dev *, size_t, size_t, const float *, size_t, const int32_t *, float,
                     float *, float *);
void cuda_softmax_soft_ce(struct dev *, size_t, size_t, const float *, size_t, const float *,
                          size_t, float, float *, float *, float *);
void cuda_given_ce(struct dev *, size_t, size_t, const struct dev_given *);
void cuda_sigmoid_ce(struct dev *, size_t, size_t, const float *, size_t, float, float *, float *);
void cuda_margin_filter(struct dev *, size_t, size_t, const float *, size_t, const int32_t *, float,
                        float, float, float *);
void cuda_label_least(struct dev *, size_t, size_t, const struct dev_margin *);
void cuda_label_margin(struct dev *, size_t, size_t, const struct dev_margin *);
void cuda_pick_dots(struct dev *, size_t, size_t, size_t, float, const float *, const float *,
                    const int32_t *, float *);
// gemm.cu, search.cu
void cuda_scores(struct dev *, size_t, const void *, size_t, const void *, size_t, float *, size_t);
void cuda_hits_top(struct dev *, const struct dev_scores *, const struct dev_top *,
                   const struct dev_hits *);
void cuda_hits_above(struct dev *, const struct dev_scores *, const float *, bool,
                     const struct dev_hits *);
// optim.cu
void cuda_clip(struct dev *, size_t, const double *, size_t, const double *, float,
               struct dev_clip *);
void cuda_clamp(struct dev *, size_t, float, float, float *);
void cuda_adamw(struct dev *, size_t, const struct dev_adamw *, const float *, float *, float *,
                float *);
void cuda_adamw_rows(struct dev *, size_t, size_t, const int32_t *, const struct dev_adamw *,
                     const float *, float *, float *, float *);

#endif
