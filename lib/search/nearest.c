// SPDX-License-Identifier: Apache-2.0
// A row keeps `best`, the top exact results so far, and `found`, candidates with approximate
// products s. With |s - exact| <= bound, a centroid whose s is under the top-th greatest s minus
// two bounds, or under the top-th best exact product minus one bound, cannot be among the top: such
// are never looked at. Everything else is decided by dot_exact, so labels do not depend on the
// kernel.
#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "search/nearest-run.h"
#include "base/greatest.h"
#include "base/mem.h"
#include "system/threads.h"
#include "system/signals.h"

enum { FOUND = 64 }; // candidates of a row before they are settled; more than any usual row has

struct guess {
    float sim;
    uint32_t at;
};

// One row's search.
struct row_search {
    struct nearest_pick *best; // top of them, by sim descending, then number
    size_t n_best;
    struct guess *found;
    size_t n_found, room;
    float least; // approximate products under this are out
    float bound;
};

// One thread's memory.
struct nearest_scratch {
    atomic_flag busy; // first: threads_take
    struct dot_panel left;
    float *out;   // DOT_BLOCK_ROWS x DOT_BLOCK_COLS
    uint32_t *at; // DOT_BLOCK_COLS positions
    struct nearest_pick *best;
    struct guess *found;
    struct row_search rows[DOT_BLOCK_ROWS];
};

struct nearest_job {
    const struct nearest *a;
    const float *rows;
    const uint8_t *state;
    size_t n, top, room;
    int32_t *labels;
    double *sims;
    struct nearest_scratch *scratch; // one a thread
    int threads;
};

static size_t room_of(size_t top)
{
    return top > FOUND / 4 ? 4 * top : FOUND;
}

size_t nearest_bytes(size_t k, size_t dim)
{
    return dot_panel_most_bytes(DOT_SIDE_RIGHT, k, dim);
}

size_t nearest_thread_bytes(size_t dim, size_t top)
{
    size_t panel = dot_panel_most_bytes(DOT_SIDE_LEFT, DOT_BLOCK_ROWS, dim), row, all;
    if (top > SIZE_MAX / 4 || !mem_mul(room_of(top), sizeof(struct guess), &row) || !panel ||
        !mem_add(row, top * sizeof(struct nearest_pick), &row) ||
        !mem_mul(row, DOT_BLOCK_ROWS, &row) || !mem_add(row, panel, &all) ||
        !mem_add(all, sizeof(struct nearest_scratch) + (1u << 19), &all))
        return 0;
    return all;
}

static void pack_task(void *ctx, size_t i)
{
    struct nearest *a = ctx;
    size_t first = i * DOT_BLOCK_COLS, left = a->k - first;
    dot_panel_part(&a->panel, a->centroids + first * a->dim, first,
                   left < DOT_BLOCK_COLS ? left : DOT_BLOCK_COLS);
}

static int begin_index(struct nearest *a, const float *centroids, size_t k, size_t dim,
                       struct err *e)
{
    *a = (struct nearest){.centroids = centroids, .k = k, .dim = dim};
    if (k < 1 || k > INT32_MAX || dim < 1 || dim > INT32_MAX)
        return err_set(e, "cannot search %zu centroids of %zu values", k, dim);
    return 0;
}

int nearest_pack(struct nearest *a, enum dot_kernel kernel, int threads, struct err *e)
{
    if (dot_panel_init(&a->panel, kernel, DOT_SIDE_RIGHT, a->k, a->dim, e))
        return -1;
    a->panel.n = a->k;
    if (threads_for_stop(threads, (a->k + DOT_BLOCK_COLS - 1) / DOT_BLOCK_COLS, pack_task, a, e)) {
        dot_panel_release(&a->panel);
        return -1;
    }
    dot_panel_done(&a->panel);
    return 0;
}

int nearest_init_kernel(struct nearest *a, enum dot_kernel kernel, const float *centroids, size_t k,
                        size_t dim, int threads, struct err *e)
{
    return begin_index(a, centroids, k, dim, e) || nearest_pack(a, kernel, threads, e) ? -1 : 0;
}

int nearest_init_on(struct nearest *a, struct search_device *device, const float *centroids,
                    size_t k, size_t dim, int threads, struct err *e)
{
    if (begin_index(a, centroids, k, dim, e))
        return -1;
    a->device = device;
    return device ? nearest_device_init(a, threads, e) : 0;
}

void nearest_release(struct nearest *a)
{
    dot_panel_release(&a->panel);
    *a = (struct nearest){0};
}

static int by_sim(const void *x, const void *y)
{
    const struct guess *a = x, *b = y;
    if (a->sim != b->sim)
        return a->sim > b->sim ? -1 : 1;
    return a->at < b->at ? -1 : a->at > b->at;
}

void nearest_keep(struct nearest_pick *best, size_t *n, size_t top, double sim, uint32_t at)
{
    size_t i = *n;
    while (i > 0 && (sim > best[i - 1].sim || (sim == best[i - 1].sim && at < best[i - 1].at)))
        i--;
    if (i >= top)
        return;
    size_t last = *n < top ? (*n)++ : top - 1;
    memmove(best + i + 1, best + i, (last - i) * sizeof *best);
    best[i] = (struct nearest_pick){sim, at};
}

float nearest_below(double v)
{
    return nextafterf((float)v, -INFINITY);
}

// Drops the candidates that are out by the approximate products alone, and raises `least`.
static void thin(struct row_search *s, size_t top)
{
    if (s->n_found < top || s->n_found < 2)
        return;
    qsort(s->found, s->n_found, sizeof *s->found, by_sim);
    s->least = fmaxf(s->least, nearest_below((double)s->found[top - 1].sim - 2.0 * s->bound));
    while (s->n_found && s->found[s->n_found - 1].sim < s->least)
        s->n_found--;
}

// Decides all candidates exactly.
static void settle(struct row_search *s, const struct nearest *a, const float *row, size_t top)
{
    for (size_t i = 0; i < s->n_found; i++)
        if (s->found[i].sim >= s->least)
            nearest_keep(s->best, &s->n_best, top,
                         dot_exact(row, a->centroids + s->found[i].at * a->dim, a->dim),
                         s->found[i].at);
    s->n_found = 0;
    if (s->n_best == top)
        s->least = fmaxf(s->least, nearest_below(s->best[top - 1].sim - s->bound));
}

static void add(struct row_search *s, const struct nearest *a, const float *row, size_t top,
                float sim, uint32_t at)
{
    if (s->n_found == s->room) {
        thin(s, top);
        if (s->n_found > s->room / 2)
            settle(s, a, row, top); // so many within the bound: only exact products part them
    }
    if (sim >= s->least)
        s->found[s->n_found++] = (struct guess){sim, at};
}

static int descending(const void *x, const void *y)
{
    float a = *(const float *)x, b = *(const float *)y;
    return a > b ? -1 : a < b;
}

// The top-th greatest of n >= top values, which may be moved about.
static float nth(float *v, size_t n, size_t top)
{
    enum { FEW = 32 };
    if (top > FEW) {
        qsort(v, n, sizeof *v, descending);
        return v[top - 1];
    }
    float best[FEW];
    for (size_t i = 0; i < top; i++)
        best[i] = -INFINITY;
    for (size_t i = 0; i < n; i++)
        greatest_keep(best, top, v[i]);
    return best[top - 1];
}

// At most the top-th greatest of n values, and close to it: the values are parted into groups, and
// the top-th greatest of the groups' maxima has top values at or above it. -INFINITY where n < top.
static float about_nth(const float *v, size_t n, size_t top)
{
    float most[DOT_BLOCK_COLS];
    size_t width = 16, groups = 0;
    while (width > 1 && n / width < 2 * top)
        width /= 2;
    for (size_t i = 0; i < n; i += width)
        most[groups++] = dot_max(v + i, n - i < width ? n - i : width);
    if (groups < top)
        return -INFINITY;
    return nth(most, groups, top);
}

static void scan(const struct nearest_job *j, struct nearest_scratch *t, struct row_search *s,
                 const float *row, const float *v, size_t first, size_t n)
{
    if (j->top == 1)
        s->least = fmaxf(s->least, nearest_below((double)dot_max(v, n) - 2.0 * s->bound));
    size_t hits = dot_above(v, n, s->least, t->at);
    if (hits > 2 * j->top + 8) {
        s->least = fmaxf(s->least, nearest_below((double)about_nth(v, n, j->top) - 2.0 * s->bound));
        hits = dot_above(v, n, s->least, t->at);
    }
    for (size_t h = 0; h < hits; h++)
        add(s, j->a, row, j->top, v[t->at[h]], (uint32_t)first + t->at[h]);
}

void nearest_write(const struct nearest_pick *best, size_t n, size_t top, int32_t *labels,
                   double *sims)
{
    for (size_t i = 0; i < top; i++) {
        labels[i] = i < n ? (int32_t)best[i].at : -1;
        if (sims)
            sims[i] = i < n ? best[i].sim : 0;
    }
}

static void finish(const struct nearest_job *j, struct row_search *s, const float *row, size_t i)
{
    thin(s, j->top);
    settle(s, j->a, row, j->top);
    nearest_write(s->best, s->n_best, j->top, j->labels + i * j->top,
                  j->sims ? j->sims + i * j->top : NULL);
}

static void begin(const struct nearest_job *j, struct nearest_scratch *t, size_t m)
{
    for (size_t i = 0; i < m; i++)
        t->rows[i] = (struct row_search){.best = t->best + i * j->top,
                                         .found = t->found + i * j->room,
                                         .room = j->room,
                                         .least = -INFINITY,
                                         .bound = dot_bound(&t->left, i, &j->a->panel)};
}

// Looks for a stop between blocks of centroids, as many take seconds; threads_for_stop returns it.
static void search_rows(const struct nearest_job *j, struct nearest_scratch *t, size_t first,
                        size_t m)
{
    const struct nearest *a = j->a;
    const float *rows = j->rows + first * a->dim;
    dot_panel_set(&t->left, rows, m);
    begin(j, t, m);
    for (size_t c = 0; c < a->k && !signals_stop_wanted(); c += DOT_BLOCK_COLS) {
        size_t n = a->k - c < DOT_BLOCK_COLS ? a->k - c : DOT_BLOCK_COLS;
        dot_block(&t->left, 0, m, &a->panel, c, n, t->out, DOT_BLOCK_COLS);
        for (size_t i = 0; i < m; i++)
            if (!j->state || !row_failed(j->state[first + i]))
                scan(j, t, &t->rows[i], rows + i * a->dim, t->out + i * DOT_BLOCK_COLS, c, n);
    }
    for (size_t i = 0; i < m; i++)
        finish(j, &t->rows[i], rows + i * a->dim, first + i);
}

static void task(void *ctx, size_t i)
{
    struct nearest_job *j = ctx;
    int slot = threads_take(j->scratch, sizeof *j->scratch, j->threads);
    size_t first = i * DOT_BLOCK_ROWS, left = j->n - first;
    search_rows(j, &j->scratch[slot], first, left < DOT_BLOCK_ROWS ? left : DOT_BLOCK_ROWS);
    atomic_flag_clear(&j->scratch[slot].busy);
}

static void scratch_release(struct nearest_scratch *t)
{
    dot_panel_release(&t->left);
    free(t->out);
    free(t->at);
    free(t->best);
    free(t->found);
}

static int scratch_init(struct nearest_scratch *t, const struct nearest_job *j, struct err *e)
{
    size_t n_best, n_found;
    atomic_flag_clear(&t->busy);
    if (!mem_mul(DOT_BLOCK_ROWS, j->top, &n_best) || !mem_mul(DOT_BLOCK_ROWS, j->room, &n_found))
        return err_set(e, "too many labels a row: %zu", j->top);
    if (dot_panel_init(&t->left, j->a->panel.kernel, DOT_SIDE_LEFT, DOT_BLOCK_ROWS, j->a->dim, e))
        return -1;
    t->out = mem_alloc((size_t)DOT_BLOCK_ROWS * DOT_BLOCK_COLS, sizeof(float), e);
    t->at = t->out ? mem_alloc(DOT_BLOCK_COLS, sizeof *t->at, e) : NULL;
    t->best = t->at ? mem_alloc(n_best, sizeof *t->best, e) : NULL;
    t->found = t->best ? mem_alloc(n_found, sizeof *t->found, e) : NULL;
    return t->found ? 0 : -1;
}

int nearest_rows(struct nearest *a, int threads, const float *rows, size_t n, const uint8_t *state,
                 size_t top, int32_t *labels, double *sims, struct err *e)
{
    return a->device ? nearest_rows_device(a, threads, rows, n, state, top, labels, sims, e)
                     : nearest_rows_here(a, threads, rows, n, state, top, labels, sims, e);
}

int nearest_rows_here(struct nearest *a, int threads, const float *rows, size_t n,
                      const uint8_t *state, size_t top, int32_t *labels, double *sims,
                      struct err *e)
{
    struct nearest_job j = {.a = a,
                            .rows = rows,
                            .state = state,
                            .n = n,
                            .top = top,
                            .room = room_of(top),
                            .labels = labels,
                            .sims = sims};
    size_t tasks = (n + DOT_BLOCK_ROWS - 1) / DOT_BLOCK_ROWS;
    if (top < 1 || top > INT32_MAX / 4)
        return err_set(e, "cannot give %zu labels a row", top);
    if (tasks == 0)
        return 0;
    if (!a->panel.data && nearest_choose(a, threads, rows, n, state, top, e))
        return -1;
    j.threads = (size_t)threads > tasks ? (int)tasks : threads;
    j.scratch = mem_alloc((size_t)j.threads, sizeof *j.scratch, e);
    if (!j.scratch)
        return -1;
    int r = 0;
    for (int i = 0; i < j.threads && !r; i++)
        r = scratch_init(&j.scratch[i], &j, e);
    if (!r)
        r = threads_for_stop(j.threads, tasks, task, &j, e);
    for (int i = 0; i < j.threads; i++)
        scratch_release(&j.scratch[i]);
    free(j.scratch);
    return r;
}
