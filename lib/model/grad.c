// SPDX-License-Identifier: Apache-2.0
// Parameters of a model under training, and the way back through a whole tower.
#include "model/grad.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "device/profile.h"

float *clip_param_grad(const struct clip_grad *g, enum clip_tower_id t, enum clip_kind k, int layer)
{
    int i = clip_table_find(g->table, t, k, layer);
    return i < 0 ? NULL : g->grad + g->at[i];
}

static float *vector_at(void *user, size_t i, struct err *e)
{
    const struct clip_grad *g = user;
    (void)e;
    return g->flat + g->table->t[i].offset;
}

static struct dev_weight *matrix_at(void *user, size_t i, size_t first, size_t out, size_t in,
                                    bool transposed, struct err *e)
{
    const struct clip_grad *g = user;
    const float *at = g->flat + g->table->t[i].offset + first * in;
    return g->d->op->weight_view(g->d, at, out, in, transposed, e);
}

static int place_gradients(struct clip_grad *g, const struct clip_locks *locks, struct err *e)
{
    const struct clip_table *t = g->table;
    if (!(g->at = mem_alloc(t->n, sizeof *g->at, e)))
        return -1;
    for (size_t i = 0; i < t->n; i++) {
        bool graded = clip_locks_graded(locks, t, i);
        g->at[i] = graded ? g->n_grad : SIZE_MAX;
        g->n_grad += graded ? clip_table_room(t, i) : 0;
    }
    for (int i = 0; i < 2; i++)
        g->lowest[i] = clip_locks_lowest(locks, &t->cfg, (enum clip_tower_id)i);
    return 0;
}

int clip_grad_init(struct clip_grad *g, struct dev *d, const struct clip_table *table,
                   const struct clip_locks *locks, bool recompute, struct err *e)
{
    *g = (struct clip_grad){.d = d, .table = table, .recompute = recompute};
    const struct clip_net_source s = {vector_at, matrix_at, g};
    size_t bytes = table->n_flat * sizeof(float);
    if (table->cfg.text.class_last)
        return err_set(e, "a text tower with a class token behind the text (CoCa) is not trained");
    if (place_gradients(g, locks, e) || !(g->flat = d->op->alloc(d, bytes, e)) ||
        !(g->grad = d->op->alloc(d, g->n_grad * sizeof(float), e)) ||
        clip_net_open(&g->net[CLIP_VISION], table, &table->cfg, CLIP_VISION, false, &s, e) ||
        clip_net_open(&g->net[CLIP_TEXT], table, &table->cfg, CLIP_TEXT, false, &s, e)) {
        clip_grad_release(g);
        return -1;
    }
    return 0;
}

static void free_scratch(struct clip_grad *g)
{
    struct clip_grad_scratch *s = &g->s;
    void *all[] = {s->dx, s->dxs, s->dy, s->dh, s->dmid, s->dqkv, s->dqs, s->dt, s->dpre};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i])
            g->d->op->free(g->d, all[i]);
    memset(s, 0, sizeof *s);
}

void clip_grad_release(struct clip_grad *g)
{
    if (!g->d)
        return;
    for (int i = 0; i < 2; i++)
        if (g->net[i].cfg)
            clip_net_close(&g->net[i], g->d, false);
    free_scratch(g);
    if (g->flat)
        g->d->op->free(g->d, g->flat);
    if (g->grad)
        g->d->op->free(g->d, g->grad);
    free(g->at);
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
        clip_net_weights(&g->net[i], g->d, g->d->op->weight_refresh);
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

// Values per row, or per sample, in each buffer, for both towers.
struct widths {
    size_t W, M, dt, dpre, wide;
};

static void widen_for(const struct clip_config *c, enum clip_tower_id id, struct widths *w)
{
    const struct clip_tower *t = id == CLIP_VISION ? &c->vision : &c->text;
    size_t W = larger((size_t)t->width, (size_t)clip_pool_width(c, id));
    size_t M = larger((size_t)t->mlp, (size_t)t->pool_mlp);
    bool more = t->inner_norm || t->post_norm || t->pool != CLIP_POOL_TOKEN;
    w->W = larger(w->W, W);
    w->M = larger(w->M, M);
    w->dt = larger(w->dt, t->inner_norm ? larger(W, M) : more ? W : 0);
    w->dpre = larger(w->dpre, t->swiglu ? 2 * (size_t)t->mlp : 0);
    w->wide = larger(larger(w->wide, W), (size_t)c->embed_dim);
}

static struct widths widths_of(const struct clip_config *c)
{
    struct widths w = {0};
    widen_for(c, CLIP_VISION, &w);
    widen_for(c, CLIP_TEXT, &w);
    return w;
}

size_t clip_scratch_bytes(const struct clip_config *c, size_t n, size_t rows, size_t act_size)
{
    struct widths w = widths_of(c);
    return ((rows + n) * w.W + rows * w.dt) * sizeof(float) +
           (rows * (5 * w.W + w.M + w.dpre) + n * w.wide) * act_size;
}

int clip_scratch_room(struct clip_grad *g, size_t n, size_t rows, struct err *e)
{
    struct widths w = widths_of(&g->table->cfg);
    struct clip_grad_scratch *s = &g->s;
    struct dev *d = g->d;
    if (n <= s->n && rows <= s->rows)
        return 0;
    n = n > s->n ? n : s->n;
    rows = rows > s->rows ? rows : s->rows;
    free_scratch(g);
    if (!(s->dx = d->op->alloc(d, rows * w.W * sizeof(float), e)) ||
        !(s->dxs = d->op->alloc(d, n * w.W * sizeof(float), e)) ||
        !(s->dy = d->op->alloc(d, rows * w.W * d->act_size, e)) ||
        !(s->dh = d->op->alloc(d, rows * w.W * d->act_size, e)) ||
        !(s->dmid = d->op->alloc(d, rows * w.M * d->act_size, e)) ||
        !(s->dqkv = d->op->alloc(d, rows * 3 * w.W * d->act_size, e)) ||
        !(s->dqs = d->op->alloc(d, n * w.wide * d->act_size, e)) ||
        (w.dt && !(s->dt = d->op->alloc(d, rows * w.dt * sizeof(float), e))) ||
        (w.dpre && !(s->dpre = d->op->alloc(d, rows * w.dpre * d->act_size, e)))) {
        free_scratch(g);
        return -1;
    }
    s->n = n;
    s->rows = rows;
    return 0;
}

int clip_grad_images(struct clip_grad *g, size_t n, const uint8_t *pixels, size_t keep,
                     const int32_t *pick, struct clip_tape *t, float *z, struct err *e)
{
    size_t size = (size_t)g->table->cfg.image_size;
    if (clip_tape_room(g, t, CLIP_VISION, n, 0, keep, e))
        return -1;
    t->n = n;
    t->drop.keep = keep;
    clip_tape_images(g->d, t);
    if (keep)
        clip_tape_pick(g->d, t, pick);
    if (pixels)
        g->d->op->upload(g->d, t->pixels, pixels, n * size * size * 3);
    clip_tower_forward(g->d, t, false, z);
    return 0;
}

int clip_grad_texts(struct clip_grad *g, size_t n, const int32_t *tokens, struct clip_tape *t,
                    float *z, struct err *e)
{
    const struct clip_config *c = &g->table->cfg;
    size_t rows = 0;
    if (clip_check_tokens(c, n, tokens, e))
        return -1;
    for (size_t i = 0; i < n; i++)
        rows += clip_text_length(c, tokens + i * (size_t)c->context);
    if (clip_tape_room(g, t, CLIP_TEXT, n, rows, 0, e))
        return -1;
    t->n = n;
    clip_tape_texts(g->d, t, tokens, false);
    clip_tower_forward(g->d, t, false, z);
    return 0;
}

static void stem_back(struct clip_grad *g, struct clip_tape *t)
{
    const struct clip_config *c = &g->table->cfg;
    const struct dev_ops *op = g->d->op;
    size_t W = (size_t)t->net->cfg->width;
    if (t->net->id == CLIP_TEXT) {
        struct dev_ragged r = {t->n, t->max_len, t->start};
        op->embed_bwd(g->d, &r, W, t->token, g->s.dx,
                      clip_param_grad(g, CLIP_TEXT, CLIP_K_TOKEN, -1),
                      clip_param_grad(g, CLIP_TEXT, CLIP_K_POS, -1));
        return;
    }
    // x[0] is no longer needed: the gradient before ln_pre is written there.
    const struct clip_params *p = &t->net->once;
    size_t P = (size_t)(c->grid * c->grid), patch = 3 * (size_t)c->patch_size;
    float *dstem = c->vision.no_norm_pre ? g->s.dx : t->x[0];
    if (!c->vision.no_norm_pre) {
        op->zero(g->d, dstem, t->rows * W * sizeof *dstem);
        op->layer_norm_bwd(g->d, t->rows, W, t->stem, W, p->v[CLIP_K_LN_PRE_W], t->mean0, t->rstd0,
                           g->s.dx, true, dstem, W,
                           clip_param_grad(g, CLIP_VISION, CLIP_K_LN_PRE_W, -1),
                           clip_param_grad(g, CLIP_VISION, CLIP_K_LN_PRE_B, -1));
    }
    float *dpos = clip_param_grad(g, CLIP_VISION, CLIP_K_POS, -1);
    if (t->drop.keep) {
        P = t->drop.keep;
        op->scatter_add(g->d, t->rows, W, dstem, t->drop.pos_at, dpos, W);
        op->zero(g->d, t->drop.sum, t->max_len * W * sizeof *dpos);
    }
    op->assemble_bwd(g->d, t->n, P, W, dstem, clip_param_grad(g, CLIP_VISION, CLIP_K_CLASS, -1),
                     t->drop.keep ? t->drop.sum : dpos, g->s.dy);
    op->linear_dw(g->d, t->n * P, g->s.dy, t->drop.keep ? t->drop.patches : t->patches,
                  patch * (size_t)c->patch_size, p->m[CLIP_K_PATCH],
                  clip_param_grad(g, CLIP_VISION, CLIP_K_PATCH, -1),
                  clip_param_grad(g, CLIP_VISION, CLIP_K_PATCH_B, -1));
}

// Backward through the final norm of `rows` rows x, to dx.
static void final_back(struct clip_grad *g, struct clip_tape *t, size_t rows, size_t cols,
                       const float *x, const void *dy, bool dy_f32, float *dx)
{
    enum clip_tower_id id = t->net->id;
    g->d->op->zero(g->d, dx, rows * cols * sizeof *dx);
    g->d->op->layer_norm_bwd(g->d, rows, cols, x, cols, t->net->once.v[CLIP_K_LN_FINAL_W],
                             t->mean_f, t->rstd_f, dy, dy_f32, dx, cols,
                             clip_param_grad(g, id, CLIP_K_LN_FINAL_W, -1),
                             clip_param_grad(g, id, CLIP_K_LN_FINAL_B, -1));
}

// From dz to s.dxs, the gradient of t->y.
static void head_back(struct clip_grad *g, struct clip_tape *t, const float *dz)
{
    const struct clip_tower *c = t->net->cfg;
    const struct dev_ops *op = g->d->op;
    enum clip_tower_id id = t->net->id;
    struct dev_weight *head = t->net->once.m[CLIP_K_HEAD];
    size_t F = (size_t)clip_pool_width(t->net->model, id), E = (size_t)t->net->model->embed_dim;
    const void *dy = dz;
    if (head) {
        op->to_act(g->d, t->n, E, dz, E, NULL, g->s.dqs);
        op->linear_dw(g->d, t->n, g->s.dqs, t->hf, F, head, clip_param_grad(g, id, CLIP_K_HEAD, -1),
                      clip_param_grad(g, id, CLIP_K_HEAD_B, -1));
        op->linear_dx(g->d, t->n, g->s.dqs, head, g->s.dh);
        dy = g->s.dh;
    }
    if (clip_tower_norm_last(c))
        final_back(g, t, t->n, F, t->y, dy, !head, g->s.dxs);
    else if (head)
        op->widen(g->d, t->n * F, dy, g->s.dxs);
    else
        op->copy(g->d, g->s.dxs, dy, t->n * F * sizeof(float));
}

// From s.dxs to s.dx, the gradient of t->end.
static void mean_back(struct clip_grad *g, struct clip_tape *t)
{
    const struct clip_tower *c = t->net->cfg;
    size_t W = (size_t)c->width;
    float *to = c->norm_first ? g->s.dt : g->s.dx;
    g->d->op->zero(g->d, to, t->rows * W * sizeof *to);
    g->d->op->mean_rows_bwd(g->d, t->n, t->max_len, !c->no_class, W, g->s.dxs, to);
    if (c->norm_first)
        final_back(g, t, t->rows, W, t->end, to, true, g->s.dx);
}

bool clip_grad_goes(const struct clip_grad *g, enum clip_tower_id tower)
{
    return g->lowest[tower] < clip_tower_blocks(g->net[tower].cfg);
}

int clip_grad_back(struct clip_grad *g, struct clip_tape *t, const float *dz, struct err *e)
{
    int lowest = g->lowest[t->net->id];
    if (!clip_grad_goes(g, t->net->id))
        return 0;
    if (clip_scratch_room(g, t->n, t->rows, e))
        return -1;
    dev_profile_at(g->d, clip_head_name(t->net->id), -1, true);
    head_back(g, t, dz);
    if (t->end)
        mean_back(g, t);
    for (int l = clip_tower_blocks(t->net->cfg) - 1; l >= 0 && l >= lowest; l--)
        clip_block_back(g, t, l);
    dev_profile_at(g->d, clip_stem_name(t->net->id), -1, true);
    if (lowest < 0)
        stem_back(g, t);
    return 0;
}
