// SPDX-License-Identifier: Apache-2.0
// Parameters of a model under training, and the way through a whole tower.
#include "model/grad.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

float *clip_param(const struct clip_grad *g, enum clip_tower_id t, enum clip_kind k, int layer)
{
    int i = clip_table_find(g->table, t, k, layer);
    return i < 0 ? NULL : g->flat + g->table->t[i].offset;
}

float *clip_param_grad(const struct clip_grad *g, enum clip_tower_id t, enum clip_kind k, int layer)
{
    int i = clip_table_find(g->table, t, k, layer);
    return i < 0 ? NULL : g->grad + g->table->t[i].offset;
}

static int view(struct clip_grad *g, struct dev_weight **w, const float *at, size_t out, size_t in,
                bool transposed, struct err *e)
{
    *w = g->d->op->weight_view(g->d, at, out, in, transposed, e);
    return *w ? 0 : -1;
}

static int open_tower(struct clip_grad *g, enum clip_tower_id id, struct err *e)
{
    const struct clip_config *c = &g->table->cfg;
    struct clip_grad_tower *t = &g->tower[id];
    t->id = id;
    t->cfg = id == CLIP_VISION ? &c->vision : &c->text;
    size_t W = (size_t)t->cfg->width, M = (size_t)t->cfg->mlp, E = (size_t)c->embed_dim;
    size_t P = (size_t)c->patch_size;
    if (!(t->blocks = mem_alloc((size_t)t->cfg->layers, sizeof *t->blocks, e)))
        return -1;
    for (int l = 0; l < t->cfg->layers; l++) {
        struct clip_grad_block *b = &t->blocks[l];
        const float *qkv = clip_param(g, id, CLIP_K_QKV_W, l);
        int bad = l + 1 < t->cfg->layers ? view(g, &b->qkv, qkv, 3 * W, W, false, e)
                                         : view(g, &b->q, qkv, W, W, false, e) ||
                                               view(g, &b->kv, qkv + W * W, 2 * W, W, false, e);
        if (bad || view(g, &b->out, clip_param(g, id, CLIP_K_OUT_W, l), W, W, false, e) ||
            view(g, &b->fc, clip_param(g, id, CLIP_K_FC_W, l), M, W, false, e) ||
            view(g, &b->proj, clip_param(g, id, CLIP_K_PROJ_W, l), W, M, false, e))
            return -1;
    }
    if (id == CLIP_VISION &&
        view(g, &t->conv, clip_param(g, id, CLIP_K_PATCH, -1), W, 3 * P * P, false, e))
        return -1;
    return view(g, &t->head, clip_param(g, id, CLIP_K_HEAD, -1), E, W, true, e);
}

int clip_grad_init(struct clip_grad *g, struct dev *d, const struct clip_table *table,
                   bool recompute, struct err *e)
{
    *g = (struct clip_grad){.d = d, .table = table, .recompute = recompute};
    size_t bytes = table->n_flat * sizeof(float);
    if (!(g->flat = d->op->alloc(d, bytes, e)) || !(g->grad = d->op->alloc(d, bytes, e)) ||
        open_tower(g, CLIP_VISION, e) || open_tower(g, CLIP_TEXT, e)) {
        clip_grad_release(g);
        return -1;
    }
    return 0;
}

// Calls f for each of the tower's weights.
static void each_weight(struct clip_grad *g, struct clip_grad_tower *t,
                        void (*f)(struct dev *, struct dev_weight *))
{
    for (int l = 0; t->blocks && l < t->cfg->layers; l++) {
        struct clip_grad_block *b = &t->blocks[l];
        struct dev_weight *w[] = {b->qkv, b->q, b->kv, b->out, b->fc, b->proj};
        for (size_t i = 0; i < sizeof w / sizeof *w; i++)
            if (w[i])
                f(g->d, w[i]);
    }
    if (t->conv)
        f(g->d, t->conv);
    if (t->head)
        f(g->d, t->head);
}

static void free_scratch(struct clip_grad *g)
{
    struct clip_grad_scratch *s = &g->s;
    void *all[] = {s->dx, s->dxs, s->dy, s->dh, s->dmid, s->dqkv, s->dqs};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i])
            g->d->op->free(g->d, all[i]);
    memset(s, 0, sizeof *s);
}

void clip_grad_release(struct clip_grad *g)
{
    if (!g->d)
        return;
    for (int i = 0; i < 2; i++) {
        each_weight(g, &g->tower[i], g->d->op->weight_free);
        free(g->tower[i].blocks);
    }
    free_scratch(g);
    if (g->flat)
        g->d->op->free(g->d, g->flat);
    if (g->grad)
        g->d->op->free(g->d, g->grad);
    memset(g, 0, sizeof *g);
}

int clip_grad_upload(struct clip_grad *g, const float *flat, struct err *e)
{
    g->d->op->upload(g->d, g->flat, flat, g->table->n_flat * sizeof *flat);
    clip_grad_refresh(g);
    return g->d->op->sync(g->d, e);
}

void clip_grad_refresh(struct clip_grad *g)
{
    for (int i = 0; i < 2; i++)
        each_weight(g, &g->tower[i], g->d->op->weight_refresh);
}

static size_t larger(int a, int b)
{
    return (size_t)(a > b ? a : b);
}

size_t clip_scratch_bytes(const struct clip_config *c, size_t n, size_t rows, size_t act_size)
{
    size_t W = larger(c->vision.width, c->text.width), M = larger(c->vision.mlp, c->text.mlp);
    size_t wide = W > (size_t)c->embed_dim ? W : (size_t)c->embed_dim;
    return (rows + n) * W * sizeof(float) + (rows * (5 * W + M) + n * wide) * act_size;
}

int clip_scratch_room(struct clip_grad *g, size_t n, size_t rows, struct err *e)
{
    const struct clip_config *c = &g->table->cfg;
    struct clip_grad_scratch *s = &g->s;
    struct dev *d = g->d;
    size_t W = larger(c->vision.width, c->text.width), M = larger(c->vision.mlp, c->text.mlp);
    size_t wide = W > (size_t)c->embed_dim ? W : (size_t)c->embed_dim;
    if (n <= s->n && rows <= s->rows)
        return 0;
    n = n > s->n ? n : s->n;
    rows = rows > s->rows ? rows : s->rows;
    free_scratch(g);
    if (!(s->dx = d->op->alloc(d, rows * W * sizeof(float), e)) ||
        !(s->dxs = d->op->alloc(d, n * W * sizeof(float), e)) ||
        !(s->dy = d->op->alloc(d, rows * W * d->act_size, e)) ||
        !(s->dh = d->op->alloc(d, rows * W * d->act_size, e)) ||
        !(s->dmid = d->op->alloc(d, rows * M * d->act_size, e)) ||
        !(s->dqkv = d->op->alloc(d, rows * 3 * W * d->act_size, e)) ||
        !(s->dqs = d->op->alloc(d, n * wide * d->act_size, e))) {
        free_scratch(g);
        return -1;
    }
    s->n = n;
    s->rows = rows;
    return 0;
}

// From t->x[0] to the embeddings.
static void blocks_and_head(struct clip_grad *g, struct clip_tape *t, float *z)
{
    const struct clip_tower *c = t->tower->cfg;
    const struct dev_ops *op = g->d->op;
    enum clip_tower_id id = t->tower->id;
    size_t W = (size_t)c->width;
    for (int l = 0; l < c->layers; l++)
        clip_block_forward(g, t, l, l + 1 < c->layers ? t->x[l + 1] : t->y);
    op->layer_norm(g->d, t->n, W, t->y, W, clip_param(g, id, CLIP_K_LN_FINAL_W, -1),
                   clip_param(g, id, CLIP_K_LN_FINAL_B, -1), (float)c->eps, t->hf, false, t->mean_f,
                   t->rstd_f);
    struct dev_epilogue plain = {0};
    op->linear(g->d, t->n, t->hf, W, t->tower->head, &plain, z, true);
}

// Uploads where each sequence starts and which of its rows is read.
static void upload_rows(struct clip_grad *g, struct clip_tape *t, const int32_t *start,
                        const int32_t *q_row, const int32_t *sel)
{
    const struct dev_ops *op = g->d->op;
    op->upload(g->d, t->start, start, (t->n + 1) * sizeof *start);
    op->upload(g->d, t->q_row, q_row, t->n * sizeof *q_row);
    op->upload(g->d, t->sel, sel, t->n * sizeof *sel);
}

// The same whenever there are as many pictures.
static void image_rows(struct clip_grad *g, struct clip_tape *t)
{
    size_t n = t->n;
    int32_t *start = t->host, *q_row = start + n + 1, *sel = q_row + n;
    if (t->indexed == n)
        return;
    for (size_t i = 0; i <= n; i++)
        start[i] = (int32_t)(i * t->max_len);
    memset(q_row, 0, n * sizeof *q_row);
    memcpy(sel, start, n * sizeof *sel);
    upload_rows(g, t, start, q_row, sel);
    t->indexed = n;
}

int clip_grad_images(struct clip_grad *g, size_t n, const uint8_t *pixels, struct clip_tape *t,
                     float *z, struct err *e)
{
    const struct clip_config *c = &g->table->cfg;
    const struct dev_ops *op = g->d->op;
    size_t size = (size_t)c->image_size, patch = (size_t)c->patch_size;
    size_t S = (size_t)clip_config_positions(c), P = S - 1, W = (size_t)c->vision.width;
    float mean[3], std[3];
    if (clip_tape_room(g, t, CLIP_VISION, n, 0, e))
        return -1;
    t->n = n;
    t->rows = n * S;
    t->max_len = S;
    image_rows(g, t);
    for (int i = 0; i < 3; i++) {
        mean[i] = (float)c->preprocess.mean[i];
        std[i] = (float)c->preprocess.std[i];
    }
    float *patch_rows = t->x[0]; // borrowed until ln_pre fills it
    if (pixels)
        op->upload(g->d, t->pixels, pixels, n * size * size * 3);
    op->patchify(g->d, n, size, patch, t->pixels, mean, std, t->patches);
    struct dev_epilogue plain = {0};
    op->linear(g->d, n * P, t->patches, 3 * patch * patch, t->tower->conv, &plain, patch_rows,
               true);
    op->assemble(g->d, n, P, W, patch_rows, clip_param(g, CLIP_VISION, CLIP_K_CLASS, -1),
                 clip_param(g, CLIP_VISION, CLIP_K_POS, -1), t->stem);
    op->layer_norm(g->d, t->rows, W, t->stem, W, clip_param(g, CLIP_VISION, CLIP_K_LN_PRE_W, -1),
                   clip_param(g, CLIP_VISION, CLIP_K_LN_PRE_B, -1), (float)c->vision.eps, t->x[0],
                   true, t->mean0, t->rstd0);
    blocks_and_head(g, t, z);
    return 0;
}

size_t clip_text_length(const struct clip_config *c, const int32_t *tokens)
{
    size_t at = 0;
    for (size_t i = 0; i < (size_t)c->context; i++) {
        if (c->eos_id >= 0 && tokens[i] == c->eos_id)
            return i + 1;
        if (tokens[i] > tokens[at])
            at = i;
    }
    // Hugging Face's argmax over (token == eos) is 0 where there is none.
    return c->eos_id >= 0 ? 1 : at + 1;
}

int clip_grad_texts(struct clip_grad *g, size_t n, const int32_t *tokens, struct clip_tape *t,
                    float *z, struct err *e)
{
    const struct clip_config *c = &g->table->cfg;
    const struct dev_ops *op = g->d->op;
    size_t context = (size_t)c->context, rows = 0, longest = 1;
    for (size_t i = 0; i < n * context; i++)
        if (tokens[i] < 0 || tokens[i] >= c->vocab)
            return err_set(e, "token %d: the vocabulary has %d", (int)tokens[i], c->vocab);
    for (size_t i = 0; i < n; i++) {
        size_t len = clip_text_length(c, tokens + i * context);
        rows += len;
        longest = len > longest ? len : longest;
    }
    if (clip_tape_room(g, t, CLIP_TEXT, n, rows, e))
        return -1;
    t->n = n;
    t->rows = rows;
    t->max_len = longest;
    int32_t *start = t->host, *q_row = start + n + 1, *sel = q_row + n, *flat = sel + n;
    for (size_t i = 0, at = 0; i < n; i++) {
        size_t len = clip_text_length(c, tokens + i * context);
        start[i] = (int32_t)at;
        q_row[i] = (int32_t)(len - 1);
        sel[i] = (int32_t)(at + len - 1);
        memcpy(flat + at, tokens + i * context, len * sizeof *flat);
        at += len;
    }
    start[n] = (int32_t)rows;
    upload_rows(g, t, start, q_row, sel);
    op->upload(g->d, t->token, flat, rows * sizeof *flat);
    struct dev_ragged r = {n, longest, t->start};
    op->embed(g->d, &r, (size_t)c->text.width, t->token, clip_param(g, CLIP_TEXT, CLIP_K_TOKEN, -1),
              clip_param(g, CLIP_TEXT, CLIP_K_POS, -1), t->x[0]);
    blocks_and_head(g, t, z);
    return 0;
}

static void stem_back(struct clip_grad *g, struct clip_tape *t)
{
    const struct clip_config *c = &g->table->cfg;
    const struct dev_ops *op = g->d->op;
    size_t W = (size_t)t->tower->cfg->width;
    if (t->tower->id == CLIP_TEXT) {
        struct dev_ragged r = {t->n, t->max_len, t->start};
        op->embed_bwd(g->d, &r, W, t->token, g->s.dx,
                      clip_param_grad(g, CLIP_TEXT, CLIP_K_TOKEN, -1),
                      clip_param_grad(g, CLIP_TEXT, CLIP_K_POS, -1));
        return;
    }
    // x[0] is not needed any more: the gradient before ln_pre goes there.
    float *dstem = t->x[0];
    size_t P = (size_t)clip_config_positions(c) - 1, patch = 3 * (size_t)c->patch_size;
    op->zero(g->d, dstem, t->rows * W * sizeof *dstem);
    op->layer_norm_bwd(g->d, t->rows, W, t->stem, W,
                       clip_param(g, CLIP_VISION, CLIP_K_LN_PRE_W, -1), t->mean0, t->rstd0, g->s.dx,
                       true, dstem, W, clip_param_grad(g, CLIP_VISION, CLIP_K_LN_PRE_W, -1),
                       clip_param_grad(g, CLIP_VISION, CLIP_K_LN_PRE_B, -1));
    op->assemble_bwd(g->d, t->n, P, W, dstem, clip_param_grad(g, CLIP_VISION, CLIP_K_CLASS, -1),
                     clip_param_grad(g, CLIP_VISION, CLIP_K_POS, -1), g->s.dy);
    op->linear_dw(g->d, t->n * P, g->s.dy, t->patches, patch * (size_t)c->patch_size,
                  t->tower->conv, clip_param_grad(g, CLIP_VISION, CLIP_K_PATCH, -1), NULL);
}

int clip_grad_back(struct clip_grad *g, struct clip_tape *t, const float *dz, struct err *e)
{
    const struct clip_tower *c = t->tower->cfg;
    const struct dev_ops *op = g->d->op;
    enum clip_tower_id id = t->tower->id;
    size_t W = (size_t)c->width, E = (size_t)g->table->cfg.embed_dim;
    if (clip_scratch_room(g, t->n, t->rows, e))
        return -1;
    op->to_act(g->d, t->n, E, dz, E, NULL, g->s.dqs);
    op->linear_dw(g->d, t->n, g->s.dqs, t->hf, W, t->tower->head,
                  clip_param_grad(g, id, CLIP_K_HEAD, -1), NULL);
    op->linear_dx(g->d, t->n, g->s.dqs, t->tower->head, g->s.dh);
    op->zero(g->d, g->s.dxs, t->n * W * sizeof(float));
    op->layer_norm_bwd(g->d, t->n, W, t->y, W, clip_param(g, id, CLIP_K_LN_FINAL_W, -1), t->mean_f,
                       t->rstd_f, g->s.dh, false, g->s.dxs, W,
                       clip_param_grad(g, id, CLIP_K_LN_FINAL_W, -1),
                       clip_param_grad(g, id, CLIP_K_LN_FINAL_B, -1));
    for (int l = c->layers - 1; l >= 0; l--)
        clip_block_back(g, t, l);
    stem_back(g, t);
    return 0;
}
