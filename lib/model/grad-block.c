// SPDX-License-Identifier: Apache-2.0
// One transformer block backward (tower-block.c has it forward).
#include "model/grad.h"

struct grad_block {
    struct clip_grad *g;
    struct clip_tape *t;
    struct clip_room *b;
    const struct clip_params *w;
    const struct clip_tower *c;
    const struct dev_ops *op;
    enum clip_tower_id id;
    int layer;
    bool last;
    size_t W, M, rows, q_rows;
};

static struct grad_block block_of(struct clip_grad *g, struct clip_tape *t, int layer)
{
    struct grad_block k = {.g = g, .t = t, .op = g->d->op, .layer = layer};
    k.b = clip_tape_room_of(t, layer);
    k.w = &t->net->blocks[layer];
    k.c = t->net->cfg;
    k.id = t->net->id;
    k.last = layer + 1 == k.c->layers;
    k.W = (size_t)k.c->width;
    k.M = (size_t)k.c->mlp;
    k.rows = t->rows;
    k.q_rows = k.last ? t->n : t->rows;
    return k;
}

static const float *param(const struct grad_block *k, enum clip_kind kind)
{
    return k->w->v[kind];
}

static float *grad(const struct grad_block *k, enum clip_kind kind)
{
    return clip_param_grad(k->g, k->id, kind, k->layer);
}

// Element `at` of an activation buffer.
static void *act_at(const struct grad_block *k, void *p, size_t at)
{
    return (char *)p + at * k->g->d->act_size;
}

// dy of a branch into s.dy, from the stream's gradient; layer scale's own gradient on the way.
static void branch_back(const struct grad_block *k, const float *dx, enum clip_kind gamma,
                        const void *branch)
{
    const float *scale = param(k, gamma);
    if (scale)
        k->op->gamma_bwd(k->g->d, k->q_rows, k->W, dx, branch, grad(k, gamma));
    k->op->to_act(k->g->d, k->q_rows, k->W, dx, k->W, scale, k->g->s.dy);
}

static void mlp_back(const struct grad_block *k, float *dx)
{
    struct dev *d = k->g->d;
    struct clip_grad_scratch *s = &k->g->s;
    struct clip_room *b = k->b;
    size_t n = k->q_rows;
    branch_back(k, dx, CLIP_K_LS2, b->br2);
    k->op->linear_dw(d, n, s->dy, b->mid, k->M, k->w->m[CLIP_K_PROJ_W], grad(k, CLIP_K_PROJ_W),
                     grad(k, CLIP_K_PROJ_B));
    k->op->linear_dx(d, n, s->dy, k->w->m[CLIP_K_PROJ_W], s->dmid);
    k->op->act_bwd(d, n * k->M, clip_dev_act(k->c->act), b->pre, s->dmid, s->dmid);
    k->op->linear_dw(d, n, s->dmid, b->h2, k->W, k->w->m[CLIP_K_FC_W], grad(k, CLIP_K_FC_W),
                     grad(k, CLIP_K_FC_B));
    k->op->linear_dx(d, n, s->dmid, k->w->m[CLIP_K_FC_W], s->dh);
    k->op->layer_norm_bwd(d, n, k->W, b->x1, k->W, param(k, CLIP_K_LN2_W), b->mean2, b->rstd2,
                          s->dh, false, dx, k->W, grad(k, CLIP_K_LN2_W), grad(k, CLIP_K_LN2_B));
}

// ln_1 of all rows, from s.dh.
static void norm1_back(const struct grad_block *k, float *dx)
{
    k->op->layer_norm_bwd(k->g->d, k->rows, k->W, k->t->x[k->layer], k->W, param(k, CLIP_K_LN1_W),
                          k->b->mean1, k->b->rstd1, k->g->s.dh, false, dx, k->W,
                          grad(k, CLIP_K_LN1_W), grad(k, CLIP_K_LN1_B));
}

static void qkv_back(const struct grad_block *k, float *dx)
{
    struct dev *d = k->g->d;
    struct clip_grad_scratch *s = &k->g->s;
    k->op->linear_dw(d, k->rows, s->dqkv, k->b->h1, k->W, k->w->m[CLIP_K_QKV_W],
                     grad(k, CLIP_K_QKV_W), grad(k, CLIP_K_QKV_B));
    k->op->linear_dx(d, k->rows, s->dqkv, k->w->m[CLIP_K_QKV_W], s->dh);
    norm1_back(k, dx);
}

// The last block: the rows read get the gradient through their queries and the stream, in dxs, and
// are then added to what all rows get through keys and values.
static void last_qkv_back(const struct grad_block *k, float *dxs, float *dx)
{
    struct dev *d = k->g->d;
    struct clip_grad_scratch *s = &k->g->s;
    struct clip_tape *t = k->t;
    float *dw = grad(k, CLIP_K_QKV_W), *db = grad(k, CLIP_K_QKV_B);
    k->op->linear_dw(d, t->n, s->dqs, t->h1s, k->W, k->w->m[CLIP_K_Q_W], dw, db);
    k->op->linear_dx(d, t->n, s->dqs, k->w->m[CLIP_K_Q_W], s->dh);
    k->op->layer_norm_bwd(d, t->n, k->W, t->x0s, k->W, param(k, CLIP_K_LN1_W), t->mean1s, t->rstd1s,
                          s->dh, false, dxs, k->W, grad(k, CLIP_K_LN1_W), grad(k, CLIP_K_LN1_B));
    k->op->zero(d, dx, k->rows * k->W * sizeof *dx);
    k->op->scatter_add(d, t->n, k->W, dxs, t->sel, dx, k->W);
    k->op->linear_dw(d, k->rows, s->dqkv, k->b->h1, k->W, k->w->m[CLIP_K_KV_W], dw + k->W * k->W,
                     db + k->W);
    k->op->linear_dx(d, k->rows, s->dqkv, k->w->m[CLIP_K_KV_W], s->dh);
    norm1_back(k, dx);
}

void clip_block_back(struct clip_grad *g, struct clip_tape *t, int layer)
{
    struct grad_block k = block_of(g, t, layer);
    struct clip_grad_scratch *s = &g->s;
    struct dev *d = g->d;
    float *dx = k.last ? s->dxs : s->dx;
    if (t->recompute && !k.last)
        clip_block_forward(d, t, layer, t->x[layer + 1]);
    mlp_back(&k, dx);
    branch_back(&k, dx, CLIP_K_LS1, k.b->br1);
    k.op->linear_dw(d, k.q_rows, s->dy, k.b->att, k.W, k.w->m[CLIP_K_OUT_W], grad(&k, CLIP_K_OUT_W),
                    grad(&k, CLIP_K_OUT_B));
    k.op->linear_dx(d, k.q_rows, s->dy, k.w->m[CLIP_K_OUT_W], s->dh);
    struct dev_attention a = clip_block_attention(d, t, layer);
    if (k.last) {
        k.op->attention_bwd(d, &a, s->dh, s->dqs, s->dqkv, act_at(&k, s->dqkv, k.W));
        last_qkv_back(&k, s->dxs, s->dx);
    } else {
        k.op->attention_bwd(d, &a, s->dh, s->dqkv, act_at(&k, s->dqkv, k.W),
                            act_at(&k, s->dqkv, 2 * k.W));
        qkv_back(&k, s->dx);
    }
}
