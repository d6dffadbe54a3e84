// SPDX-License-Identifier: Apache-2.0
// One transformer block forward:
//     x1 = x + g1 * (attention(ln_1(x)) Wo + bo)
//     y = x1 + g2 * (act(ln_2(x1) W1 + b1) W2 + b2)
// In a split block only the row that is read goes on: queries, x1, MLP and y have one row a sample,
// while keys and values come from all.
#include "model/tower.h"

struct tower_block {
    struct dev *d;
    const struct dev_ops *op;
    struct clip_tape *t;
    struct clip_room *b;
    const struct clip_params *w;
    const struct clip_tower *c;
    bool split;
    size_t W, M, rows, q_rows;
    float *x;
};

enum dev_act clip_dev_act(enum clip_act a)
{
    return a == CLIP_GELU ? DEV_ACT_GELU : DEV_ACT_QUICK_GELU;
}

struct clip_room *clip_tape_room_of(struct clip_tape *t, int layer)
{
    if (layer + 1 == t->net->cfg->layers)
        return &t->last;
    return &t->blocks[t->recompute ? 0 : layer];
}

static struct tower_block block_of(struct dev *d, struct clip_tape *t, int layer)
{
    struct tower_block k = {.d = d, .op = d->op, .t = t, .c = t->net->cfg, .x = t->x[layer]};
    k.b = clip_tape_room_of(t, layer);
    k.w = &t->net->blocks[layer];
    k.split = clip_net_split(t->net, layer);
    k.W = (size_t)k.c->width;
    k.M = (size_t)k.c->mlp;
    k.rows = t->rows;
    k.q_rows = k.split ? t->n : t->rows;
    return k;
}

// Element `at` of an activation buffer.
static void *act_at(const struct dev *d, void *p, size_t at)
{
    return (char *)p + at * d->act_size;
}

struct dev_attention clip_block_attention(struct dev *d, struct clip_tape *t, int layer)
{
    struct tower_block k = block_of(d, t, layer);
    struct dev_attention a = {.heads = (size_t)k.c->heads, .head_dim = (size_t)k.c->head_width};
    a.causal = t->net->id == CLIP_TEXT;
    a.kv = (struct dev_ragged){t->n, t->max_len, t->start};
    a.out = k.b->att;
    a.out_ld = k.W;
    a.lse = k.b->lse;
    if (k.split) {
        a.last_only = true;
        a.q_row = t->q_row;
        a.q = t->q;
        a.q_ld = k.W;
        a.k = k.b->qkv;
        a.v = act_at(d, k.b->qkv, k.W);
        a.kv_ld = 2 * k.W;
    } else {
        a.q = k.b->qkv;
        a.k = act_at(d, k.b->qkv, k.W);
        a.v = act_at(d, k.b->qkv, 2 * k.W);
        a.q_ld = a.kv_ld = 3 * k.W;
    }
    return a;
}

static void norm(const struct tower_block *k, size_t rows, const float *x, enum clip_kind gain,
                 void *y, float *mean, float *rstd)
{
    k->op->layer_norm(k->d, rows, k->W, x, k->W, k->w->v[gain], k->w->v[gain + 1], (float)k->c->eps,
                      y, false, mean, rstd);
}

// The stream goes on in `to`.
static void copy_stream(const struct tower_block *k, const float *from, float *to)
{
    if (from != to)
        k->op->copy(k->d, to, from, k->q_rows * k->W * sizeof *to);
}

// y += gamma * (in W^T + b), the branch before gamma kept where there is room.
static void add_branch(const struct tower_block *k, const void *in, size_t in_cols,
                       enum clip_kind weight, enum clip_kind gamma, void *branch, float *y)
{
    struct dev_epilogue e = {.bias = k->w->v[weight + 1], .residual = y};
    e.gamma = k->w->v[gamma];
    e.pre = e.gamma ? branch : NULL;
    k->op->linear(k->d, k->q_rows, in, in_cols, k->w->m[weight], &e, NULL, false);
}

static void project_qkv(const struct tower_block *k)
{
    const float *bias = k->w->v[CLIP_K_QKV_B];
    struct clip_tape *t = k->t;
    if (!k->split) {
        struct dev_epilogue e = {.bias = bias};
        k->op->linear(k->d, k->rows, k->b->h1, k->W, k->w->m[CLIP_K_QKV_W], &e, k->b->qkv, false);
        return;
    }
    struct dev_epilogue q = {.bias = bias}, kv = {.bias = bias + k->W};
    k->op->linear(k->d, k->rows, k->b->h1, k->W, k->w->m[CLIP_K_KV_W], &kv, k->b->qkv, false);
    k->op->gather_act(k->d, t->n, k->W, k->b->h1, k->W, t->sel, t->h1s);
    k->op->linear(k->d, t->n, t->h1s, k->W, k->w->m[CLIP_K_Q_W], &q, t->q, false);
    k->op->gather(k->d, t->n, k->W, k->x, k->W, t->sel, t->x0s);
    if (!t->mean1s)
        return;
    // For backward through ln_1 of these rows.
    k->op->gather(k->d, t->n, 1, k->b->mean1, 1, t->sel, t->mean1s);
    k->op->gather(k->d, t->n, 1, k->b->rstd1, 1, t->sel, t->rstd1s);
}

void clip_block_forward(struct dev *d, struct clip_tape *t, int layer, float *y)
{
    struct tower_block k = block_of(d, t, layer);
    struct clip_room *b = k.b;
    norm(&k, k.rows, k.x, CLIP_K_LN1_W, b->h1, b->mean1, b->rstd1);
    project_qkv(&k);
    struct dev_attention a = clip_block_attention(d, t, layer);
    k.op->attention(d, &a);
    copy_stream(&k, k.split ? t->x0s : k.x, b->x1);
    add_branch(&k, b->att, k.W, CLIP_K_OUT_W, CLIP_K_LS1, b->br1, b->x1);
    norm(&k, k.q_rows, b->x1, CLIP_K_LN2_W, b->h2, b->mean2, b->rstd2);
    struct dev_epilogue fc = {
        .bias = k.w->v[CLIP_K_FC_B], .pre = b->pre, .act = clip_dev_act(k.c->act)};
    k.op->linear(d, k.q_rows, b->h2, k.W, k.w->m[CLIP_K_FC_W], &fc, b->mid, false);
    copy_stream(&k, b->x1, y);
    add_branch(&k, b->mid, k.M, CLIP_K_PROJ_W, CLIP_K_LS2, b->br2, y);
}
