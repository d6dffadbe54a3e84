// SPDX-License-Identifier: Apache-2.0
// Which kernel finds the candidates fastest: int8 products take half the time of bfloat16 ones, but
// more centroids come within their bound of the best, and each of these is decided by dot_exact.
// Some rows are tried. The labels are the same either way.
#include <math.h>
#include <stdlib.h>

#include "search/nearest-run.h"
#include "base/mem.h"

enum { TRIALS = 2 * DOT_LEFT, MOST_TOP = 32, FEWEST_ROWS = 64 * TRIALS, FEWEST_CENTROIDS = 64 };

struct nearest_trial {
    const struct nearest *a;
    struct dot_panel left;
    float *rows, *out; // TRIALS x dim; TRIALS x DOT_BLOCK_COLS
    size_t n, top;
    float best[TRIALS][MOST_TOP]; // greatest products of each row, descending
    double near;                  // products within the bound of these
};

static void take_rows(struct nearest_trial *t, const float *rows, size_t n, const uint8_t *state)
{
    size_t dim = t->a->dim;
    for (size_t i = 0; i < TRIALS; i++) {
        size_t row = i * n / TRIALS;
        if (state && row_failed(state[row]))
            continue;
        for (size_t d = 0; d < dim; d++)
            t->rows[t->n * dim + d] = rows[row * dim + d];
        t->n++;
    }
    dot_panel_set(&t->left, t->rows, t->n);
}

static void keep_best(float *best, size_t top, const float *v, size_t n)
{
    for (size_t j = 0; j < n; j++) {
        if (!(v[j] > best[top - 1]))
            continue;
        size_t i = top - 1;
        for (; i > 0 && v[j] > best[i - 1]; i--)
            best[i] = best[i - 1];
        best[i] = v[j];
    }
}

static size_t count(const float *v, size_t n, float least)
{
    size_t found = 0;
    for (size_t j = 0; j < n; j++)
        found += v[j] >= least;
    return found;
}

static void scan_block(struct nearest_trial *t, size_t i, size_t n, bool counting)
{
    const float *v = t->out + i * DOT_BLOCK_COLS;
    float bound = dot_bound(&t->left, i, &t->a->panel);
    if (counting)
        t->near += (double)count(v, n, t->best[i][t->top - 1] - 2 * bound);
    else
        keep_best(t->best[i], t->top, v, n);
}

static void run(struct nearest_trial *t)
{
    const struct nearest *a = t->a;
    for (size_t i = 0; i < t->n; i++)
        for (size_t k = 0; k < t->top; k++)
            t->best[i][k] = -INFINITY;
    for (int counting = 0; counting < 2; counting++)
        for (size_t c = 0; c < a->k; c += DOT_BLOCK_COLS) {
            size_t n = a->k - c < DOT_BLOCK_COLS ? a->k - c : DOT_BLOCK_COLS;
            dot_block(&t->left, 0, t->n, &a->panel, c, n, t->out, DOT_BLOCK_COLS);
            for (size_t i = 0; i < t->n; i++)
                scan_block(t, i, n, counting);
        }
}

// Whether the int8 panel that `a` has is worth it. 1, 0 or -1.
static int pays(const struct nearest *a, const float *rows, size_t n, const uint8_t *state,
                size_t top, struct err *e)
{
    struct nearest_trial t = {.a = a, .top = top};
    int r = dot_panel_init(&t.left, DOT_I8, DOT_SIDE_LEFT, TRIALS, a->dim, e);
    t.rows = r ? NULL : mem_alloc(TRIALS * a->dim, sizeof *t.rows, e);
    t.out = t.rows ? mem_alloc((size_t)TRIALS * DOT_BLOCK_COLS, sizeof *t.out, e) : NULL;
    if (t.out) {
        take_rows(&t, rows, n, state);
        run(&t);
        double products = (double)t.n * (double)a->k, labels = (double)t.n * (double)top;
        r = t.near - labels <= DOT_I8_DOUBT * products;
    } else {
        r = -1;
    }
    dot_panel_release(&t.left);
    free(t.rows);
    free(t.out);
    return r;
}

int nearest_choose(struct nearest *a, int threads, const float *rows, size_t n,
                   const uint8_t *state, size_t top, struct err *e)
{
    bool fit = dot_has_kernel(DOT_I8, a->dim) && top <= MOST_TOP && a->k >= FEWEST_CENTROIDS;
    if (fit && n >= FEWEST_ROWS) {
        if (nearest_pack(a, DOT_I8, threads, e))
            return -1;
        int r = pays(a, rows, n, state, top, e);
        if (r)
            return r < 0 ? -1 : 0;
        dot_panel_release(&a->panel);
    }
    return nearest_pack(a, dot_best_kernel(), threads, e);
}
