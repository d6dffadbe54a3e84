// SPDX-License-Identifier: Apache-2.0
// Matrix products with a packed right side, in tiles, over all threads.
#include <stdlib.h>
#include <string.h>

#include "device/cpu/dnnl.h"
#include "device/cpu/panel.h"
#include "device/cpu/cpu.h"
#include "base/mem.h"

// Where a row depends on the rows of its product, every tile has FIXED_ROWS, the last one zeros in
// place of those missing. Else tiles have CPU_TILE_ROWS, fewer where threads would have nothing to
// do, and the last one the next multiple of STEP_ROWS.
enum { FIXED_ROWS = 64, STEP_ROWS = 32, SLOT_A = 0, SLOT_C = 1, ALIGN_COLS = 64 };

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
        if (k->m == s->m && k->n == s->n && k->k == s->k && k->lda == s->lda && k->bf16 == s->bf16)
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

static struct mm_shape shape_of(const struct cpu_pack *b, size_t rows, size_t chunk, size_t lda)
{
    return (struct mm_shape){rows, chunk_cols(b, chunk), b->k, lda, b->bf16};
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
        struct mm_shape s = shape_of(b, mm_rows_alike() ? CPU_TILE_ROWS : FIXED_ROWS, i, b->k);
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

// The products of a tile: for A with lda (NULL: never), and for rows copied together; [last chunk].
struct products {
    struct mm *whole[2], *packed[2];
};

struct matmul_job {
    struct dev *d;
    size_t m, lda;
    size_t rows, row_tiles; // of a tile; tiles of a chunk
    const void *a;
    const struct cpu_pack *b;
    size_t last_rows;           // of the last tile's product
    struct products full, tail; // of tiles with all rows, and of the last one
    cpu_tile_fn *done;
    void *ctx;
};

struct tile {
    size_t row0, rows; // of A
    size_t computed;   // rows of the product
    size_t chunk, cols, ldc;
    const struct products *products;
};

static struct tile tile_of(const struct matmul_job *j, size_t i)
{
    const struct cpu_pack *b = j->b;
    struct tile t = {.chunk = i / j->row_tiles, .row0 = i % j->row_tiles * j->rows};
    size_t left = j->m - t.row0;
    t.rows = left < j->rows ? left : j->rows;
    t.computed = left < j->rows ? j->last_rows : j->rows;
    t.products = left < j->rows ? &j->tail : &j->full;
    t.cols = chunk_cols(b, t.chunk);
    t.ldc = b->panels ? panel_cols(t.cols) : t.cols;
    return t;
}

// The tile's rows of A without gaps, in the product's type, then zeros.
static const void *copy_rows(const struct matmul_job *j, const struct tile *t, int worker)
{
    struct dev *d = j->d;
    bool widen = d->act == DEV_BF16 && !j->b->bf16;
    size_t item = j->b->bf16 ? 2 : 4, row = j->b->k * item;
    char *to = cpu_scratch(d, worker, SLOT_A, t->computed * row);
    if (!to)
        return NULL;
    for (size_t r = 0; r < t->rows; r++) {
        const void *src = cpu_at(d, j->a, (t->row0 + r) * j->lda);
        if (widen)
            bf16_to_f32(src, (float *)(void *)(to + r * row), j->b->k);
        else
            memcpy(to + r * row, src, row);
    }
    memset(to + t->rows * row, 0, (t->computed - t->rows) * row);
    return to;
}

// Panels take rows at any distance, of float32.
static bool must_copy(const struct matmul_job *j, const struct tile *t)
{
    if (j->b->panels)
        return j->d->act == DEV_BF16;
    return !t->products->whole[t->cols != j->b->width] || t->rows < t->computed;
}

static int compute(const struct matmul_job *j, const struct tile *t, bool copied, const void *a,
                   float *c, int worker, struct err *e)
{
    const struct cpu_pack *b = j->b;
    bool last = t->cols != b->width;
    if (!b->panels)
        return mm_run(copied ? t->products->packed[last] : t->products->whole[last], worker, a,
                      b->chunks[t->chunk], c, e);
    panel_gemm(t->rows, t->cols, b->k, a, copied ? b->k : j->lda, panels_of(b, t->chunk), c,
               t->ldc);
    return 0;
}

// Chunk by chunk, all row tiles of one before the next: a chunk of B stays in cache.
static void tile(void *ctx, size_t i, int worker)
{
    const struct matmul_job *j = ctx;
    struct tile t = tile_of(j, i);
    bool copy = must_copy(j, &t);
    const void *a = copy ? copy_rows(j, &t, worker) : cpu_at(j->d, j->a, t.row0 * j->lda);
    float *c = cpu_scratch(j->d, worker, SLOT_C, t.computed * t.ldc * sizeof *c);
    struct err e;
    if (!a || !c)
        return;
    if (compute(j, &t, copy, a, c, worker, &e)) {
        cpu_fail(j->d, &e);
        return;
    }
    j->done(j->ctx, t.row0, t.rows, t.chunk * j->b->width, t.cols, c, t.ldc, worker);
}

// Products of `rows` rows. 0 or -1.
static int find_products(const struct matmul_job *j, size_t rows, struct products *p, struct err *e)
{
    struct cpu_matmul *mm = j->b->owner;
    bool widen = j->d->act == DEV_BF16 && !j->b->bf16;
    for (int last = 0; last < 2; last++) {
        size_t chunk = last ? j->b->n_chunks - 1 : 0;
        struct mm_shape s = shape_of(j->b, rows, chunk, j->b->k);
        p->packed[last] = product(mm, &s, j->b->chunks[chunk], e);
        s.lda = j->lda;
        p->whole[last] = widen ? NULL : product(mm, &s, j->b->chunks[chunk], e);
        if (!p->packed[last] || (!widen && !p->whole[last]))
            return -1;
    }
    return 0;
}

static size_t tile_rows(const struct matmul_job *j)
{
    enum { TILES_A_THREAD = 4 };
    size_t rows = CPU_TILE_ROWS, enough = TILES_A_THREAD * (size_t)j->b->owner->workers;
    while (rows > STEP_ROWS && (j->m + rows - 1) / rows * j->b->n_chunks < enough)
        rows /= 2;
    return rows;
}

// Plans the tiles of m rows. 0 or -1.
static int plan_tiles(struct matmul_job *j, struct err *e)
{
    j->rows = mm_rows_alike() ? tile_rows(j) : FIXED_ROWS;
    j->row_tiles = (j->m + j->rows - 1) / j->rows;
    size_t left = j->m % j->rows;
    j->last_rows = mm_rows_alike() ? (left + STEP_ROWS - 1) / STEP_ROWS * STEP_ROWS : j->rows;
    if (j->b->panels)
        return 0;
    if (j->m >= j->rows && find_products(j, j->rows, &j->full, e))
        return -1;
    return left ? find_products(j, j->last_rows, &j->tail, e) : 0;
}

void cpu_matmul(struct dev *d, size_t m, const void *a, size_t lda, const struct cpu_pack *b,
                cpu_tile_fn *done, void *ctx)
{
    struct matmul_job j = {.d = d, .m = m, .lda = lda, .a = a, .b = b, .done = done, .ctx = ctx};
    struct err e;
    if (plan_tiles(&j, &e)) {
        cpu_fail(d, &e);
        return;
    }
    pool_for(cpu_of(d)->pool, j.row_tiles * b->n_chunks, tile, &j);
}
