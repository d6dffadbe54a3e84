// SPDX-License-Identifier: Apache-2.0
// Which kernel compares these rows fastest. Products of int8 take half the time of bfloat16 ones,
// but their bound leaves more pairs in doubt, each of which is taken again from the rows as read.
// How many depends on the rows (a value far larger than the others widens it), so some are tried.
// The results are the same either way.
#include <math.h>
#include <stdlib.h>

#include "balance/run.h"
#include "base/mem.h"

enum { TRIALS = 16, ROWS = 7 * DOT_RIGHT };

struct pair_trial {
    struct balance_run *b;
    struct dot_panel left, right;
    float *unit; // ROWS x dim
    float *out;  // ROWS x ROWS
    double pairs, doubts;
};

static int trial_init(struct pair_trial *t, struct err *e)
{
    size_t dim = t->b->dim;
    if (dot_panel_init(&t->left, DOT_I8, DOT_SIDE_LEFT, ROWS, dim, e) ||
        dot_panel_init(&t->right, DOT_I8, DOT_SIDE_RIGHT, ROWS, dim, e))
        return -1;
    t->unit = mem_alloc(ROWS * dim, sizeof *t->unit, e);
    t->out = t->unit ? mem_alloc((size_t)ROWS * ROWS, sizeof *t->out, e) : NULL;
    return t->out ? 0 : -1;
}

static void trial_release(struct pair_trial *t)
{
    dot_panel_release(&t->left);
    dot_panel_release(&t->right);
    free(t->unit);
    free(t->out);
}

// The rows at places first .. first + n, made unit.
static int fetch(struct pair_trial *t, uint32_t first, uint32_t n, struct err *e)
{
    const struct balance_run *b = t->b;
    uint64_t rows[ROWS];
    for (uint32_t i = 0; i < n; i++)
        rows[i] = b->order[first + i];
    if (!row_store_there(&b->rows) && b->source->gather(b->source->ctx, rows, n, t->unit, e))
        return -1;
    for (uint32_t i = 0; i < n; i++) {
        float *to = t->unit + i * b->dim;
        const float *x = row_store_there(&b->rows) ? row_store_at(&b->rows, rows[i], to) : to;
        dot_scale(x, 1 / sqrt(dot_exact(x, x, b->dim)), to, b->dim);
    }
    return 0;
}

static void count(struct pair_trial *t, uint32_t n)
{
    double distance = t->b->distance >= 0 ? t->b->distance : 0.1; // not known yet: a likely one
    for (uint32_t i = 0; i < n; i++) {
        double bound = dot_bound(&t->left, i, &t->right);
        for (uint32_t j = i + 1; j < n; j++)
            t->doubts += fabs(t->out[i * ROWS + j] - (1 - distance)) <= bound;
    }
    t->pairs += n * (n - 1) / 2.0;
}

// The rows of one cell from place `at` on.
static int run_trial(struct pair_trial *t, uint32_t at, struct err *e)
{
    const struct balance_run *b = t->b;
    size_t row = b->order[at], cell = b->cell ? b->cell[row] : 0;
    uint32_t left = b->start[cell + 1] - at, n = left < ROWS ? left : ROWS;
    if (fetch(t, at, n, e))
        return -1;
    dot_panel_set(&t->left, t->unit, n);
    dot_panel_set(&t->right, t->unit, n);
    dot_block(&t->left, 0, n, &t->right, 0, n, t->out, ROWS);
    count(t, n);
    return 0;
}

static int try_int8(struct balance_run *b, struct err *e)
{
    struct pair_trial t = {.b = b};
    int r = trial_init(&t, e);
    for (uint64_t i = 0; i < TRIALS && !r; i++)
        r = run_trial(&t, (uint32_t)(i * b->usable / TRIALS), e);
    if (!r && t.doubts <= DOT_I8_DOUBT * t.pairs)
        b->kernel = DOT_I8;
    trial_release(&t);
    return r ? -1 : 0;
}

int balance_choose_kernel(struct balance_run *b, struct err *e)
{
    b->kernel = dot_best_kernel();
    if (!b->o->device && b->usable && dot_has_kernel(DOT_I8, b->dim) && try_int8(b, e))
        return -1;
    b->r->kernel = b->o->device ? "the device's" : dot_kernel_name(b->kernel);
    return 0;
}
