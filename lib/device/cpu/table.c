// SPDX-License-Identifier: Apache-2.0
// The CPU device: memory, failures, threads, and the table of its operations.
#include "device/cpu/cpu.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "device/cpu/dnnl.h"
#include "device/cpu/grad/grad.h"
#include "base/isa.h"
#include "base/mem.h"
#include "system/memory-limit.h"

// OpenBLAS has it, the reference headers do not.
extern void openblas_set_num_threads(int) __attribute__((weak));

void cpu_fail(struct dev *d, const struct err *e)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    if (!d->failure.text[0])
        d->failure = *e;
    pthread_mutex_unlock(&lock);
}

void *cpu_scratch(struct dev *d, int worker, int slot, size_t bytes)
{
    struct cpu_scratch *s = &cpu_of(d)->scratch[worker * CPU_SLOTS + slot];
    if (s->n >= bytes && s->p)
        return s->p;
    struct err e;
    free(s->p);
    s->p = mem_alloc(bytes, 1, &e);
    s->n = s->p ? bytes : 0;
    if (!s->p)
        cpu_fail(d, &e);
    return s->p;
}

struct runs {
    size_t n, run;
    void (*work)(void *, size_t, size_t, int);
    void *ctx;
};

static void one_run(void *ctx, size_t i, int worker)
{
    const struct runs *r = ctx;
    size_t first = i * r->run, left = r->n - first;
    r->work(r->ctx, first, left < r->run ? left : r->run, worker);
}

void cpu_for_runs(struct dev *d, size_t n, size_t run,
                  void (*work)(void *ctx, size_t first, size_t count, int worker), void *ctx)
{
    struct runs r = {n, run, work, ctx};
    pool_for(cpu_of(d)->pool, n / run + (n % run != 0), one_run, &r);
}

static int cpu_memory(struct dev *d, size_t *available, size_t *total, struct err *e)
{
    struct memory_limit m;
    (void)d;
    memory_limit_read("", &m);
    if (m.left == UINT64_MAX)
        return err_set(e, "the size of memory is not known");
    *available = m.left;
    *total = m.total == UINT64_MAX ? m.left : m.total;
    return 0;
}

static void *cpu_alloc(struct dev *d, size_t bytes, struct err *e)
{
    if (d->failure.text[0]) {
        *e = d->failure;
        return NULL;
    }
    return mem_alloc(bytes, 1, e);
}

static void cpu_free(struct dev *d, void *p)
{
    (void)d;
    free(p);
}

static void cpu_upload(struct dev *d, void *dst, const void *host, size_t bytes)
{
    (void)d;
    memcpy(dst, host, bytes);
}

static int cpu_sync(struct dev *d, struct err *e)
{
    if (!d->failure.text[0])
        return 0;
    *e = d->failure;
    return -1;
}

static int cpu_download(struct dev *d, void *host, const void *src, size_t bytes, struct err *e)
{
    memcpy(host, src, bytes);
    return cpu_sync(d, e);
}

static void *cpu_stream(struct dev *d)
{
    (void)d;
    return NULL;
}

static uint64_t cpu_fetch(struct dev *d, void *host, const void *src, size_t bytes)
{
    (void)d;
    memcpy(host, src, bytes);
    return 0;
}

static int cpu_fetched(struct dev *d, uint64_t number, struct err *e)
{
    (void)number;
    return cpu_sync(d, e);
}

static bool cpu_record(struct dev *d, struct dev_record **r)
{
    (void)d;
    (void)r;
    return true;
}

static bool cpu_recorded(struct dev *d, struct dev_record *r)
{
    (void)d;
    (void)r;
    return false;
}

static void cpu_record_free(struct dev *d, struct dev_record *r)
{
    (void)d;
    (void)r;
}

static void cpu_zero(struct dev *d, void *dst, size_t bytes)
{
    (void)d;
    memset(dst, 0, bytes);
}

static void cpu_copy(struct dev *d, void *dst, const void *src, size_t bytes)
{
    (void)d;
    memmove(dst, src, bytes);
}

static void cpu_close(struct dev *d)
{
    struct cpu *c = cpu_of(d);
    if (!c)
        return;
    for (int i = 0; c->scratch && i < d->threads * CPU_SLOTS; i++)
        free(c->scratch[i].p);
    free(c->scratch);
    cpu_matmul_free(c->matmul);
    pool_free(c->pool);
    free(c);
    d->impl = NULL;
}

static const struct dev_ops ops = {
    .memory = cpu_memory,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .upload = cpu_upload,
    .upload_ahead = cpu_upload,
    .download = cpu_download,
    .fetch = cpu_fetch,
    .fetched = cpu_fetched,
    .sync = cpu_sync,
    .stream = cpu_stream,
    .zero = cpu_zero,
    .record = cpu_record,
    .recorded = cpu_recorded,
    .record_free = cpu_record_free,
    .copy = cpu_copy,
    .weight_new = cpu_weight_new,
    .weight_view = cpu_weight_view,
    .weight_refresh = cpu_weight_refresh,
    .weight_free = cpu_weight_free,
    .weight_values = cpu_weight_values,
    .linear = cpu_linear,
    .linear_dx = cpu_linear_dx,
    .linear_dw = cpu_linear_dw,
    .gemm = cpu_gemm,
    .layer_norm = cpu_layer_norm,
    .attention = cpu_attention,
    .gather = cpu_gather,
    .gather_act = cpu_gather_act,
    .unit = cpu_unit,
    .patchify = cpu_patchify,
    .assemble = cpu_assemble,
    .embed = cpu_embed,
    .swiglu = cpu_swiglu,
    .rotate = cpu_rotate,
    .widen = cpu_widen,
    .mean_rows = cpu_mean_rows,
    .swiglu_bwd = dev_cpu_swiglu_bwd,
    .mean_rows_bwd = dev_cpu_mean_rows_bwd,
    .layer_norm_bwd = dev_cpu_layer_norm_bwd,
    .attention_bwd = dev_cpu_attention_bwd,
    .act_bwd = dev_cpu_act_bwd,
    .to_act = dev_cpu_to_act,
    .gamma_bwd = dev_cpu_gamma_bwd,
    .axpy = dev_cpu_axpy,
    .scale = dev_cpu_scale,
    .scatter_add = dev_cpu_scatter_add,
    .unit_bwd = dev_cpu_unit_bwd,
    .assemble_bwd = dev_cpu_assemble_bwd,
    .embed_bwd = dev_cpu_embed_bwd,
    .row_lse = dev_cpu_row_lse,
    .softmax_ce = dev_cpu_softmax_ce,
    .softmax_soft_ce = dev_cpu_softmax_soft_ce,
    .given_ce = dev_cpu_given_ce,
    .sigmoid_ce = dev_cpu_sigmoid_ce,
    .margin_filter = dev_cpu_margin_filter,
    .label_least = dev_cpu_label_least,
    .label_margin = dev_cpu_label_margin,
    .pick_dots = dev_cpu_pick_dots,
    .dot = dev_cpu_dot,
    .sum = dev_cpu_sum,
    .dot_to = dev_cpu_dot_to,
    .dot_runs = dev_cpu_dot_runs,
    .dot_join = dev_cpu_dot_join,
    .dot_add = dev_cpu_dot_add,
    .weigh = dev_cpu_weigh,
    .scores = cpu_scores,
    .hits_top = cpu_hits_top,
    .hits_above = cpu_hits_above,
    .clip = dev_cpu_clip,
    .clamp = dev_cpu_clamp,
    .adamw = dev_cpu_adamw,
    .adamw_rows = dev_cpu_adamw_rows,
    .close = cpu_close,
};

int dev_cpu_open(struct dev *d, enum dev_type act, int threads, bool emulate, struct err *e)
{
    if (threads < 1)
        threads = 1;
    if (act == DEV_AUTO)
        act = mm_bf16_faster() ? DEV_BF16 : DEV_F32;
    if (act == DEV_BF16 && !emulate && !mm_has_bf16())
        return err_set(e,
                       "this processor has no bfloat16 products (avx512_bf16 or amx)%s; --dtype "
                       "auto takes float32 here",
                       isa_level() < isa_machine() ? " at the level of CLIP_CID_ISA" : "");
    *d = (struct dev){.op = &ops,
                      .act = act,
                      .act_size = act == DEV_BF16 ? 2 : 4,
                      .threads = threads,
                      .weight_copies = 2,
                      .dot_run = CPU_DOT_RUN,
                      .name = "cpu"};
    struct cpu *c = d->impl = mem_alloc(1, sizeof *c, e);
    if (!c)
        return -1;
    c->emulate = act == DEV_BF16 && !mm_has_bf16();
    c->pool = pool_new(threads, e);
    c->matmul = c->pool ? cpu_matmul_new(threads, e) : NULL;
    c->scratch = c->matmul ? mem_alloc((size_t)threads * CPU_SLOTS, sizeof *c->scratch, e) : NULL;
    if (!c->scratch) {
        cpu_close(d);
        return -1;
    }
    // Our own threads share the work out; each calls OpenBLAS for itself.
    if (openblas_set_num_threads)
        openblas_set_num_threads(1);
    return 0;
}
