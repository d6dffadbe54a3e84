// SPDX-License-Identifier: Apache-2.0
// Rows added into tables. Threads share out columns, so that rows are always added in their order.
#include "device/cpu/simd.h"
#include "device/cpu/grad/grad.h"

enum { COLS = 64, CHUNK = 512 };

struct rows_job {
    struct dev *d;
    size_t n, cols, dst_ld, patches, first;
    const float *src;
    const int32_t *index, *start;
    float *dst, *dpos;
    void *act;
};

static void scatter_block(void *ctx, size_t b)
{
    const struct rows_job *j = ctx;
    size_t c0 = b * COLS, c1 = size_min(j->cols, c0 + COLS);
    for (size_t i = 0; i < j->n; i++) {
        const float *src = j->src + i * j->cols;
        float *dst = j->dst + (size_t)j->index[i] * j->dst_ld;
        for (size_t c = c0; c < c1; c++)
            dst[c] += src[c];
    }
}

void dev_cpu_scatter_add(struct dev *d, size_t n, size_t cols, const float *src,
                         const int32_t *index, float *dst, size_t dst_ld)
{
    struct rows_job j = {.n = n, .cols = cols, .dst_ld = dst_ld, .src = src, .index = index};
    j.dst = dst;
    dev_par(d, blocks_of(cols, COLS), scatter_block, &j);
}

// One position of all pictures.
static void assemble_position(void *ctx, size_t s)
{
    const struct rows_job *j = ctx;
    float *dpos = j->dpos + s * j->cols, tmp[CHUNK];
    for (size_t i = 0; i < j->n; i++) {
        const float *dx = j->src + (i * (j->first + j->patches) + s) * j->cols;
        for (size_t c = 0; c < j->cols; c++)
            dpos[c] += dx[c];
        if (s < j->first) {
            for (size_t c = 0; c < j->cols; c++)
                j->dst[c] += dx[c];
            continue;
        }
        size_t row = (i * j->patches + s - j->first) * j->cols;
        for (size_t c0 = 0; c0 < j->cols; c0 += CHUNK) {
            size_t n = size_min(CHUNK, j->cols - c0);
            float *y = act_begin(j->d, j->act, row + c0, tmp);
            memcpy(y, dx + c0, n * sizeof *y);
            act_put(j->d, j->act, row + c0, n, tmp);
        }
    }
}

void dev_cpu_assemble_bwd(struct dev *d, size_t n, size_t patches, size_t cols, const float *dx,
                          float *dcls, float *dpos, void *dpatch_rows)
{
    struct rows_job j = {.d = d, .n = n, .cols = cols, .patches = patches, .src = dx};
    j.dst = dcls;
    j.first = dcls != NULL;
    j.dpos = dpos;
    j.act = dpatch_rows;
    dev_par(d, j.first + patches, assemble_position, &j);
}

static void embed_block(void *ctx, size_t b)
{
    const struct rows_job *j = ctx;
    size_t c0 = b * COLS, c1 = size_min(j->cols, c0 + COLS);
    for (size_t i = 0; i < j->n; i++)
        for (int32_t r = j->start[i]; r < j->start[i + 1]; r++) {
            const float *dx = j->src + (size_t)r * j->cols;
            float *row = j->dst + (size_t)j->index[r] * j->cols;
            float *pos = j->dpos + (size_t)(r - j->start[i]) * j->cols;
            for (size_t c = c0; c < c1; c++) {
                row[c] += dx[c];
                pos[c] += dx[c];
            }
        }
}

void dev_cpu_embed_bwd(struct dev *d, const struct dev_ragged *r, size_t cols, const int32_t *token,
                       const float *dx, float *dtable, float *dpos)
{
    struct rows_job j = {.n = r->n, .cols = cols, .src = dx, .index = token, .start = r->start};
    j.dst = dtable;
    j.dpos = dpos;
    dev_par(d, blocks_of(cols, COLS), embed_block, &j);
}
