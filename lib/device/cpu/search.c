// SPDX-License-Identifier: Apache-2.0
// Searching blocks of scores: the plain form that other devices are held against. The CPU's own
// searches go by search/dot-block.h, which packs for its registers.
#include <cblas.h>
#include <math.h>
#include <string.h>

#include "base/greatest.h"
#include "device/cpu/cpu.h"

enum { RUN = 64, SLOT_A = 0, SLOT_B = 1 };

struct scores {
    struct dev *d;
    size_t m, n, k, ld;
    const void *a, *b;
    float *v;
};

static void score_rows(void *ctx, size_t first, size_t count, int worker)
{
    const struct scores *s = ctx;
    float *ta = cpu_scratch(s->d, worker, SLOT_A, count * s->k * sizeof *ta);
    float *tb = cpu_scratch(s->d, worker, SLOT_B, DEV_SCORE_COLS * s->k * sizeof *tb);
    if (!ta || !tb)
        return;
    const float *a = cpu_load(s->d, cpu_at(s->d, s->a, first * s->k), count * s->k, ta);
    for (size_t j = 0; j < s->n; j += DEV_SCORE_COLS) {
        size_t n = s->n - j < DEV_SCORE_COLS ? s->n - j : DEV_SCORE_COLS;
        const float *b = cpu_load(s->d, cpu_at(s->d, s->b, j * s->k), n * s->k, tb);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)count, (int)n, (int)s->k, 1, a,
                    (int)s->k, b, (int)s->k, 0, s->v + first * s->ld + j, (int)s->ld);
    }
}

void cpu_scores(struct dev *d, size_t m, const void *a, size_t n, const void *b, size_t k, float *v,
                size_t ld)
{
    struct scores s = {d, m, n, k, ld, a, b, v};
    cpu_for_runs(d, m, RUN, score_rows, &s);
}

static void list(const struct dev_hits *to, uint32_t row, uint32_t col, float score)
{
    if (*to->n < to->room)
        to->hit[*to->n] = (struct dev_hit){row, col, score};
    ++*to->n;
}

void cpu_hits_top(struct dev *d, const struct dev_scores *s, const struct dev_top *t,
                  const struct dev_hits *to)
{
    (void)d;
    for (size_t i = 0; i < s->rows; i++) {
        const float *v = s->v + i * s->ld;
        float *best = t->best + i * t->n;
        for (size_t k = 0; t->first && k < t->n; k++)
            best[k] = -INFINITY;
        if (t->first)
            t->found[i] = 0;
        for (size_t j = 0; j < s->cols; j++)
            greatest_keep(best, t->n, v[j]);
        float least = best[t->n - 1] - t->slack[i];
        for (size_t j = 0; j < s->cols && !(t->found[i] & DEV_TOP_FULL); j++) {
            if (!(v[j] >= least))
                continue;
            if (t->found[i] == t->most) {
                t->found[i] |= DEV_TOP_FULL;
                continue;
            }
            list(to, s->row0 + (uint32_t)i, s->col0 + (uint32_t)j, v[j]);
            t->found[i]++;
        }
    }
}

void cpu_hits_above(struct dev *d, const struct dev_scores *s, const float *least, bool later,
                    const struct dev_hits *to)
{
    (void)d;
    for (size_t i = 0; i < s->rows; i++)
        for (size_t j = 0; j < s->cols; j++) {
            uint32_t row = s->row0 + (uint32_t)i, col = s->col0 + (uint32_t)j;
            if (s->v[i * s->ld + j] >= least[i] && (!later || col > row))
                list(to, row, col, s->v[i * s->ld + j]);
        }
}
