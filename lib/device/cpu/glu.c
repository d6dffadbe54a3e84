// SPDX-License-Identifier: Apache-2.0
// What towers other than plain CLIP's have: gated MLPs, rotary embeddings, means of rows.
#include <string.h>

#include "device/cpu/simd.h"
#include "device/cpu/cpu.h"

enum { RUN = 4, CHUNK = 512, WIDEN = 8192, SLOT_ROW = 2 };

struct glu {
    struct dev *d;
    size_t cols;
    const void *pre;
    void *mid;
};

struct turn {
    struct dev *d;
    size_t cols, head, positions, ld;
    const float *table;
    bool back;
    void *x;
};

#define LEVELS_OF "device/cpu/glu-levels.h"
#include "device/cpu/levels.h"

static void glu_rows(void *ctx, size_t first, size_t count, int worker)
{
    const struct glu *j = ctx;
    float gate[CHUNK], x[CHUNK], made[CHUNK];
    (void)worker;
    for (size_t r = first; r < first + count; r++)
        for (size_t c0 = 0; c0 < j->cols; c0 += CHUNK) {
            size_t n = size_min(CHUNK, j->cols - c0), at = r * 2 * j->cols + c0;
            const float *a = act_read(j->d, j->pre, at, n, gate);
            const float *b = act_read(j->d, j->pre, at + j->cols, n, x);
            float *to = act_begin(j->d, j->mid, r * j->cols + c0, made);
            AT_LEVEL(glu_run)(n, a, b, to);
            act_put(j->d, j->mid, r * j->cols + c0, n, made);
        }
}

void cpu_swiglu(struct dev *d, size_t rows, size_t cols, const void *pre, void *mid)
{
    struct glu j = {d, cols, pre, mid};
    cpu_for_runs(d, rows, RUN, glu_rows, &j);
}

static void turn_rows(void *ctx, size_t first, size_t count, int worker)
{
    const struct turn *j = ctx;
    float *tmp =
        j->d->act == DEV_F32 ? NULL : cpu_scratch(j->d, worker, SLOT_ROW, j->cols * sizeof *tmp);
    if (j->d->act != DEV_F32 && !tmp)
        return;
    for (size_t r = first; r < first + count; r++) {
        void *at = cpu_at(j->d, j->x, r * j->ld);
        float *x = tmp ? tmp : at;
        if (tmp)
            bf16_to_f32(at, tmp, j->cols);
        AT_LEVEL(turn_row)(j, j->table + r % j->positions * j->head, x);
        cpu_store(j->d, x, at, j->cols);
    }
}

void cpu_rotate(struct dev *d, size_t rows, size_t cols, size_t head_dim, size_t positions,
                const float *table, bool back, void *x, size_t x_ld)
{
    struct turn j = {d, cols, head_dim, positions, x_ld, table, back, x};
    cpu_for_runs(d, rows, RUN, turn_rows, &j);
}

struct widen {
    struct dev *d;
    size_t n;
    const void *x;
    float *y;
};

static void widen_run(void *ctx, size_t b, int worker)
{
    const struct widen *j = ctx;
    size_t at = b * WIDEN, n = size_min(WIDEN, j->n - at);
    (void)worker;
    if (j->d->act == DEV_F32)
        memcpy(j->y + at, (const float *)j->x + at, n * sizeof *j->y);
    else
        bf16_to_f32((const uint16_t *)j->x + at, j->y + at, n);
}

void cpu_widen(struct dev *d, size_t n, const void *x, float *y)
{
    struct widen j = {d, n, x, y};
    pool_for(cpu_of(d)->pool, blocks_of(n, WIDEN), widen_run, &j);
}

struct mean {
    size_t positions, first, cols;
    const float *x;
    float *y;
};

// The rows of a sample in their order.
static void mean_of(void *ctx, size_t i, int worker)
{
    const struct mean *j = ctx;
    float *y = j->y + i * j->cols, by = 1.0f / (float)(j->positions - j->first);
    (void)worker;
    memset(y, 0, j->cols * sizeof *y);
    for (size_t r = j->first; r < j->positions; r++) {
        const float *x = j->x + (i * j->positions + r) * j->cols;
        for (size_t c = 0; c < j->cols; c++)
            y[c] += x[c];
    }
    for (size_t c = 0; c < j->cols; c++)
        y[c] *= by;
}

void cpu_mean_rows(struct dev *d, size_t n, size_t positions, size_t first, size_t cols,
                   const float *x, float *y)
{
    struct mean j = {positions, first, cols, x, y};
    pool_for(cpu_of(d)->pool, n, mean_of, &j);
}
