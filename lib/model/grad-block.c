// SPDX-License-Identifier: Apache-2.0
// One transformer block forward and backward:
//     x1 = x + g1 * (attention(ln_1(x)) Wo + bo)          y = x1 + g2 * (act(ln_2(x1) W1 + b1) W2 +
//     b2)
// In the last block of a tower only the row that is read goes on: queries, x1, MLP and y have one
// row a sample, while keys and values come from all.
#include "model/grad.h"

// What both directions use.
struct block {
    struct clip_grad *g;
    struct clip_tape *t;
    struct clip_block_tape *b;
    struct clip_grad_block *w;
    const struct clip_tower *c;
    const struct dev_ops *op;
    enum clip_tower_id id;
    int layer;
    bool last;
    size_t W, M, rows, q_rows;
};

static struct block block_of(struct clip_grad *g, struct clip_tape *t, int layer)
{
    struct block k = {.g = g, .t = t, .op = g->d->op, .layer = layer};
    k.b = clip_tape_block(t, layer);
    k.w = &t->tower->blocks[layer];
    k.c = t->tower->cfg;
    k.id = t->tower->id;
    k.last = layer + 1 == k.c->layers;
    k.W = (size_t)k.c->width;
    k.M = (size_t)k.c->mlp;
    k.rows = t->rows;
    k.q_rows = k.last ? t->n : t->rows;
    return k;
}

static const float *param(const struct block *k, enum clip_kind kind)
{
    return clip_param(k->g, k->id, kind, k->layer);
}

static float *grad(const struct block *k, enum clip_kind kind)
{
    return clip_param_grad(k->g, k->id, kind, k->layer);
}

static enum dev_act act_of(const struct clip_tower *c)
{
    return c->act == CLIP_GELU ? DEV_ACT_GELU : DEV_ACT_QUICK_GELU;
}

// Element `at` of an activation buffer.
static void *act_at(const struct block *k, void *p, size_t at)
{
    return (char *)p + at * k->g->d->act_size;
}

static struct dev_attention attention_of(const struct block *k)
{
    struct dev_attention a = {.heads = (size_t)k->c->heads, .head_dim = (size_t)k->c->head_width};
    a.causal = k->id == CLIP_TEXT;
    a.kv = (struct dev_ragged){k->t->n, k->t->max_len, k->t->start};
    a.out = k->b->att;
    a.out_ld = k->W;
    a.lse = k->b->lse;
    if (k->last) {
        a.last_only = true;
        a.q_row = k->t->q_row;
        a.q = k->t->q;
        a.q_ld = k->W;
        a.k = k->b->qkv;
        a.v = act_at(k, k->b->qkv, k->W);
        a.kv_ld = 2 * k->W;
    } else {
        a.q = k->b->qkv;
        a.k = act_at(k, k->b->qkv, k->W);
        a.v = act_at(k, k->b->qkv, 2 * k->W);
        a.q_ld = a.kv_ld = 3 * k->W;
    }
    return a;
}

// y += gamma * (in W^T + b), the branch before gamma kept where there is one
static void add_branch(const struct block *k, const void *in, const struct dev_weight *w,
                       enum clip_kind bias, enum clip_kind gamma, void *branch, size_t in_cols,
                       float *y)
{
    struct dev_epilogue e = {.bias = param(k, bias), .residual = y};
    e.gamma = param(k, gamma);
    e.pre = e.gamma ? branch : NULL;
    k->op->linear(k->g->d, k->q_rows, in, in_cols, w, &e, NULL, false);
}

static void project_qkv(const struct block *k)
{
    struct dev *d = k->g->d;
    const float *bias = param(k, CLIP_K_QKV_B), *x = k->t->x[k->layer];
    struct clip_tape *t = k->t;
    if (!k->last) {
        struct dev_epilogue e = {.bias = bias};
        k->op->linear(d, k->rows, k->b->h1, k->W, k->w->qkv, &e, k->b->qkv, false);
        return;
    }
    struct dev_epilogue q = {.bias = bias}, kv = {.bias = bias + k->W};
    k->op->linear(d, k->rows, k->b->h1, k->W, k->w->kv, &kv, k->b->qkv, false);
    k->op->gather_act(d, t->n, k->W, k->b->h1, k->W, t->sel, t->h1s);
    k->op->linear(d, t->n, t->h1s, k->W, k->w->q, &q, t->q, false);
    // For backward through ln_1 of these rows.
    k->op->gather(d, t->n, k->W, x, k->W, t->sel, t->x0s);
    k->op->gather(d, t->n, 1, k->b->mean1, 1, t->sel, t->mean1s);
    k->op->gather(d, t->n, 1, k->b->rstd1, 1, t->sel, t->rstd1s);
}

void clip_block_forward(struct clip_grad *g, struct clip_tape *t, int layer, float *y)
{
    struct block k = block_of(g, t, layer);
    struct dev *d = g->d;
    float eps = (float)k.c->eps, *x = t->x[layer];
    struct clip_block_tape *b = k.b;
    size_t stream = k.q_rows * k.W * sizeof(float);
    k.op->layer_norm(d, k.rows, k.W, x, k.W, param(&k, CLIP_K_LN1_W), param(&k, CLIP_K_LN1_B), eps,
                     b->h1, false, b->mean1, b->rstd1);
    project_qkv(&k);
    struct dev_attention a = attention_of(&k);
    k.op->attention(d, &a);
    k.op->copy(d, b->x1, k.last ? t->x0s : x, stream);
    add_branch(&k, b->att, k.w->out, CLIP_K_OUT_B, CLIP_K_LS1, b->br1, k.W, b->x1);
    k.op->layer_norm(d, k.q_rows, k.W, b->x1, k.W, param(&k, CLIP_K_LN2_W), param(&k, CLIP_K_LN2_B),
                     eps, b->h2, false, b->mean2, b->rstd2);
    struct dev_epilogue fc = {.bias = param(&k, CLIP_K_FC_B), .pre = b->pre, .act = act_of(k.c)};
    k.op->linear(d, k.q_rows, b->h2, k.W, k.w->fc, &fc, b->mid, false);
    k.op->copy(d, y, b->x1, stream);
    add_branch(&k, b->mid, k.w->proj, CLIP_K_PROJ_B, CLIP_K_LS2, b->br2, k.M, y);
}

// dy of a branch into s.dy, from the stream's gradient; layer scale's own gradient on the way.
static void branch_back(const struct block *k, const float *dx, enum clip_kind gamma,
                        const void *branch)
{
    const float *scale = param(k, gamma);
    if (scale)
        k->op->gamma_bwd(k->g->d, k->q_rows, k->W, dx, branch, grad(k, gamma));
    k->op->to_act(k->g->d, k->q_rows, k->W, dx, k->W, scale, k->g->s.dy);
}

static void mlp_back(const struct block *k, float *dx)
{
    struct dev *d = k->g->d;
    struct clip_grad_scratch *s = &k->g->s;
    struct clip_block_tape *b = k->b;
    size_t n = k->q_rows;
    branch_back(k, dx, CLIP_K_LS2, b->br2);
    k->op->linear_dw(d, n, s->dy, b->mid, k->M, k->w->proj, grad(k, CLIP_K_PROJ_W),
                     grad(k, CLIP_K_PROJ_B));
    k->op->linear_dx(d, n, s->dy, k->w->proj, s->dmid);
    k->op->act_bwd(d, n * k->M, act_of(k->c), b->pre, s->dmid, s->dmid);
    k->op->linear_dw(d, n, s->dmid, b->h2, k->W, k->w->fc, grad(k, CLIP_K_FC_W),
                     grad(k, CLIP_K_FC_B));
    k->op->linear_dx(d, n, s->dmid, k->w->fc, s->dh);
    k->op->layer_norm_bwd(d, n, k->W, b->x1, k->W, param(k, CLIP_K_LN2_W), b->mean2, b->rstd2,
                          s->dh, false, dx, k->W, grad(k, CLIP_K_LN2_W), grad(k, CLIP_K_LN2_B));
}

// ln_1 of all rows, from s.dh.
static void norm1_back(const struct block *k, float *dx)
{
    k->op->layer_norm_bwd(k->g->d, k->rows, k->W, k->t->x[k->layer], k->W, param(k, CLIP_K_LN1_W),
                          k->b->mean1, k->b->rstd1, k->g->s.dh, false, dx, k->W,
                          grad(k, CLIP_K_LN1_W), grad(k, CLIP_K_LN1_B));
}

static void qkv_back(const struct block *k, float *dx)
{
    struct dev *d = k->g->d;
    struct clip_grad_scratch *s = &k->g->s;
    k->op->linear_dw(d, k->rows, s->dqkv, k->b->h1, k->W, k->w->qkv, grad(k, CLIP_K_QKV_W),
                     grad(k, CLIP_K_QKV_B));
    k->op->linear_dx(d, k->rows, s->dqkv, k->w->qkv, s->dh);
    norm1_back(k, dx);
}

// The last block: the rows read get the gradient through their queries and the stream, in dxs, and
// are then added to what all rows get through keys and values.
static void last_qkv_back(const struct block *k, float *dxs, float *dx)
{
    struct dev *d = k->g->d;
    struct clip_grad_scratch *s = &k->g->s;
    struct clip_tape *t = k->t;
    float *dw = grad(k, CLIP_K_QKV_W), *db = grad(k, CLIP_K_QKV_B);
    k->op->linear_dw(d, t->n, s->dqs, t->h1s, k->W, k->w->q, dw, db);
    k->op->linear_dx(d, t->n, s->dqs, k->w->q, s->dh);
    k->op->layer_norm_bwd(d, t->n, k->W, t->x0s, k->W, param(k, CLIP_K_LN1_W), t->mean1s, t->rstd1s,
                          s->dh, false, dxs, k->W, grad(k, CLIP_K_LN1_W), grad(k, CLIP_K_LN1_B));
    k->op->zero(d, dx, k->rows * k->W * sizeof *dx);
    k->op->scatter_add(d, t->n, k->W, dxs, t->sel, dx, k->W);
    k->op->linear_dw(d, k->rows, s->dqkv, k->b->h1, k->W, k->w->kv, dw + k->W * k->W, db + k->W);
    k->op->linear_dx(d, k->rows, s->dqkv, k->w->kv, s->dh);
    norm1_back(k, dx);
}

void clip_block_back(struct clip_grad *g, struct clip_tape *t, int layer)
{
    struct block k = block_of(g, t, layer);
    struct clip_grad_scratch *s = &g->s;
    struct dev *d = g->d;
    float *dx = k.last ? s->dxs : s->dx;
    if (t->recompute && !k.last)
        clip_block_forward(g, t, layer, t->x[layer + 1]);
    mlp_back(&k, dx);
    branch_back(&k, dx, CLIP_K_LS1, k.b->br1);
    k.op->linear_dw(d, k.q_rows, s->dy, k.b->att, k.W, k.w->out, grad(&k, CLIP_K_OUT_W),
                    grad(&k, CLIP_K_OUT_B));
    k.op->linear_dx(d, k.q_rows, s->dy, k.w->out, s->dh);
    struct dev_attention a = attention_of(&k);
    if (k.last) {
        k.op->attention_bwd(d, &a, s->dh, s->dqs, s->dqkv, act_at(&k, s->dqkv, k.W));
        last_qkv_back(&k, s->dxs, s->dx);
    } else {
        k.op->attention_bwd(d, &a, s->dh, s->dqkv, act_at(&k, s->dqkv, k.W),
                            act_at(&k, s->dqkv, 2 * k.W));
        qkv_back(&k, s->dx);
    }
}
