// SPDX-License-Identifier: Apache-2.0
// The CUDA device: opening, failures, and the table of its operations.
#include "device/cuda/dev-cuda.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "device/cuda/cuda.h"
extern "C" {
#include "base/launch.h"
}

// ViT-bigG-14: 127 pictures, whose smallest product is 257 x 13 tiles of 128, 25 rounds of 132
// multiprocessors.
static constexpr size_t PASS_ROWS = 32768;

void cuda_fail(struct dev *d, const char *fmt, ...)
{
    if (cuda_failed(d))
        return;
    char text[ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err_set(&d->failure, "%s: %s", d->name, text);
}

// The kernels given last, the latest first: one of them failed, or one before.
static void say_launched(const struct cuda *c, char *text, size_t room)
{
    size_t n = c->launches < CUDA_LAUNCHED ? c->launches : CUDA_LAUNCHED, at = 0;
    text[0] = 0;
    for (size_t i = 1; i <= n && at < room; i++)
        at += (size_t)snprintf(text + at, room - at, "%s%s", i > 1 ? ", " : "",
                               c->launched[(c->launches - i) % CUDA_LAUNCHED]);
}

static bool of_a_kernel(cudaError_t e)
{
    return e == cudaErrorIllegalAddress || e == cudaErrorLaunchFailure ||
           e == cudaErrorMisalignedAddress || e == cudaErrorIllegalInstruction;
}

bool cuda_check(struct dev *d, cudaError_t e, const char *what)
{
    char names[200];
    if (e == cudaSuccess)
        return true;
    say_launched(cuda_of(d), names, sizeof names);
    if (of_a_kernel(e) && names[0])
        cuda_fail(d, "%s: %s; given last: %s. With CUDA_LAUNCH_BLOCKING=1 the kernel is named",
                  what, cudaGetErrorString(e), names);
    else
        cuda_fail(d, "%s: %s", what, cudaGetErrorString(e));
    return false;
}

bool cuda_enter(struct dev *d)
{
    static thread_local int current = -1;
    int wanted = cuda_of(d)->ordinal;
    if (cuda_failed(d))
        return false;
    if (current == wanted)
        return true;
    if (!cuda_check(d, cudaSetDevice(wanted), "choosing the device"))
        return false;
    current = wanted;
    return true;
}

// cuBLASLt says only that a launch failed where its kernel found no memory to be loaded into.
bool cuda_check_lt(struct dev *d, cublasStatus_t s, const char *what)
{
    static const size_t SCARCE = (size_t)256 << 20;
    size_t available, total;
    if (s == CUBLAS_STATUS_SUCCESS)
        return true;
    if (cudaMemGetInfo(&available, &total) == cudaSuccess && available < SCARCE)
        cuda_fail(d, "%s: %s; only %zu MiB of memory are free: use a smaller batch", what,
                  cublasLtGetStatusString(s), available >> 20);
    else
        cuda_fail(d, "%s: %s", what, cublasLtGetStatusString(s));
    return false;
}

static void cuda_close(struct dev *d)
{
    struct cuda *c = cuda_of(d);
    if (!c)
        return;
    cuda_gemm_close(d);
    cuda_memory_close(d);
    if (c->copies)
        cuda_check(d, cudaStreamDestroy(c->copies), "closing");
    if (c->stream)
        cuda_check(d, cudaStreamDestroy(c->stream), "closing");
    free(c);
    d->impl = NULL;
}

static void *cuda_stream(struct dev *d)
{
    return cuda_of(d)->stream;
}

static const struct dev_ops ops = {
    .memory = cuda_memory,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .upload = cuda_upload,
    .download = cuda_download,
    .upload_ahead = cuda_upload_ahead,
    .fetch = cuda_fetch,
    .fetched = cuda_fetched,
    .sync = cuda_sync,
    .stream = cuda_stream,
    .zero = cuda_zero,
    .record = cuda_record,
    .recorded = cuda_recorded,
    .record_free = cuda_record_free,
    .copy = cuda_copy,
    .weight_new = cuda_weight_new,
    .weight_view = cuda_weight_view,
    .weight_refresh = cuda_weight_refresh,
    .weight_free = cuda_weight_free,
    .weight_values = cuda_weight_values,
    .linear = cuda_linear,
    .linear_dx = cuda_linear_dx,
    .linear_dw = cuda_linear_dw,
    .gemm = cuda_gemm,
    .layer_norm = cuda_layer_norm,
    .layer_norm_bwd = cuda_layer_norm_bwd,
    .attention = cuda_attention,
    .attention_bwd = cuda_attention_bwd,
    .act_bwd = cuda_act_bwd,
    .to_act = cuda_to_act,
    .gamma_bwd = cuda_gamma_bwd,
    .swiglu = cuda_swiglu,
    .swiglu_bwd = cuda_swiglu_bwd,
    .rotate = cuda_rotate,
    .widen = cuda_widen,
    .axpy = cuda_axpy,
    .scale = cuda_scale,
    .gather = cuda_gather,
    .scatter_add = cuda_scatter_add,
    .gather_act = cuda_gather_act,
    .unit = cuda_unit,
    .unit_bwd = cuda_unit_bwd,
    .mean_rows = cuda_mean_rows,
    .mean_rows_bwd = cuda_mean_rows_bwd,
    .patchify = cuda_patchify,
    .assemble = cuda_assemble,
    .assemble_bwd = cuda_assemble_bwd,
    .embed = cuda_embed,
    .embed_bwd = cuda_embed_bwd,
    .row_lse = cuda_row_lse,
    .softmax_ce = cuda_softmax_ce,
    .softmax_soft_ce = cuda_softmax_soft_ce,
    .given_ce = cuda_given_ce,
    .sigmoid_ce = cuda_sigmoid_ce,
    .margin_filter = cuda_margin_filter,
    .label_least = cuda_label_least,
    .label_margin = cuda_label_margin,
    .pick_dots = cuda_pick_dots,
    .dot = cuda_dot,
    .sum = cuda_sum,
    .dot_to = cuda_dot_to,
    .dot_runs = cuda_dot_runs,
    .dot_join = cuda_dot_join,
    .dot_add = cuda_dot_add,
    .weigh = cuda_weigh,
    .scores = cuda_scores,
    .hits_top = cuda_hits_top,
    .hits_above = cuda_hits_above,
    .clip = cuda_clip,
    .clamp = cuda_clamp,
    .adamw = cuda_adamw,
    .adamw_rows = cuda_adamw_rows,
    .close = cuda_close,
};

// N of "cuda" or "cuda:N".
static int ordinal_of(const char *name, int *n, struct err *e)
{
    char *end;
    *n = 0;
    if (!name[4])
        return 0;
    long v = strtol(name + 5, &end, 10);
    if (end == name + 5 || *end || v < 0 || v > 1023)
        return err_set(e, "device %s: the number after cuda: is not one", name);
    *n = (int)v;
    return 0;
}

// "cuda" alone: of several devices the tasks of a host take one each, in turn.
static int find_device(const char *name, int *n, struct err *e)
{
    int count = 0, major = 0;
    if (ordinal_of(name, n, e))
        return -1;
    cudaError_t s = cudaGetDeviceCount(&count);
    if (s != cudaSuccess || !count)
        return err_set(e, "device %s: no GPU can be used here: %s", name,
                       s == cudaSuccess ? "none is there" : cudaGetErrorString(s));
    if (!strcmp(name, "cuda"))
        *n = launch_local_rank() % count;
    if (*n >= count)
        return err_set(e, "device %s: there are %d GPUs, numbered from 0", name, count);
    s = cudaSetDevice(*n);
    if (s == cudaSuccess)
        s = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, *n);
    if (s != cudaSuccess)
        return err_set(e, "device %s: %s", name, cudaGetErrorString(s));
    if (major < 8)
        return err_set(e, "device %s: compute capability %d, 8 or later is needed", name, major);
    return 0;
}

int dev_cuda_open(struct dev *d, const char *name, enum dev_type act, struct err *e)
{
    int n;
    if (find_device(name, &n, e))
        return -1;
    struct cuda *c = (struct cuda *)mem_alloc(1, sizeof *c, e);
    if (!c)
        return -1;
    const char *tf32 = getenv("CLIP_CID_TF32");
    c->ordinal = n;
    c->tf32 = tf32 && tf32[0] == '1';
    snprintf(c->name, sizeof c->name, "cuda:%d", n);
    *d = (struct dev){};
    d->op = &ops;
    d->act = act;
    d->act_size = act == DEV_BF16 ? 2 : 4;
    d->threads = 1;
    d->pass_rows = PASS_ROWS;
    d->reserve = true;
    d->weight_copies = act == DEV_BF16 ? 1 : 0;
    d->own_bytes = cuda_own_bytes();
    d->dot_run = CUDA_DOT_RUN;
    d->impl = c;
    d->name = c->name;
    bool good =
        cuda_check(d, cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking), "opening") &&
        cuda_check(d, cudaStreamCreateWithFlags(&c->copies, cudaStreamNonBlocking), "opening");
    *e = d->failure;
    if (!good || cuda_memory_open(d, e) || cuda_gemm_open(d, e)) {
        cuda_close(d);
        return -1;
    }
    return 0;
}
