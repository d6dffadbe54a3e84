// SPDX-License-Identifier: Apache-2.0
// Matrix products with a packed right side: tiles of fixed size, over all threads.
#include <stdlib.h>
#include <string.h>

#include "device/cpu/dnnl.h"
#include "device/cpu/panel.h"
#include "device/cpu/cpu.h"
#include "base/mem.h"

enum { ROWS = CPU_TILE_ROWS, SLOT_A = 0, SLOT_C = 1, ALIGN_COLS = 64 };

struct cpu_matmul {
    struct mm_engine *engine;
    int workers;
    struct mm **known; // products made so far, few
    size_t n_known, cap;
};

// B in chunks of columns, all of one width but the last.
struct cpu_pack {
    struct cpu_matmul *owner;
    size_t k, n, width, n_chunks;
    bool bf16;
    struct mm_b **chunks; // oneDNN's, or
    float *panels;        // panel.h's, chunk after chunk
};

struct cpu_matmul *cpu_matmul_new(int threads, struct err *e)
{
    struct cpu_matmul *m = mem_alloc(1, sizeof *m, e);
    if (!m)
        return NULL;
    m->workers = threads;
    m->engine = mm_engine_new(e);
    if (m->engine)
        return m;
    free(m);
    return NULL;
}

void cpu_matmul_free(struct cpu_matmul *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->n_known; i++)
        mm_free(m->known[i]);
    free(m->known);
    mm_engine_free(m->engine);
    free(m);
}

// The product of this shape, made at its first use.
static struct mm *product(struct cpu_matmul *m, const struct mm_shape *s, const struct mm_b *like,
                          struct err *e)
{
    for (size_t i = 0; i < m->n_known; i++) {
        const struct mm_shape *k = mm_shape_of(m->known[i]);
        if (k->n == s->n && k->k == s->k && k->lda == s->lda && k->bf16 == s->bf16)
            return m->known[i];
    }
    void *p = m->known;
    int rc = mem_grow(&p, &m->cap, m->n_known + 1, sizeof *m->known, e);
    m->known = p;
    if (rc)
        return NULL;
    struct mm *made = mm_new(m->engine, s, like, m->workers, e);
    if (made)
        m->known[m->n_known++] = made;
    return made;
}

static size_t chunk_cols(const struct cpu_pack *b, size_t i)
{
    size_t left = b->n - i * b->width;
    return left < b->width ? left : b->width;
}

static struct mm_shape shape_of(const struct cpu_pack *b, size_t chunk, size_t lda)
{
    return (struct mm_shape){ROWS, chunk_cols(b, chunk), b->k, lda, b->bf16};
}

// As even as multiples of ALIGN_COLS allow.
static size_t chunk_width(size_t n)
{
    size_t chunks = (n + CPU_TILE_COLS - 1) / CPU_TILE_COLS;
    size_t width = (n + chunks - 1) / chunks;
    width = (width + ALIGN_COLS - 1) / ALIGN_COLS * ALIGN_COLS;
    return width < n ? width : n;
}

static float *panels_of(const struct cpu_pack *b, size_t chunk)
{
    return b->panels + chunk * b->k * panel_cols(b->width);
}

static int make_chunks(struct dev *d, struct cpu_pack *b, struct err *e)
{
    if (!b->bf16 && panel_wanted()) {
        b->panels = mem_alloc(b->n_chunks * panel_cols(b->width), b->k * sizeof *b->panels, e);
        return b->panels ? 0 : -1;
    }
    b->chunks = mem_alloc(b->n_chunks, sizeof *b->chunks, e);
    if (!b->chunks)
        return -1;
    for (size_t i = 0; i < b->n_chunks; i++) {
        struct mm_shape s = shape_of(b, i, b->k);
        struct mm *p = product(cpu_of(d)->matmul, &s, NULL, e);
        b->chunks[i] = p ? mm_b_new(b->owner->engine, p, e) : NULL;
        if (!b->chunks[i])
            return -1;
    }
    return 0;
}

struct fill {
    struct dev *d;
    struct cpu_pack *b;
    const char *src;
    bool src_bf16;
    size_t row_step, col_step, item;
    bool round; // emulated bfloat16
};

// A copy of a chunk's values rounded to bfloat16, for emulation.
static const float *rounded(const struct fill *f, size_t chunk, int worker)
{
    size_t cols = chunk_cols(f->b, chunk), k = f->b->k, at = 0;
    float *out = cpu_scratch(f->d, worker, SLOT_A, k * cols * sizeof *out);
    if (!out)
        return NULL;
    const char *src = f->src + chunk * f->b->width * f->col_step * f->item;
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < cols; j++) {
            const char *p = src + (i * f->row_step + j * f->col_step) * f->item;
            uint16_t h;
            float v;
            if (f->src_bf16) {
                memcpy(&h, p, sizeof h);
            } else {
                memcpy(&v, p, sizeof v);
                h = bf16_from_f32_one(v);
            }
            out[at++] = bf16_to_f32_one(h);
        }
    return out;
}

static int pack_chunk(const struct fill *f, size_t i, const void *src, bool src_bf16,
                      size_t row_step, size_t col_step, struct err *e)
{
    const struct cpu_pack *b = f->b;
    if (!b->panels)
        return mm_b_fill(b->owner->engine, b->chunks[i], src, src_bf16, row_step, col_step, e);
    panel_fill(panels_of(b, i), b->k, chunk_cols(b, i), src, src_bf16, row_step, col_step);
    return 0;
}

static void fill_chunk(void *ctx, size_t i, int worker)
{
    const struct fill *f = ctx;
    struct err e;
    int rc;
    if (f->round) {
        const float *v = rounded(f, i, worker);
        rc = v ? pack_chunk(f, i, v, false, chunk_cols(f->b, i), 1, &e) : 0;
    } else {
        const char *src = f->src + i * f->b->width * f->col_step * f->item;
        rc = pack_chunk(f, i, src, f->src_bf16, f->row_step, f->col_step, &e);
    }
    if (rc)
        cpu_fail(f->d, &e);
}

static int fill(struct dev *d, struct cpu_pack *b, const void *src, bool src_bf16, size_t row_step,
                size_t col_step, struct err *e)
{
    struct fill f = {
        d, b, src, src_bf16, row_step, col_step, src_bf16 ? 2 : 4, d->act == DEV_BF16 && !b->bf16};
    pool_for(cpu_of(d)->pool, b->n_chunks, fill_chunk, &f);
    if (!d->failure.text[0])
        return 0;
    *e = d->failure;
    return -1;
}

struct cpu_pack *cpu_pack_new(struct dev *d, size_t k, size_t n, const void *src,
                              enum dev_type src_type, size_t row_step, size_t col_step,
                              struct err *e)
{
    struct cpu_pack *b = mem_alloc(1, sizeof *b, e);
    if (!b)
        return NULL;
    *b = (struct cpu_pack){.owner = cpu_of(d)->matmul,
                           .k = k,
                           .n = n,
                           .width = chunk_width(n),
                           .bf16 = d->act == DEV_BF16 && !cpu_of(d)->emulate};
    b->n_chunks = (n + b->width - 1) / b->width;
    if (make_chunks(d, b, e) || fill(d, b, src, src_type == DEV_BF16, row_step, col_step, e)) {
        cpu_pack_free(b);
        return NULL;
    }
    return b;
}

int cpu_pack_fill(struct dev *d, struct cpu_pack *b, const float *src, size_t row_step,
                  size_t col_step, struct err *e)
{
    return fill(d, b, src, false, row_step, col_step, e);
}

void cpu_pack_free(struct cpu_pack *b)
{
    if (!b)
        return;
    for (size_t i = 0; b->chunks && i < b->n_chunks; i++)
        mm_b_free(b->chunks[i]);
    free(b->chunks);
    free(b->panels);
    free(b);
}

struct matmul_job {
    struct dev *d;
    size_t m, row_tiles, lda;
    const void *a;
    const struct cpu_pack *b;
    struct mm *whole[2], *packed[2]; // for A with lda, and for tiles copied together; [last chunk]
    cpu_tile_fn *done;
    void *ctx;
};

// Rows [row0, row0 + rows) of A without gaps, in the product's type, zeros up to ROWS.
static const void *copy_rows(const struct matmul_job *j, size_t row0, size_t rows, int worker)
{
    struct dev *d = j->d;
    bool widen = d->act == DEV_BF16 && !j->b->bf16;
    size_t item = j->b->bf16 ? 2 : 4, row = j->b->k * item;
    char *t = cpu_scratch(d, worker, SLOT_A, ROWS * row);
    if (!t)
        return NULL;
    for (size_t r = 0; r < rows; r++) {
        const void *src = cpu_at(d, j->a, (row0 + r) * j->lda);
        if (widen)
            bf16_to_f32(src, (float *)(void *)(t + r * row), j->b->k);
        else
            memcpy(t + r * row, src, row);
    }
    memset(t + rows * row, 0, (ROWS - rows) * row);
    return t;
}

static int product_of(const struct matmul_job *j, bool copied, size_t chunk, size_t rows,
                      const void *a, float *c, int worker, struct err *e)
{
    const struct cpu_pack *b = j->b;
    bool last = chunk_cols(b, chunk) != b->width;
    if (!b->panels)
        return mm_run(copied ? j->packed[last] : j->whole[last], worker, a, b->chunks[chunk], c, e);
    panel_gemm(rows, chunk_cols(b, chunk), b->k, a, copied ? b->k : j->lda, panels_of(b, chunk), c,
               panel_cols(chunk_cols(b, chunk)));
    return 0;
}

// Panels take any number of rows, at any distance, of float32.
static bool must_copy(const struct matmul_job *j, size_t rows, bool last)
{
    return j->b->panels ? j->d->act == DEV_BF16 : !j->whole[last] || rows < ROWS;
}

// Chunk by chunk, all row tiles of one before the next: a chunk of B stays in cache.
static void tile(void *ctx, size_t i, int worker)
{
    const struct matmul_job *j = ctx;
    size_t chunk = i / j->row_tiles, row0 = i % j->row_tiles * ROWS;
    size_t rows = j->m - row0 < ROWS ? j->m - row0 : ROWS;
    size_t cols = chunk_cols(j->b, chunk), ldc = j->b->panels ? panel_cols(cols) : cols;
    bool copy = must_copy(j, rows, cols != j->b->width);
    const void *a = copy ? copy_rows(j, row0, rows, worker) : cpu_at(j->d, j->a, row0 * j->lda);
    float *c = cpu_scratch(j->d, worker, SLOT_C, ROWS * ldc * sizeof *c);
    struct err e;
    if (!a || !c)
        return;
    if (product_of(j, copy, chunk, rows, a, c, worker, &e)) {
        cpu_fail(j->d, &e);
        return;
    }
    j->done(j->ctx, row0, rows, chunk * j->b->width, cols, c, ldc, worker);
}

static int find_products(struct matmul_job *j, struct err *e)
{
    struct cpu_matmul *mm = j->b->owner;
    bool widen = j->d->act == DEV_BF16 && !j->b->bf16;
    for (int last = 0; last < 2; last++) {
        size_t chunk = last ? j->b->n_chunks - 1 : 0;
        struct mm_shape s = shape_of(j->b, chunk, j->b->k);
        j->packed[last] = product(mm, &s, j->b->chunks[chunk], e);
        s.lda = j->lda;
        j->whole[last] = widen ? NULL : product(mm, &s, j->b->chunks[chunk], e);
        if (!j->packed[last] || (!widen && !j->whole[last]))
            return -1;
    }
    return 0;
}

void cpu_matmul(struct dev *d, size_t m, const void *a, size_t lda, const struct cpu_pack *b,
                cpu_tile_fn *done, void *ctx)
{
    struct matmul_job j = {.d = d, .m = m, .lda = lda, .a = a, .b = b, .done = done, .ctx = ctx};
    struct err e;
    if (!b->panels && find_products(&j, &e)) {
        cpu_fail(d, &e);
        return;
    }
    j.row_tiles = (m + ROWS - 1) / ROWS;
    pool_for(cpu_of(d)->pool, j.row_tiles * b->n_chunks, tile, &j);
}
