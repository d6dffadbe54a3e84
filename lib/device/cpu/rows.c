// SPDX-License-Identifier: Apache-2.0
// Moving rows: gathers, patches, the inputs of the towers.
#include <string.h>

#include "device/cpu/vec.h"
#include "device/cpu/cpu.h"

enum { RUN = 8, SLOT_ROW = 2 };

struct gather {
    size_t src_row, dst_row; // bytes
    const char *src;
    const int32_t *index;
    char *dst;
};

static void gather_rows(void *ctx, size_t first, size_t count, int worker)
{
    (void)worker;
    const struct gather *g = ctx;
    for (size_t i = first; i < first + count; i++)
        memcpy(g->dst + i * g->dst_row, g->src + (size_t)g->index[i] * g->src_row, g->dst_row);
}

void cpu_gather(struct dev *d, size_t n, size_t cols, const float *src, size_t src_ld,
                const int32_t *index, float *dst)
{
    struct gather g = {src_ld * sizeof *src, cols * sizeof *src, (const char *)src, index,
                       (char *)dst};
    cpu_for_runs(d, n, RUN, gather_rows, &g);
}

void cpu_gather_act(struct dev *d, size_t n, size_t cols, const void *src, size_t src_ld,
                    const int32_t *index, void *dst)
{
    struct gather g = {src_ld * d->act_size, cols * d->act_size, src, index, dst};
    cpu_for_runs(d, n, RUN, gather_rows, &g);
}

struct patchify {
    struct dev *d;
    size_t size, patch, grid;
    const uint8_t *pixels;
    float scale[3], shift[3]; // v * scale + shift
    void *out;
};

static void patch_channel(const struct patchify *j, const uint8_t *corner, int c, float *out)
{
    for (size_t y = 0; y < j->patch; y++) {
        const uint8_t *p = corner + y * j->size * 3 + c;
        for (size_t x = 0; x < j->patch; x++)
            *out++ = (float)p[3 * x] * j->scale[c] + j->shift[c];
    }
}

static void patch_rows(void *ctx, size_t first, size_t count, int worker)
{
    const struct patchify *j = ctx;
    size_t area = j->patch * j->patch, cols = 3 * area, per = j->grid * j->grid;
    float *tmp = cpu_scratch(j->d, worker, SLOT_ROW, cols * sizeof *tmp);
    if (!tmp)
        return;
    for (size_t i = first; i < first + count; i++) {
        size_t y = i % per / j->grid * j->patch, x = i % j->grid * j->patch;
        const uint8_t *corner = j->pixels + ((i / per * j->size + y) * j->size + x) * 3;
        void *to = cpu_at(j->d, j->out, i * cols);
        float *out = cpu_dest(j->d, to, tmp);
        for (int c = 0; c < 3; c++)
            patch_channel(j, corner, c, out + (size_t)c * area);
        cpu_store(j->d, out, to, cols);
    }
}

void cpu_patchify(struct dev *d, size_t n, size_t size, size_t patch, const uint8_t *pixels,
                  const float mean[3], const float std[3], void *out)
{
    struct patchify j = {d, size, patch, size / patch, pixels, {0}, {0}, out};
    for (int c = 0; c < 3; c++) {
        j.scale[c] = (float)(1 / (255.0 * (double)std[c]));
        j.shift[c] = (float)(-(double)mean[c] / (double)std[c]);
    }
    cpu_for_runs(d, n * j.grid * j.grid, RUN, patch_rows, &j);
}

struct assemble {
    size_t patches, first, cols; // first: 1 with a class token
    const float *rows, *cls, *pos;
    float *x;
};

static void assemble_rows(void *ctx, size_t first, size_t count, int worker)
{
    (void)worker;
    const struct assemble *j = ctx;
    for (size_t r = first; r < first + count; r++) {
        size_t p = r % (j->first + j->patches), i = r / (j->first + j->patches);
        const float *src =
            p < j->first ? j->cls : j->rows + (i * j->patches + p - j->first) * j->cols;
        vec_add(src, j->pos + p * j->cols, j->x + r * j->cols, j->cols);
    }
}

void cpu_assemble(struct dev *d, size_t n, size_t patches, size_t cols, const float *patch_rows_in,
                  const float *cls, const float *pos, float *x)
{
    struct assemble j = {patches, cls != NULL, cols, patch_rows_in, cls, pos, x};
    cpu_for_runs(d, n * (j.first + patches), RUN, assemble_rows, &j);
}

struct embed {
    const struct dev_ragged *r;
    size_t cols;
    const int32_t *token;
    const float *table, *pos;
    float *x;
};

static void embed_sequence(void *ctx, size_t i, int worker)
{
    (void)worker;
    const struct embed *j = ctx;
    size_t start = (size_t)j->r->start[i], end = (size_t)j->r->start[i + 1];
    for (size_t r = start; r < end; r++)
        vec_add(j->table + (size_t)j->token[r] * j->cols, j->pos + (r - start) * j->cols,
                j->x + r * j->cols, j->cols);
}

void cpu_embed(struct dev *d, const struct dev_ragged *r, size_t cols, const int32_t *token,
               const float *table, const float *pos, float *x)
{
    struct embed j = {r, cols, token, table, pos, x};
    pool_for(cpu_of(d)->pool, r->n, embed_sequence, &j);
}
