// SPDX-License-Identifier: Apache-2.0
// The hard partners of rows: those of the same cell that are near in picture and text, by HELIP's
// rule (Wang et al., arXiv 2305.05208): h(i, j) = (V_i.V_j)(T_i.T_j), where both cosines are below
// 0.98, else 0. A cell is cut into blocks; each block is compared with all blocks of its cell, so a
// row's list belongs to one thread. Products in float32 select the candidates by their bound; what
// is kept is decided in float64 from the rows as read, and equal values by the lower row. So the
// partners depend on neither blocks, memory, threads nor ranks.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "balance/run.h"
#include "base/mem.h"
#include "comm/tree.h"
#include "search/nearest-run.h"
#include "system/signals.h"
#include "system/threads.h"

enum { PART = 8 * DOT_RIGHT, FOUND = 64 }; // rows packed by one task; candidates of a row
static const double TOO_NEAR = 0.98;

// One side of the rows of a block: pictures or texts.
struct hard_side {
    struct row_store rows;
    double *norm; // 0: a row without direction, which has no partner
    struct dot_panel right;
};

struct hard_block {
    uint32_t first, n; // places
    struct hard_side side[2];
};

struct hard_guess {
    float value;
    uint32_t at; // in the right block
};

// One thread's memory.
struct hard_scratch {
    atomic_flag busy; // first: threads_take
    struct dot_panel left[2];
    float *out[2]; // DOT_BLOCK_ROWS x DOT_BLOCK_COLS
    uint32_t at[DOT_BLOCK_COLS];
    struct hard_guess found[FOUND];
};

// The list of one row, greatest value first; at: a row of the source.
struct hard_row {
    struct nearest_pick *best;
    size_t n;
};

struct hard_pass {
    struct balance_run *b;
    size_t top;
    uint32_t begin, end;    // places whose partners are found here
    uint32_t most;          // rows of a block
    struct hard_block a, c; // c: where another block of the cell is compared with a
    const struct hard_block *right;
    struct hard_block *loading;
    struct nearest_pick *best; // per row of a: top
    struct hard_row *rows;     // per row of a
    struct hard_scratch *scratch;
    double done, total; // pairs
    struct loop_error fail;
};

static const struct row_source *source_of(const struct hard_pass *p, int side)
{
    return side ? p->b->o->texts : p->b->source;
}

static uint64_t row_bytes(const struct hard_pass *p)
{
    uint64_t bytes = 0;
    for (int s = 0; s < 2; s++) {
        const struct row_source *from = source_of(p, s);
        bytes += (row_store_value(from) + sizeof(float)) * from->dim + 3 * sizeof(double) + 16;
    }
    return bytes;
}

// Two blocks and the lists of the one take half of the memory at most; the rest is for what the
// panels round up to.
static int size_blocks(struct hard_pass *p, struct err *e)
{
    uint64_t row = 2 * row_bytes(p) + p->top * sizeof *p->best + sizeof *p->rows;
    uint64_t rows = p->b->block_mem / 2 / row, widest = p->b->r->biggest_cell;
    if (rows < DOT_BLOCK_ROWS)
        return err_set(e, "partners of %zu rows each need more memory", p->top);
    p->most = (uint32_t)(rows < widest ? rows : widest);
    return 0;
}

static void block_release(struct hard_block *k)
{
    for (int s = 0; s < 2; s++) {
        row_store_release(&k->side[s].rows);
        free(k->side[s].norm);
        dot_panel_release(&k->side[s].right);
    }
    *k = (struct hard_block){0};
}

static int block_init(const struct hard_pass *p, struct hard_block *k, struct err *e)
{
    for (int s = 0; s < 2; s++) {
        const struct row_source *from = source_of(p, s);
        struct hard_side *side = &k->side[s];
        side->norm = mem_alloc(p->most, sizeof *side->norm, e);
        if (!side->norm || row_store_init(&side->rows, from, p->most, e) ||
            dot_panel_init(&side->right, DOT_F32, DOT_SIDE_RIGHT, p->most, from->dim, e))
            return -1;
    }
    return 0;
}

static int read_rows(const struct hard_pass *p, struct hard_block *k, int side, uint32_t first,
                     uint32_t n, struct err *e)
{
    uint64_t rows[PART];
    struct row_store *to = &k->side[side].rows;
    for (uint32_t i = 0; i < n; i++)
        rows[i] = p->b->order[k->first + first + i];
    if (side || !row_store_there(&p->b->rows))
        return row_store_gather(to, first, source_of(p, side), rows, n, e);
    for (uint32_t i = 0; i < n; i++)
        row_store_copy(to, first + i, &p->b->rows, rows[i]);
    return 0;
}

static void pack_rows(struct hard_side *s, uint32_t first, uint32_t n, float *unit, size_t dim)
{
    for (uint32_t i = 0; i < n; i++) {
        float *to = unit + i % DOT_RIGHT * dim;
        double norm = sqrt(row_store_dot(&s->rows, first + i, &s->rows, first + i));
        s->norm[first + i] = isfinite(norm) ? norm : 0;
        if (s->norm[first + i] > 0)
            dot_scale(row_store_at(&s->rows, first + i, to), 1 / norm, to, dim);
        else
            memset(to, 0, dim * sizeof *to);
        if (i % DOT_RIGHT == DOT_RIGHT - 1 || i + 1 == n)
            dot_panel_part(&s->right, unit, first + i / DOT_RIGHT * DOT_RIGHT, i % DOT_RIGHT + 1);
    }
}

static void load_task(void *ctx, size_t i)
{
    struct hard_pass *p = ctx;
    struct hard_block *k = p->loading;
    int side = (int)(i % 2);
    uint32_t first = (uint32_t)(i / 2) * PART, n = k->n - first < PART ? k->n - first : PART;
    size_t dim = source_of(p, side)->dim;
    struct err e;
    float *unit = mem_alloc(DOT_RIGHT * dim, sizeof *unit, &e);
    if (!unit || read_rows(p, k, side, first, n, &e))
        loop_error_set(&p->fail, &e);
    else
        pack_rows(&k->side[side], first, n, unit, dim);
    free(unit);
}

static int load(struct hard_pass *p, struct hard_block *k, uint32_t first, uint32_t n,
                struct err *e)
{
    if (k->first == first && k->n == n)
        return 0;
    k->first = first;
    k->n = n;
    k->side[0].right.n = k->side[1].right.n = n;
    p->loading = k;
    if (threads_for_stop(p->b->o->threads, 2 * (((size_t)n + PART - 1) / PART), load_task, p, e) ||
        loop_error_check(&p->fail, e))
        return -1;
    dot_panel_done(&k->side[0].right);
    dot_panel_done(&k->side[1].right);
    return 0;
}

// A cosine in float64; TOO_NEAR where a row has no direction, so that the pair counts for nothing.
static double cosine(const struct hard_side *x, uint32_t i, const struct hard_side *y, uint32_t j)
{
    if (!(x->norm[i] > 0) || !(y->norm[j] > 0))
        return TOO_NEAR;
    return row_store_dot(&x->rows, i, &y->rows, j) / (x->norm[i] * y->norm[j]);
}

static double value_of(const struct hard_block *a, uint32_t i, const struct hard_block *c,
                       uint32_t j)
{
    double v = cosine(&a->side[0], i, &c->side[0], j), t;
    if (!(v < TOO_NEAR))
        return 0;
    t = cosine(&a->side[1], i, &c->side[1], j);
    return t < TOO_NEAR ? v * t : 0;
}

static int by_value(const void *x, const void *y)
{
    const struct hard_guess *a = x, *b = y;
    if (a->value != b->value)
        return a->value > b->value ? -1 : 1;
    return a->at < b->at ? -1 : a->at > b->at;
}

// Products under this cannot be among the best.
static float least_of(const struct hard_row *r, size_t top, double bound)
{
    return nearest_below((r->n == top ? r->best[top - 1].sim : 0) - bound);
}

// Decides n candidates of row i of a, the likeliest first.
static void settle(const struct hard_pass *p, struct hard_guess *found, size_t n, uint32_t i,
                   double bound)
{
    struct hard_row *r = &p->rows[i];
    if (n)
        qsort(found, n, sizeof *found, by_value);
    for (size_t k = 0; k < n && found[k].value >= least_of(r, p->top, bound); k++) {
        double value = value_of(&p->a, i, p->right, found[k].at);
        uint32_t row = p->b->order[p->right->first + found[k].at];
        if (value > 0 && row != p->b->order[p->a.first + i])
            nearest_keep(r->best, &r->n, p->top, value, row);
    }
}

// Row i of a with the n rows of the right block from j on, whose products are v and t; t is
// overwritten. bound: of both.
static void scan(const struct hard_pass *p, struct hard_scratch *s, uint32_t i, const float *v,
                 float *t, uint32_t j, uint32_t n, const double bound[2])
{
    // |v|, |t| <= 1 and the bounds are small, so that a product of the two is within their sum and
    // a little more.
    double both = 1.1 * (bound[0] + bound[1]);
    float near_v = nextafterf((float)(TOO_NEAR + bound[0]), INFINITY);
    float near_t = nextafterf((float)(TOO_NEAR + bound[1]), INFINITY);
    for (uint32_t k = 0; k < n; k++)
        t[k] = v[k] > near_v || t[k] > near_t ? -2 : v[k] * t[k];
    float least = least_of(&p->rows[i], p->top, both);
    size_t hits = dot_above(t, n, least, s->at), found = 0;
    for (size_t h = 0; h < hits; h++) {
        if (t[s->at[h]] < least) // it has risen since
            continue;
        s->found[found++] = (struct hard_guess){t[s->at[h]], j + s->at[h]};
        if (found < FOUND)
            continue;
        settle(p, s->found, found, i, both);
        least = least_of(&p->rows[i], p->top, both);
        found = 0;
    }
    settle(p, s->found, found, i, both);
}

static void compare(const struct hard_pass *p, struct hard_scratch *s, uint32_t first, uint32_t m)
{
    const struct hard_block *c = p->right;
    for (int k = 0; k < 2; k++)
        dot_panel_take(&s->left[k], &p->a.side[k].right, first, m);
    for (uint32_t j = 0; j < c->n && !signals_stop_wanted(); j += DOT_BLOCK_COLS) {
        uint32_t n = c->n - j < DOT_BLOCK_COLS ? c->n - j : DOT_BLOCK_COLS;
        for (int k = 0; k < 2; k++)
            dot_block(&s->left[k], 0, m, &c->side[k].right, j, n, s->out[k], DOT_BLOCK_COLS);
        for (uint32_t i = 0; i < m; i++) {
            // What was packed is the unit row rounded to float32: within 2^-23 of it on each side.
            double bound[2] = {dot_bound(&s->left[0], i, &c->side[0].right) + 5e-7,
                               dot_bound(&s->left[1], i, &c->side[1].right) + 5e-7};
            scan(p, s, first + i, s->out[0] + (size_t)i * DOT_BLOCK_COLS,
                 s->out[1] + (size_t)i * DOT_BLOCK_COLS, j, n, bound);
        }
    }
}

static void stripe(void *ctx, size_t i)
{
    struct hard_pass *p = ctx;
    int slot = threads_take(p->scratch, sizeof *p->scratch, p->b->o->threads);
    uint32_t first = (uint32_t)i * DOT_BLOCK_ROWS, left = p->a.n - first;
    compare(p, &p->scratch[slot], first, left < DOT_BLOCK_ROWS ? left : DOT_BLOCK_ROWS);
    atomic_flag_clear(&p->scratch[slot].busy);
}

// The block a of a cell with all rows of the cell.
static int run_block(struct hard_pass *p, uint32_t first, uint32_t n, uint32_t from, uint32_t to,
                     struct err *e)
{
    struct balance_run *b = p->b;
    if (load(p, &p->a, first, n, e))
        return -1;
    for (uint32_t i = 0; i < n; i++)
        p->rows[i] = (struct hard_row){p->best + (size_t)i * p->top, 0};
    for (uint32_t at = from; at < to; at += p->most) {
        uint32_t cols = to - at < p->most ? to - at : p->most;
        bool same = at == first && cols == n;
        if (!same && load(p, &p->c, at, cols, e))
            return -1;
        p->right = same ? &p->a : &p->c;
        if (threads_for_stop(b->o->threads, ((size_t)n + DOT_BLOCK_ROWS - 1) / DOT_BLOCK_ROWS,
                             stripe, p, e))
            return -1;
        p->done += (double)n * cols;
        if (balance_progress(b, p->done, p->total, e))
            return -1;
    }
    for (uint32_t i = 0; i < n; i++)
        for (size_t k = 0; k < p->top; k++)
            b->r->hard[(size_t)(first + i) * p->top + k] =
                k < p->rows[i].n ? p->rows[i].best[k].at : BALANCE_NONE;
    return 0;
}

static int run_cells(struct hard_pass *p, struct err *e)
{
    struct balance_run *b = p->b;
    for (int turn = 0; turn < 2; turn++) // the first adds up what there is to do
        for (size_t c = 0; c < b->n_cells; c++) {
            uint32_t from = b->start[c], to = b->start[c + 1];
            uint32_t at = from > p->begin ? from : p->begin, end = to < p->end ? to : p->end;
            if (!turn && at < end)
                p->total += (double)(end - at) * (to - from);
            for (uint32_t n; turn && at < end; at += n) {
                n = end - at < p->most ? end - at : p->most;
                if (run_block(p, at, n, from, to, e))
                    return -1;
            }
        }
    return 0;
}

static void scratch_release(struct hard_scratch *s)
{
    for (int k = 0; k < 2; k++) {
        dot_panel_release(&s->left[k]);
        free(s->out[k]);
    }
}

static int scratch_init(const struct hard_pass *p, struct hard_scratch *s, struct err *e)
{
    atomic_flag_clear(&s->busy);
    for (int k = 0; k < 2; k++) {
        s->out[k] = mem_alloc((size_t)DOT_BLOCK_ROWS * DOT_BLOCK_COLS, sizeof(float), e);
        if (!s->out[k] || dot_panel_init(&s->left[k], DOT_F32, DOT_SIDE_LEFT, DOT_BLOCK_ROWS,
                                         source_of(p, k)->dim, e))
            return -1;
    }
    return 0;
}

// The partners of this rank's share of the places.
static int find(struct hard_pass *p, struct err *e)
{
    struct balance_run *b = p->b;
    size_t threads = (size_t)b->o->threads;
    b->r->hard = mem_alloc(b->usable * p->top, sizeof *b->r->hard, e);
    if (!b->r->hard || !b->usable)
        return b->r->hard ? 0 : -1;
    if (size_blocks(p, e) || block_init(p, &p->a, e) || block_init(p, &p->c, e))
        return -1;
    p->best = mem_alloc(p->most * p->top, sizeof *p->best, e);
    p->rows = p->best ? mem_alloc(p->most, sizeof *p->rows, e) : NULL;
    p->scratch = p->rows ? mem_alloc(threads, sizeof *p->scratch, e) : NULL;
    int r = p->scratch ? 0 : -1;
    for (size_t i = 0; i < threads && !r; i++)
        r = scratch_init(p, &p->scratch[i], e);
    return r ? -1 : run_cells(p, e);
}

int balance_hard(struct balance_run *b, struct err *e)
{
    struct comm alone = COMM_ALONE, *c = b->o->comm ? b->o->comm : &alone;
    struct hard_pass p = {.b = b, .top = b->o->hard};
    p.begin = (uint32_t)comm_share(c, b->usable, c->rank);
    p.end = (uint32_t)comm_share(c, b->usable, c->rank + 1);
    int r = find(&p, e);
    block_release(&p.a);
    block_release(&p.c);
    for (int i = 0; p.scratch && i < b->o->threads; i++)
        scratch_release(&p.scratch[i]);
    free(p.scratch);
    free(p.rows);
    free(p.best);
    if (comm_agree(c, r, e))
        return -1;
    return c->size == 1 || !b->usable ? 0
                                      : comm_tree_gather(c, "partners", b->r->hard, b->usable,
                                                         p.top * sizeof *b->r->hard, e);
}
