// SPDX-License-Identifier: Apache-2.0
// One transformer block, or the pool, backward (tower-block.c has it forward).
#include "model/grad.h"
#include "device/profile.h"
#include "model/tower-block.h"

// The backward pass of a block: what forward kept, and where gradients go.
struct back {
    struct clip_block k;
    struct clip_grad *g;
    struct clip_grad_scratch *s;
};

static const float *param(const struct back *b, enum clip_kind kind)
{
    return b->k.w->v[kind];
}

static float *grad(const struct back *b, enum clip_kind kind)
{
    return clip_param_grad(b->g, b->k.t->net->id, kind, b->k.layer);
}

// The parts of a matrix that a split block uses separately.
static float *grad_q(const struct back *b)
{
    float *own = grad(b, CLIP_K_Q_W);
    return own ? own : grad(b, CLIP_K_QKV_W);
}

static float *grad_kv(const struct back *b)
{
    float *own = grad(b, CLIP_K_KV_W);
    return own ? own : grad(b, CLIP_K_QKV_W) + b->k.W * b->k.W;
}

// Element `at` of an activation buffer.
static void *act_at(const struct back *b, void *p, size_t at)
{
    return (char *)p + at * b->k.d->act_size;
}

static void norm_back(const struct back *b, size_t rows, size_t cols, const float *x,
                      enum clip_kind gain, const float *mean, const float *rstd, const void *dy,
                      bool dy_f32, float *dx)
{
    b->k.op->layer_norm_bwd(b->k.d, rows, cols, x, cols, param(b, gain), mean, rstd, dy, dy_f32, dx,
                            cols, grad(b, gain), grad(b, gain + 1));
}

// dx += dh
static void add_act(const struct back *b, size_t n, const void *dh, float *dx)
{
    b->k.op->widen(b->k.d, n, dh, b->s->dt);
    b->k.op->axpy(b->k.d, n, 1, b->s->dt, dx);
}

// Backward through an inner norm, in place.
static void inner_back(const struct back *b, size_t cols, const float *x, enum clip_kind gain,
                       const float *mean, const float *rstd, void *dh)
{
    size_t n = b->k.q_rows;
    b->k.op->zero(b->k.d, b->s->dt, n * cols * sizeof(float));
    norm_back(b, n, cols, x, gain, mean, rstd, dh, false, b->s->dt);
    b->k.op->to_act(b->k.d, n, cols, b->s->dt, cols, NULL, dh);
}

// Computes a branch's dy into s.dy, from the stream's gradient; adds the gradient of layer scale.
static void branch_back(const struct back *b, const float *dx, enum clip_kind gamma,
                        const void *branch)
{
    const struct clip_block *k = &b->k;
    const float *scale = param(b, gamma);
    if (scale)
        k->op->gamma_bwd(k->d, k->q_rows, k->F, dx, branch, grad(b, gamma));
    k->op->to_act(k->d, k->q_rows, k->F, dx, k->F, scale, b->s->dy);
}

// Does the same through the norm after a branch.
static void post_back(const struct back *b, const float *dx, enum clip_kind gain,
                      const float *branch, const float *mean, const float *rstd)
{
    const struct clip_block *k = &b->k;
    k->op->zero(k->d, b->s->dt, k->q_rows * k->W * sizeof(float));
    norm_back(b, k->q_rows, k->W, branch, gain, mean, rstd, dx, true, b->s->dt);
    k->op->to_act(k->d, k->q_rows, k->W, b->s->dt, k->W, NULL, b->s->dy);
}

// From the gradient by the MLP's hidden values to that by the result of its first product.
static void *middle_back(const struct back *b)
{
    const struct clip_block *k = &b->k;
    struct clip_grad_scratch *s = b->s;
    if (k->inner)
        inner_back(b, k->M, k->b->mid32, CLIP_K_MLP_LN_W, k->b->mean_m, k->b->rstd_m, s->dmid);
    if (k->swiglu) {
        k->op->swiglu_bwd(k->d, k->q_rows, k->M, k->b->pre, s->dmid, s->dpre);
        return s->dpre;
    }
    k->op->act_bwd(k->d, k->q_rows * k->M, clip_dev_act(k->c->act), k->b->pre, s->dmid, s->dmid);
    return s->dmid;
}

static void mlp_back(const struct back *b, float *dx)
{
    const struct clip_block *k = &b->k;
    struct clip_grad_scratch *s = b->s;
    struct clip_room *r = k->b;
    size_t n = k->q_rows;
    if (k->post)
        post_back(b, dx, CLIP_K_LN2_W, r->post2, r->mean2, r->rstd2);
    else
        branch_back(b, dx, CLIP_K_LS2, r->br2);
    k->op->linear_dw(k->d, n, s->dy, k->inner ? r->mid_n : r->mid, k->M, k->w->m[CLIP_K_PROJ_W],
                     grad(b, CLIP_K_PROJ_W), grad(b, CLIP_K_PROJ_B));
    k->op->linear_dx(k->d, n, s->dy, k->w->m[CLIP_K_PROJ_W], s->dmid);
    void *dpre = middle_back(b);
    k->op->linear_dw(k->d, n, dpre, r->h2, k->F, k->w->m[CLIP_K_FC_W], grad(b, CLIP_K_FC_W),
                     grad(b, CLIP_K_FC_B));
    k->op->linear_dx(k->d, n, dpre, k->w->m[CLIP_K_FC_W], s->dh);
    if (k->post)
        add_act(b, n * k->F, s->dh, dx);
    else
        norm_back(b, n, k->F, r->x1, CLIP_K_LN2_W, r->mean2, r->rstd2, s->dh, false, dx);
}

// From s.dh, the gradient by the input of all rows' products, to the gradient by the block's input.
static void input_back(const struct back *b, float *dx)
{
    const struct clip_block *k = &b->k;
    enum clip_tower_id id = k->t->net->id;
    bool final = k->pool && k->c->pool == CLIP_POOL_MAP;
    enum clip_kind gain = final ? CLIP_K_LN_FINAL_W : CLIP_K_LN1_W;
    if (k->post) {
        add_act(b, k->rows * k->W, b->s->dh, dx);
        return;
    }
    k->op->layer_norm_bwd(k->d, k->rows, k->W, k->x, k->W, k->norm1[0], k->b->mean1, k->b->rstd1,
                          b->s->dh, false, dx, k->W, clip_param_grad(b->g, id, gain, k->layer),
                          clip_param_grad(b->g, id, gain + 1, k->layer));
}

static void qkv_back(const struct back *b, float *dx)
{
    const struct clip_block *k = &b->k;
    k->op->linear_dw(k->d, k->rows, b->s->dqkv, k->b->h1, k->W, k->w->m[CLIP_K_QKV_W],
                     grad(b, CLIP_K_QKV_W), grad(b, CLIP_K_QKV_B));
    k->op->linear_dx(k->d, k->rows, b->s->dqkv, k->w->m[CLIP_K_QKV_W], b->s->dh);
    input_back(b, dx);
}

// Queries of the rows that are read: adds to dxs, which already holds the stream's gradient, then
// to all rows.
static void read_back(const struct back *b, float *dxs, float *dx)
{
    const struct clip_block *k = &b->k;
    struct clip_tape *t = k->t;
    if (k->post)
        add_act(b, t->n * k->W, b->s->dh, dxs);
    else
        norm_back(b, t->n, k->W, t->x0s, CLIP_K_LN1_W, t->mean1s, t->rstd1s, b->s->dh, false, dxs);
    k->op->zero(k->d, dx, k->rows * k->W * sizeof *dx);
    k->op->scatter_add(k->d, t->n, k->W, dxs, t->sel, dx, k->W);
}

// Queries of the learned row, on which no input has an influence.
static void latent_back(const struct back *b, float *dx)
{
    const struct clip_block *k = &b->k;
    struct clip_tape *t = k->t;
    if (param(b, CLIP_K_LN_Q_W)) {
        k->op->zero(k->d, b->s->dt, t->n * k->F * sizeof(float));
        norm_back(b, t->n, k->F, t->x0s, CLIP_K_LN_Q_W, t->mean1s, t->rstd1s, b->s->dh, false,
                  b->s->dt);
    } else {
        k->op->widen(k->d, t->n * k->F, b->s->dh, b->s->dt);
    }
    // All of q_row is 0.
    k->op->scatter_add(k->d, t->n, k->F, b->s->dt, t->q_row, grad(b, CLIP_K_LATENT), k->F);
    k->op->zero(k->d, dx, k->rows * k->W * sizeof *dx);
}

static void split_back(const struct back *b, float *dxs, float *dx)
{
    const struct clip_block *k = &b->k;
    struct clip_grad_scratch *s = b->s;
    struct clip_tape *t = k->t;
    float *db = grad(b, CLIP_K_QKV_B);
    k->op->linear_dw(k->d, t->n, s->dqs, t->h1s, k->F, k->w->m[CLIP_K_Q_W], grad_q(b), db);
    k->op->linear_dx(k->d, t->n, s->dqs, k->w->m[CLIP_K_Q_W], s->dh);
    if (k->pool)
        latent_back(b, dx);
    else
        read_back(b, dxs, dx);
    k->op->linear_dw(k->d, k->rows, s->dqkv, k->b->h1, k->W, k->w->m[CLIP_K_KV_W], grad_kv(b),
                     db ? db + k->F : NULL);
    k->op->linear_dx(k->d, k->rows, s->dqkv, k->w->m[CLIP_K_KV_W], s->dh);
    input_back(b, dx);
}

// From the stream's gradient after attention to s.dh, the gradient by attention's output rows.
static void out_back(const struct back *b, const float *dx)
{
    const struct clip_block *k = &b->k;
    struct clip_room *r = k->b;
    if (k->post)
        post_back(b, dx, CLIP_K_LN1_W, r->post1, r->mean1, r->rstd1);
    else
        branch_back(b, dx, CLIP_K_LS1, r->br1);
    k->op->linear_dw(k->d, k->q_rows, b->s->dy, k->inner ? r->att_n : r->att, k->F,
                     k->w->m[CLIP_K_OUT_W], grad(b, CLIP_K_OUT_W), grad(b, CLIP_K_OUT_B));
    k->op->linear_dx(k->d, k->q_rows, b->s->dy, k->w->m[CLIP_K_OUT_W], b->s->dh);
    if (k->inner)
        inner_back(b, k->W, r->att32, CLIP_K_ATT_LN_W, r->mean_a, r->rstd_a, b->s->dh);
}

void clip_block_back(struct clip_grad *g, struct clip_tape *t, int layer)
{
    struct clip_grad_scratch *s = &g->s;
    struct back b = {clip_block_of(g->d, t, layer), g, s};
    const struct clip_block *k = &b.k;
    float *dx = k->split ? s->dxs : s->dx;
    if (t->recompute && layer + 1 < clip_tower_blocks(k->c))
        clip_block_forward(g->d, t, layer, t->x[layer + 1]);
    dev_profile_at(g->d, clip_tower_name(t->net->id), layer, true);
    if (k->M)
        mlp_back(&b, dx);
    out_back(&b, dx);
    struct dev_attention a = clip_block_attention(k);
    if (k->split) {
        k->op->attention_bwd(k->d, &a, s->dh, s->dqs, s->dqkv, act_at(&b, s->dqkv, k->F));
        clip_block_rotate(k, true, s->dqkv);
        split_back(&b, s->dxs, s->dx);
    } else {
        k->op->attention_bwd(k->d, &a, s->dh, s->dqkv, act_at(&b, s->dqkv, k->W),
                             act_at(&b, s->dqkv, 2 * k->W));
        clip_block_rotate(k, true, s->dqkv);
        qkv_back(&b, s->dx);
    }
    // Keys have no bias: that third stays zero.
    if (k->c->qkv_bias == CLIP_BIAS_QV && !k->pool)
        k->op->zero(k->d, grad(&b, CLIP_K_QKV_B) + k->W, k->W * sizeof(float));
}
