// SPDX-License-Identifier: Apache-2.0
// A pair of blocks is compared in stripes: DOT_BLOCK_ROWS rows of the one with all rows of the
// other. A product that the bound leaves in doubt is taken again in float64 from the rows as read.
#include <math.h>
#include <stdlib.h>

#include "balance/run.h"
#include "base/mem.h"
#include "system/threads.h"
#include "system/signals.h" // a stripe may take seconds; threads_for_stop tells of it

enum { STRIPES_A_TURN = 4096 };

// One thread's memory.
struct pair_scratch {
    struct dot_panel left;
    float *unit;                  // DOT_BLOCK_ROWS x dim
    float *out;                   // DOT_BLOCK_ROWS x DOT_BLOCK_COLS
    double bound[DOT_BLOCK_ROWS]; // of the products of each row
    uint32_t at[DOT_BLOCK_COLS];
};

struct pair_turn {
    struct balance_run *b;
    const struct balance_pair *pairs;
    uint64_t *stripes; // before pair i; n + 1
    size_t n;
    uint64_t first; // stripe of this turn
    struct pair_scratch *scratch;
    struct balance_found *found;
    int threads;
};

static uint64_t n_stripes(const struct balance_run *b, const struct balance_pair *p)
{
    return (b->blocks[p->a].n + DOT_BLOCK_ROWS - 1) / DOT_BLOCK_ROWS;
}

static void give_edges(struct balance_run *b, struct balance_found *f)
{
    pthread_mutex_lock(&b->forest_lock);
    balance_forest_add(b->forest, f->edges, f->n_edges);
    pthread_mutex_unlock(&b->forest_lock);
    f->n_edges = 0;
}

static void least_u32(_Atomic uint32_t *at, uint32_t v)
{
    uint32_t is = atomic_load_explicit(at, memory_order_relaxed);
    while (v < is && !atomic_compare_exchange_weak_explicit(at, &is, v, memory_order_relaxed,
                                                            memory_order_relaxed))
        ;
}

static void least_distance(_Atomic uint64_t *at, double d)
{
    union {
        double d;
        uint64_t bits;
    } v = {.d = d > 0 ? d : 0}; // the bits of numbers >= 0 are in their order
    uint64_t is = atomic_load_explicit(at, memory_order_relaxed);
    while (v.bits < is && !atomic_compare_exchange_weak_explicit(
                              at, &is, v.bits, memory_order_relaxed, memory_order_relaxed))
        ;
}

// Two places under the distance; p < q if they are in one cell.
static void join(struct balance_run *b, uint32_t p, uint32_t q)
{
    if (b->earlier)
        least_u32(&b->earlier[q], p);
    else
        union_find_join(&b->sets, b->order[p], b->order[q]);
}

static bool is_near(const struct balance_run *b, double cosine)
{
    return b->o->rule == BALANCE_SEMDEDUP ? cosine > 1 - b->distance : 1 - cosine < b->distance;
}

static void reached(struct balance_run *b, struct balance_found *f, uint32_t p, uint32_t q,
                    double cosine)
{
    double d = 1 - cosine;
    if (d >= b->reach)
        return;
    if (b->closest) {
        least_distance(&b->closest[q], d);
        return;
    }
    f->edges[f->n_edges++] = (struct balance_edge){d, b->order[p], b->order[q]};
    if (f->n_edges == BALANCE_EDGES)
        give_edges(b, f);
}

static double exact(const struct balance_run *b, const struct balance_meeting *r, uint32_t j)
{
    struct balance_row x = balance_row(b, r->a, r->i), y = balance_row(b, r->b, j);
    return row_store_dot(x.rows, x.at, y.rows, y.at) / (x.norm * y.norm);
}

// Two rows that look into each other's cells meet twice: the lower one's visit counts.
static bool met_before(const struct balance_run *b, const struct balance_meeting *r, uint32_t i,
                       uint32_t j)
{
    if (!r->a->visitors || i < j)
        return false;
    for (size_t t = 0; t < b->probe; t++)
        if (b->next[(size_t)j * b->probe + t] == (int32_t)b->cell[i])
            return true;
    return false;
}

float balance_least(const struct balance_run *b, double bound)
{
    double widest = b->reach > b->distance ? b->reach : b->distance;
    return nextafterf((float)(1 - widest - bound), -INFINITY);
}

void balance_meet(struct balance_run *b, struct balance_found *f, const struct balance_meeting *r,
                  uint32_t j, double cosine)
{
    if (r->a == r->b && j <= r->i)
        return;
    uint32_t p = r->a->first + r->i, q = r->b->first + j;
    if (met_before(b, r, b->order[p], b->order[q]))
        return;
    if (b->reach > 0 || fabs(cosine - (1 - b->distance)) <= r->bound)
        cosine = exact(b, r, j);
    if (b->reach > 0)
        reached(b, f, p, q, cosine);
    if (is_near(b, cosine)) {
        f->near++;
        join(b, p, q);
    }
}

static void scan(struct balance_run *b, struct pair_scratch *s, struct balance_found *f,
                 const struct balance_meeting *r, const float *v, uint32_t first, size_t n)
{
    size_t hits = dot_above(v, n, balance_least(b, r->bound), s->at);
    for (size_t h = 0; h < hits; h++)
        balance_meet(b, f, r, first + s->at[h], v[s->at[h]]);
}

// A block that has its own panel gives the packed rows; those of visitors are packed here.
static void pack_left(struct balance_run *b, struct pair_scratch *s, const struct balance_block *k,
                      uint32_t first, uint32_t m)
{
    if (!k->visitors) {
        dot_panel_take(&s->left, &k->right, first, m);
        return;
    }
    for (uint32_t i = 0; i < m; i++)
        balance_unit(b, k, first + i, s->unit + (size_t)i * b->dim);
    dot_panel_set(&s->left, s->unit, m);
}

// Products of m rows of the stripe from i on with the n rows of c from j on.
static void compare_block(struct balance_run *b, struct pair_scratch *s, struct balance_found *f,
                          struct balance_meeting *r, uint32_t first, uint32_t i, uint32_t m,
                          uint32_t j, uint32_t n)
{
    dot_block(&s->left, i, m, &r->b->right, j, n, s->out, DOT_BLOCK_COLS);
    for (uint32_t k = 0; k < m; k++) {
        r->i = first + i + k;
        r->bound = s->bound[i + k];
        scan(b, s, f, r, s->out + (size_t)k * DOT_BLOCK_COLS, j, n);
    }
}

// Of a block with itself, what is right of the diagonal: few rows at a time, which waste little.
static void compare(struct balance_run *b, struct pair_scratch *s, struct balance_found *f,
                    const struct balance_pair *p, uint32_t first)
{
    const struct balance_block *a = &b->blocks[p->a], *c = &b->blocks[p->b];
    struct balance_meeting r = {.a = a, .b = c};
    uint32_t m = a->n - first < DOT_BLOCK_ROWS ? a->n - first : DOT_BLOCK_ROWS;
    bool same = p->a == p->b;
    uint32_t step = same ? DOT_LEFT : m;
    pack_left(b, s, a, first, m);
    // What was packed is the unit row rounded to float32: within 2^-23 of it on each side.
    for (uint32_t i = 0; i < m; i++)
        s->bound[i] = dot_bound(&s->left, i, &c->right) + 5e-7;
    for (uint32_t i = 0; i < m; i += step) {
        uint32_t rows = m - i < step ? m - i : step;
        for (uint32_t j = same ? (first + i) / DOT_RIGHT * DOT_RIGHT : 0;
             j < c->n && !signals_stop_wanted(); j += DOT_BLOCK_COLS)
            compare_block(b, s, f, &r, first, i, rows, j,
                          c->n - j < DOT_BLOCK_COLS ? c->n - j : DOT_BLOCK_COLS);
    }
}

struct balance_found *balance_found_take(struct balance_found *all, int threads)
{
    return &all[threads_take(all, sizeof *all, threads)];
}

static void stripe(void *ctx, size_t i)
{
    struct pair_turn *t = ctx;
    uint64_t at = t->first + i;
    size_t low = 0, high = t->n - 1;
    while (low < high) {
        size_t mid = (low + high + 1) / 2;
        if (t->stripes[mid] <= at)
            low = mid;
        else
            high = mid - 1;
    }
    struct balance_found *f = balance_found_take(t->found, t->threads);
    compare(t->b, &t->scratch[f - t->found], f, &t->pairs[low],
            (uint32_t)(at - t->stripes[low]) * DOT_BLOCK_ROWS);
    atomic_flag_clear(&f->busy);
}

double balance_pair_count(const struct balance_run *b, const struct balance_pair *p)
{
    double m = b->blocks[p->a].n, n = b->blocks[p->b].n;
    return p->a == p->b ? m * (m - 1) / 2 : m * n;
}

// Marks the blocks of as many pairs from `at` on as fit in memory; returns the end of these.
static size_t choose(struct balance_run *b, const struct balance_pair *pairs, size_t at, size_t n)
{
    uint64_t bytes = 0;
    size_t end = at;
    for (size_t i = 0; i < b->n_blocks; i++)
        b->blocks[i].wanted = false;
    for (; end < n; end++) {
        struct balance_block *k[2] = {&b->blocks[pairs[end].a], &b->blocks[pairs[end].b]};
        uint64_t more = k[0]->wanted ? 0 : balance_bytes_of(b, k[0]);
        more += k[1]->wanted || k[1] == k[0] ? 0 : balance_bytes_of(b, k[1]);
        if (end > at && bytes + more > balance_at_once(b))
            break;
        bytes += more;
        k[0]->wanted = k[1]->wanted = true;
    }
    return end;
}

int balance_progress(struct balance_run *b, double done, double total, struct err *e)
{
    if (b->o->progress && !b->o->progress(b->o->ctx, done, total))
        return err_set(e, "stopped");
    return 0;
}

// Compares pairs whose blocks are loaded, in turns so that progress can be seen.
static int run_batch(struct pair_turn *t, double *done, double total, struct err *e)
{
    t->stripes = mem_alloc(t->n + 1, sizeof *t->stripes, e);
    if (!t->stripes)
        return -1;
    for (size_t i = 0; i < t->n; i++)
        t->stripes[i + 1] = t->stripes[i] + n_stripes(t->b, &t->pairs[i]);
    uint64_t all = t->stripes[t->n];
    double pairs = 0, start = *done;
    for (size_t i = 0; i < t->n; i++)
        pairs += balance_pair_count(t->b, &t->pairs[i]);
    int r = 0;
    for (t->first = 0; t->first < all && !r; t->first += STRIPES_A_TURN) {
        uint64_t n = all - t->first < STRIPES_A_TURN ? all - t->first : STRIPES_A_TURN;
        r = threads_for_stop(t->threads, n, stripe, t, e);
        *done = start + pairs * (double)(t->first + n) / (double)all;
        r = r || balance_progress(t->b, *done, total, e);
    }
    free(t->stripes);
    return r ? -1 : 0;
}

static void scratch_release(struct pair_scratch *s)
{
    dot_panel_release(&s->left);
    free(s->unit);
    free(s->out);
}

static int scratch_init(struct pair_scratch *s, const struct balance_run *b, struct err *e)
{
    if (dot_panel_init(&s->left, b->kernel, DOT_SIDE_LEFT, DOT_BLOCK_ROWS, b->dim, e))
        return -1;
    s->unit = mem_alloc(DOT_BLOCK_ROWS * b->dim, sizeof *s->unit, e);
    s->out = s->unit ? mem_alloc((size_t)DOT_BLOCK_ROWS * DOT_BLOCK_COLS, sizeof(float), e) : NULL;
    return s->out ? 0 : -1;
}

static int found_init(struct balance_found *f, const struct balance_run *b, struct err *e)
{
    atomic_flag_clear(&f->busy);
    if (b->forest)
        f->edges = mem_alloc(BALANCE_EDGES, sizeof *f->edges, e);
    return b->forest && !f->edges ? -1 : 0;
}

static int run_all(struct pair_turn *t, const struct balance_pair *pairs, size_t n, struct err *e)
{
    struct balance_run *b = t->b;
    double total = 0, done = 0;
    for (size_t i = 0; i < n; i++)
        total += balance_pair_count(b, &pairs[i]);
    b->r->compared = (uint64_t)total;
    int r = 0;
    for (size_t at = 0, end; at < n && !r; at = end) {
        end = choose(b, pairs, at, n);
        t->pairs = pairs + at;
        t->n = end - at;
        r = balance_load(b, e);
        if (!r)
            r = b->o->device ? balance_pairs_device(b, t->found, t->pairs, t->n, &done, total, e)
                             : run_batch(t, &done, total, e);
    }
    for (int i = 0; i < t->threads; i++) {
        b->n_near += t->found[i].near;
        if (b->forest && t->found[i].n_edges)
            give_edges(b, &t->found[i]);
    }
    return r ? -1 : 0;
}

int balance_pairs(struct balance_run *b, const struct balance_pair *pairs, size_t n, struct err *e)
{
    struct pair_turn t = {.b = b, .threads = b->o->threads};
    size_t threads = (size_t)t.threads;
    t.found = mem_alloc(threads, sizeof *t.found, e);
    t.scratch = t.found ? mem_alloc(threads, sizeof *t.scratch, e) : NULL;
    int r = t.scratch ? 0 : -1;
    for (size_t i = 0; i < threads && !r; i++)
        r = found_init(&t.found[i], b, e) || (!b->o->device && scratch_init(&t.scratch[i], b, e));
    if (!r)
        r = run_all(&t, pairs, n, e);
    for (size_t i = 0; i < threads; i++) {
        if (t.scratch)
            scratch_release(&t.scratch[i]);
        if (t.found)
            free(t.found[i].edges);
    }
    free(t.scratch);
    free(t.found);
    return r ? -1 : 0;
}
