// SPDX-License-Identifier: Apache-2.0
#include "device/cpu/dnnl.h"

#include <dnnl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/isa.h"
#include "base/mem.h"

// Present when oneDNN was built with OpenMP: our threads call it, so it must not start its own.
extern void omp_set_num_threads(int) __attribute__((weak));

struct mm_engine {
    dnnl_engine_t engine;
};

// -- the two versions of the API: in 2 a memory descriptor is a struct, in 3 a handle
#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t md_t;

static void md_free(md_t m)
{
    if (m)
        dnnl_memory_desc_destroy(m);
}

static md_t md_clone(const_dnnl_memory_desc_t m)
{
    md_t c = NULL;
    return m && dnnl_memory_desc_clone(&c, m) == dnnl_success ? c : NULL;
}

static md_t md_strided(size_t rows, size_t cols, size_t row_step, size_t col_step,
                       dnnl_data_type_t t)
{
    dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)cols};
    dnnl_dims_t steps = {(dnnl_dim_t)row_step, (dnnl_dim_t)col_step};
    md_t m = NULL;
    return dnnl_memory_desc_create_with_strides(&m, 2, dims, t, steps) == dnnl_success ? m : NULL;
}

static md_t md_any(size_t rows, size_t cols, dnnl_data_type_t t)
{
    dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)cols};
    md_t m = NULL;
    return dnnl_memory_desc_create_with_tag(&m, 2, dims, t, dnnl_format_tag_any) == dnnl_success
               ? m
               : NULL;
}

static dnnl_status_t matmul_desc(dnnl_primitive_desc_t *pd, dnnl_engine_t g, md_t a, md_t b, md_t c,
                                 dnnl_primitive_attr_t attr)
{
    return dnnl_matmul_primitive_desc_create(pd, g, a, b, NULL, c, attr);
}
#else
typedef dnnl_memory_desc_t *md_t;

static void md_free(md_t m)
{
    free(m);
}

static md_t md_clone(const dnnl_memory_desc_t *m)
{
    md_t c = m ? malloc(sizeof *c) : NULL;
    if (c)
        *c = *m;
    return c;
}

static md_t md_strided(size_t rows, size_t cols, size_t row_step, size_t col_step,
                       dnnl_data_type_t t)
{
    dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)cols};
    dnnl_dims_t steps = {(dnnl_dim_t)row_step, (dnnl_dim_t)col_step};
    dnnl_memory_desc_t m;
    return dnnl_memory_desc_init_by_strides(&m, 2, dims, t, steps) == dnnl_success ? md_clone(&m)
                                                                                   : NULL;
}

static md_t md_any(size_t rows, size_t cols, dnnl_data_type_t t)
{
    dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)cols};
    dnnl_memory_desc_t m;
    return dnnl_memory_desc_init_by_tag(&m, 2, dims, t, dnnl_format_tag_any) == dnnl_success
               ? md_clone(&m)
               : NULL;
}

static dnnl_status_t matmul_desc(dnnl_primitive_desc_t *pd, dnnl_engine_t g, md_t a, md_t b, md_t c,
                                 dnnl_primitive_attr_t attr)
{
    dnnl_matmul_desc_t d;
    dnnl_status_t s = dnnl_matmul_desc_init(&d, a, b, NULL, c);
    return s == dnnl_success ? dnnl_primitive_desc_create(pd, &d, attr, g, NULL) : s;
}
#endif

// -- shared by both

// What one thread needs to run a product.
struct mm_worker {
    dnnl_stream_t stream;
    dnnl_memory_t a, c, scratch;
};

struct mm {
    struct mm_shape shape;
    dnnl_primitive_t primitive;
    md_t b; // layout
    struct mm_worker *workers;
    int n_workers;
};

struct mm_b {
    size_t k, n;
    bool bf16;
    md_t md;
    void *data;
    dnnl_memory_t memory;
};

static int fail(struct err *e, const char *what, dnnl_status_t s)
{
    return err_set(e, "oneDNN: %s: %s", what,
                   s == dnnl_out_of_memory       ? "out of memory"
                   : s == dnnl_unimplemented     ? "not implemented for this processor"
                   : s == dnnl_invalid_arguments ? "invalid arguments"
                                                 : "failed");
}

static void own_thread_only(void)
{
    static _Thread_local bool done;
    if (!done && omp_set_num_threads)
        omp_set_num_threads(1);
    done = true;
}

// oneDNN keeps to the level of isa.h; it must hear of it before anything else. Its own variable,
// where it is set, has the last word.
static void lower(void)
{
#if defined(__x86_64__)
    // Of the levels that another may be lowered to; oneDNN 3 has no name for all.
    static const dnnl_cpu_isa_t most[ISA_AVX512] = {dnnl_cpu_isa_sse41, dnnl_cpu_isa_avx2};
    if (isa_level() < isa_machine() && !getenv("ONEDNN_MAX_CPU_ISA") && !getenv("DNNL_MAX_CPU_ISA"))
        dnnl_set_max_cpu_isa(most[isa_level()]);
#endif
}

static void lower_once(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, lower);
}

static dnnl_data_type_t type_of(bool bf16)
{
    return bf16 ? dnnl_bf16 : dnnl_f32;
}

// Whether oneDNN may use all instructions of `level`.
static bool may_use(dnnl_cpu_isa_t level)
{
    lower_once();
    return (dnnl_get_effective_cpu_isa() & level) == level;
}

bool mm_has_bf16(void)
{
#if defined(__x86_64__)
    return may_use(dnnl_cpu_isa_avx512_core_bf16);
#else
    return false;
#endif
}

bool mm_bf16_faster(void)
{
#if defined(__x86_64__)
    return mm_has_bf16() && (!__builtin_cpu_is("intel") || may_use(dnnl_cpu_isa_avx512_core_amx));
#else
    return false;
#endif
}

bool mm_rows_alike(void)
{
#if defined(__x86_64__)
    return may_use(dnnl_cpu_isa_avx512_core);
#else
    return false;
#endif
}

struct mm_engine *mm_engine_new(struct err *e)
{
    own_thread_only();
    lower_once();
    struct mm_engine *g = mem_alloc(1, sizeof *g, e);
    if (!g)
        return NULL;
    dnnl_status_t s = dnnl_engine_create(&g->engine, dnnl_cpu, 0);
    if (s == dnnl_success)
        return g;
    fail(e, "cannot make an engine", s);
    free(g);
    return NULL;
}

void mm_engine_free(struct mm_engine *g)
{
    if (g)
        dnnl_engine_destroy(g->engine);
    free(g);
}

static dnnl_status_t make_worker(struct mm_worker *w, dnnl_engine_t g, md_t a, md_t c,
                                 const_dnnl_primitive_desc_t pd)
{
    dnnl_status_t s = dnnl_stream_create(&w->stream, g, dnnl_stream_default_flags);
    if (s == dnnl_success)
        s = dnnl_memory_create(&w->a, a, g, DNNL_MEMORY_NONE);
    if (s == dnnl_success)
        s = dnnl_memory_create(&w->c, c, g, DNNL_MEMORY_NONE);
    if (s == dnnl_success)
        s = dnnl_memory_create(&w->scratch,
                               dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0), g,
                               DNNL_MEMORY_ALLOCATE);
    return s;
}

static dnnl_status_t make_primitive(struct mm *p, dnnl_engine_t g, md_t a, md_t b, md_t c)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t s = dnnl_primitive_attr_create(&attr);
    if (s == dnnl_success)
        s = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (s == dnnl_success)
        s = matmul_desc(&pd, g, a, b, c, attr);
    if (s == dnnl_success)
        s = dnnl_primitive_create(&p->primitive, pd);
    if (s == dnnl_success) {
        p->b = md_clone(dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0));
        s = p->b ? dnnl_success : dnnl_out_of_memory;
    }
    for (int i = 0; i < p->n_workers && s == dnnl_success; i++)
        s = make_worker(&p->workers[i], g, a, c, pd);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return s;
}

struct mm *mm_new(struct mm_engine *g, const struct mm_shape *s, const struct mm_b *like,
                  int workers, struct err *e)
{
    own_thread_only();
    struct mm *p = mem_alloc(1, sizeof *p, e);
    if (!p)
        return NULL;
    p->shape = *s;
    p->workers = mem_alloc((size_t)workers, sizeof *p->workers, e);
    p->n_workers = workers;
    if (!p->workers) {
        free(p);
        return NULL;
    }
    dnnl_data_type_t t = type_of(s->bf16);
    md_t a = md_strided(s->m, s->k, s->lda, 1, t), c = md_strided(s->m, s->n, s->n, 1, dnnl_f32);
    md_t b = like ? md_clone(like->md) : md_any(s->k, s->n, t);
    dnnl_status_t rc = a && b && c ? make_primitive(p, g->engine, a, b, c) : dnnl_out_of_memory;
    md_free(a);
    md_free(b);
    md_free(c);
    if (rc == dnnl_success)
        return p;
    fail(e, "cannot make a matrix product", rc);
    mm_free(p);
    return NULL;
}

static void free_worker(struct mm_worker *w)
{
    if (w->a)
        dnnl_memory_destroy(w->a);
    if (w->c)
        dnnl_memory_destroy(w->c);
    if (w->scratch)
        dnnl_memory_destroy(w->scratch);
    if (w->stream)
        dnnl_stream_destroy(w->stream);
}

void mm_free(struct mm *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->n_workers; i++)
        free_worker(&p->workers[i]);
    if (p->primitive)
        dnnl_primitive_destroy(p->primitive);
    md_free(p->b);
    free(p->workers);
    free(p);
}

const struct mm_shape *mm_shape_of(const struct mm *p)
{
    return &p->shape;
}

int mm_run(struct mm *p, int worker, const void *a, const struct mm_b *b, float *c, struct err *e)
{
    own_thread_only();
    struct mm_worker *w = &p->workers[worker];
    // The handle is not const in oneDNN's API; a source is only read.
    dnnl_status_t s = dnnl_memory_set_data_handle(w->a, (void *)(size_t)a);
    if (s == dnnl_success)
        s = dnnl_memory_set_data_handle(w->c, c);
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, w->a},
                                    {DNNL_ARG_WEIGHTS, b->memory},
                                    {DNNL_ARG_DST, w->c},
                                    {DNNL_ARG_SCRATCHPAD, w->scratch}};
    if (s == dnnl_success)
        s = dnnl_primitive_execute(p->primitive, w->stream, 4, args);
    if (s == dnnl_success)
        s = dnnl_stream_wait(w->stream);
    return s == dnnl_success ? 0 : fail(e, "matrix product", s);
}

struct mm_b *mm_b_new(struct mm_engine *g, const struct mm *p, struct err *e)
{
    struct mm_b *b = mem_alloc(1, sizeof *b, e);
    if (!b)
        return NULL;
    b->k = p->shape.k;
    b->n = p->shape.n;
    b->bf16 = p->shape.bf16;
    b->md = md_clone(p->b);
    b->data = b->md ? mem_alloc(dnnl_memory_desc_get_size(b->md), 1, e) : NULL;
    if (!b->data) {
        mm_b_free(b);
        return NULL;
    }
    dnnl_status_t s = dnnl_memory_create(&b->memory, b->md, g->engine, b->data);
    if (s == dnnl_success)
        return b;
    fail(e, "cannot hold a weight", s);
    mm_b_free(b);
    return NULL;
}

void mm_b_free(struct mm_b *b)
{
    if (!b)
        return;
    if (b->memory)
        dnnl_memory_destroy(b->memory);
    md_free(b->md);
    free(b->data);
    free(b);
}

static dnnl_status_t reorder(dnnl_engine_t g, md_t src_md, const void *src, struct mm_b *b)
{
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t p = NULL;
    dnnl_stream_t st = NULL;
    dnnl_memory_t m = NULL;
    dnnl_status_t s = dnnl_reorder_primitive_desc_create(&pd, src_md, g, b->md, g, NULL);
    if (s == dnnl_success)
        s = dnnl_primitive_create(&p, pd);
    if (s == dnnl_success)
        s = dnnl_memory_create(&m, src_md, g, (void *)(size_t)src);
    if (s == dnnl_success)
        s = dnnl_stream_create(&st, g, dnnl_stream_default_flags);
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, m}, {DNNL_ARG_TO, b->memory}};
    if (s == dnnl_success)
        s = dnnl_primitive_execute(p, st, 2, args);
    if (s == dnnl_success)
        s = dnnl_stream_wait(st);
    if (st)
        dnnl_stream_destroy(st);
    if (m)
        dnnl_memory_destroy(m);
    if (p)
        dnnl_primitive_destroy(p);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    return s;
}

int mm_b_fill(struct mm_engine *g, struct mm_b *b, const void *src, bool src_bf16, size_t row_step,
              size_t col_step, struct err *e)
{
    own_thread_only();
    md_t md = md_strided(b->k, b->n, row_step, col_step, type_of(src_bf16));
    dnnl_status_t s = md ? reorder(g->engine, md, src, b) : dnnl_out_of_memory;
    md_free(md);
    return s == dnnl_success ? 0 : fail(e, "cannot pack a weight", s);
}
