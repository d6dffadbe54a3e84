// SPDX-License-Identifier: Apache-2.0
// One transformer block forward:
//     x1 = x + g1 * (attention(ln_1(x)) Wo + bo)
//     y = x1 + g2 * (act(ln_2(x1) W1 + b1) W2 + b2)
// or with norms behind the branches, x1 = x + ln_1(attention(x) Wo + bo). In a split block only the
// row that is read goes on: queries, x1, MLP and y have one row a sample, while keys and values
// come from all. In the pool, queries come from the learned row and nothing is added to
// attention's.
#include "model/tower-block.h"

#include "device/profile.h"
#include "model/text-class.h"

enum dev_act clip_dev_act(enum clip_act a)
{
    return a == CLIP_GELU        ? DEV_ACT_GELU
           : a == CLIP_TANH_GELU ? DEV_ACT_TANH_GELU
                                 : DEV_ACT_QUICK_GELU;
}

struct clip_room *clip_tape_room_of(struct clip_tape *t, int layer)
{
    if (layer + 1 == clip_tower_blocks(t->net->cfg))
        return &t->last;
    if (t->recompute || layer < t->lowest)
        return &t->blocks[0];
    return &t->blocks[t->lowest > 0 ? layer - t->lowest + 1 : layer];
}

struct clip_block clip_block_of(struct dev *d, struct clip_tape *t, int layer)
{
    const struct clip_tower *c = t->net->cfg;
    struct clip_block k = {.d = d, .op = d->op, .t = t, .c = c, .x = t->x[layer]};
    k.b = clip_tape_room_of(t, layer);
    k.w = &t->net->blocks[layer];
    k.layer = layer;
    k.pool = layer == c->layers;
    k.split = clip_net_split(t->net, layer);
    k.norm1 = k.pool && c->pool == CLIP_POOL_MAP ? &t->net->once.v[CLIP_K_LN_FINAL_W]
                                                 : &k.w->v[CLIP_K_LN1_W];
    k.swiglu = c->swiglu && !k.pool;
    k.inner = c->inner_norm && !k.pool;
    k.post = c->post_norm && !k.pool;
    k.W = (size_t)c->width;
    k.F = k.pool ? (size_t)clip_pool_width(t->net->model, t->net->id) : k.W;
    k.M = (size_t)(k.pool ? c->pool_mlp : c->mlp);
    k.heads = (size_t)(k.pool ? c->pool_heads : c->heads);
    k.rows = t->rows;
    k.q_rows = k.split ? t->n : t->rows;
    return k;
}

// Element `at` of an activation buffer.
static void *act_at(const struct dev *d, void *p, size_t at)
{
    return (char *)p + at * d->act_size;
}

struct dev_attention clip_block_attention(const struct clip_block *k)
{
    struct clip_tape *t = k->t;
    struct dev_attention a = {.heads = k->heads, .head_dim = k->F / k->heads};
    a.causal = t->net->id == CLIP_TEXT && !k->c->no_mask && !k->pool;
    a.kv = (struct dev_ragged){t->n, t->max_len, t->start};
    a.out = k->b->att;
    a.out_ld = k->F;
    a.lse = k->b->lse;
    if (k->split) {
        a.last_only = true;
        a.q_row = t->q_row;
        a.q = t->q;
        a.q_ld = k->F;
        a.k = k->b->qkv;
        a.v = act_at(k->d, k->b->qkv, k->F);
        a.kv_ld = 2 * k->F;
    } else {
        a.q = k->b->qkv;
        a.k = act_at(k->d, k->b->qkv, k->W);
        a.v = act_at(k->d, k->b->qkv, 2 * k->W);
        a.q_ld = a.kv_ld = 3 * k->W;
    }
    return a;
}

static void norm(const struct clip_block *k, size_t rows, size_t cols, const float *x,
                 float *const gain_bias[2], void *y, bool y_f32, float *mean, float *rstd)
{
    k->op->layer_norm(k->d, rows, cols, x, cols, gain_bias[0], gain_bias[1], (float)k->c->eps, y,
                      y_f32, mean, rstd);
}

// The stream goes on in `to`.
static void copy_stream(const struct clip_block *k, const float *from, float *to)
{
    if (from != to)
        k->op->copy(k->d, to, from, k->q_rows * k->F * sizeof *to);
}

// y += gamma * (in W^T + b); keeps the branch before gamma if there is a buffer for it.
static void add_branch(const struct clip_block *k, const void *in, size_t in_cols,
                       enum clip_kind weight, enum clip_kind gamma, void *branch, float *y)
{
    struct dev_epilogue e = {.bias = k->w->v[weight + 1], .residual = y};
    e.gamma = k->w->v[gamma];
    e.pre = e.gamma ? branch : NULL;
    k->op->linear(k->d, k->q_rows, in, in_cols, k->w->m[weight], &e, NULL, false);
}

// y += norm(in W^T + b)
static void add_normed(const struct clip_block *k, const void *in, size_t in_cols,
                       enum clip_kind weight, enum clip_kind gain, float *branch, float *mean,
                       float *rstd, float *y)
{
    struct dev_epilogue e = {.bias = k->w->v[weight + 1]};
    k->op->linear(k->d, k->q_rows, in, in_cols, k->w->m[weight], &e, branch, true);
    norm(k, k->q_rows, k->W, branch, &k->w->v[gain], k->t->tmp, true, mean, rstd);
    k->op->axpy(k->d, k->q_rows * k->W, 1, k->t->tmp, y);
}

static void to_act(const struct clip_block *k, size_t rows, size_t cols, const float *x, void *y)
{
    k->op->to_act(k->d, rows, cols, x, cols, NULL, y);
}

// The learned row, once a sample, as the queries' product reads it.
static void pool_queries(const struct clip_block *k)
{
    struct clip_tape *t = k->t;
    // All of q_row is 0: the first learned row.
    k->op->gather(k->d, t->n, k->F, k->w->v[CLIP_K_LATENT], k->F, t->q_row, t->x0s);
    if (k->w->v[CLIP_K_LN_Q_W])
        norm(k, t->n, k->F, t->x0s, &k->w->v[CLIP_K_LN_Q_W], t->h1s, false, t->mean1s, t->rstd1s);
    else
        to_act(k, t->n, k->F, t->x0s, t->h1s);
}

// Gathers the rows that are read, for queries and for the stream.
static void read_queries(const struct clip_block *k)
{
    struct clip_tape *t = k->t;
    k->op->gather_act(k->d, t->n, k->W, k->b->h1, k->W, t->sel, t->h1s);
    k->op->gather(k->d, t->n, k->W, k->x, k->W, t->sel, t->x0s);
    if (!t->mean1s || k->post)
        return;
    // For backward through ln_1 of these rows.
    k->op->gather(k->d, t->n, 1, k->b->mean1, 1, t->sel, t->mean1s);
    k->op->gather(k->d, t->n, 1, k->b->rstd1, 1, t->sel, t->rstd1s);
}

void clip_block_rotate(const struct clip_block *k, bool back, void *qkv)
{
    size_t cols = k->split ? k->W : 2 * k->W; // keys alone: the class token's query is not turned
    if (k->pool || !k->t->rope)
        return;
    bool drop = k->t->drop.keep; // then each row has a row of the table
    k->op->rotate(k->d, k->rows, cols, (size_t)k->c->head_width, drop ? k->rows : k->t->max_len,
                  drop ? k->t->drop.rope : k->t->rope, back, qkv, k->split ? 2 * k->W : 3 * k->W);
}

static void project_qkv(const struct clip_block *k)
{
    const float *bias = k->w->v[CLIP_K_QKV_B];
    struct clip_tape *t = k->t;
    if (!k->split) {
        struct dev_epilogue e = {.bias = bias};
        k->op->linear(k->d, k->rows, k->b->h1, k->W, k->w->m[CLIP_K_QKV_W], &e, k->b->qkv, false);
        return;
    }
    struct dev_epilogue q = {.bias = bias}, kv = {.bias = bias ? bias + k->F : NULL};
    k->op->linear(k->d, k->rows, k->b->h1, k->W, k->w->m[CLIP_K_KV_W], &kv, k->b->qkv, false);
    if (k->pool)
        pool_queries(k);
    else
        read_queries(k);
    k->op->linear(k->d, t->n, t->h1s, k->F, k->w->m[CLIP_K_Q_W], &q, t->q, false);
}

// From attention's rows to x1.
static void attention_branch(const struct clip_block *k)
{
    struct clip_room *b = k->b;
    const void *in = b->att;
    if (k->inner) {
        k->op->widen(k->d, k->q_rows * k->W, b->att, b->att32);
        norm(k, k->q_rows, k->W, b->att32, &k->w->v[CLIP_K_ATT_LN_W], b->att_n, false, b->mean_a,
             b->rstd_a);
        in = b->att_n;
    }
    if (k->pool) {
        struct dev_epilogue e = {.bias = k->w->v[CLIP_K_OUT_B]};
        k->op->linear(k->d, k->q_rows, in, k->F, k->w->m[CLIP_K_OUT_W], &e, b->x1, true);
        return;
    }
    copy_stream(k, k->split ? k->t->x0s : k->x, b->x1);
    if (k->post)
        add_normed(k, in, k->W, CLIP_K_OUT_W, CLIP_K_LN1_W, b->post1, b->mean1, b->rstd1, b->x1);
    else
        add_branch(k, in, k->W, CLIP_K_OUT_W, CLIP_K_LS1, b->br1, b->x1);
}

// From h2 to the MLP's hidden values; returns the input of its second product.
static const void *mlp_middle(const struct clip_block *k)
{
    struct clip_room *b = k->b;
    struct dev_epilogue fc = {.bias = k->w->v[CLIP_K_FC_B], .pre = b->pre};
    if (k->swiglu) {
        fc.pre = NULL;
        k->op->linear(k->d, k->q_rows, b->h2, k->F, k->w->m[CLIP_K_FC_W], &fc, b->pre, false);
        k->op->swiglu(k->d, k->q_rows, k->M, b->pre, b->mid);
    } else {
        fc.act = clip_dev_act(k->c->act);
        k->op->linear(k->d, k->q_rows, b->h2, k->F, k->w->m[CLIP_K_FC_W], &fc, b->mid, false);
    }
    if (!k->inner)
        return b->mid;
    k->op->widen(k->d, k->q_rows * k->M, b->mid, b->mid32);
    norm(k, k->q_rows, k->M, b->mid32, &k->w->v[CLIP_K_MLP_LN_W], b->mid_n, false, b->mean_m,
         b->rstd_m);
    return b->mid_n;
}

static void mlp_branch(const struct clip_block *k, float *y)
{
    struct clip_room *b = k->b;
    if (k->post)
        to_act(k, k->q_rows, k->F, b->x1, b->h2);
    else
        norm(k, k->q_rows, k->F, b->x1, &k->w->v[CLIP_K_LN2_W], b->h2, false, b->mean2, b->rstd2);
    const void *in = mlp_middle(k);
    copy_stream(k, b->x1, y);
    if (k->post)
        add_normed(k, in, k->M, CLIP_K_PROJ_W, CLIP_K_LN2_W, b->post2, b->mean2, b->rstd2, y);
    else
        add_branch(k, in, k->M, CLIP_K_PROJ_W, CLIP_K_LS2, b->br2, y);
}

void clip_block_forward(struct dev *d, struct clip_tape *t, int layer, float *y)
{
    struct clip_block k = clip_block_of(d, t, layer);
    dev_profile_at(d, clip_tower_name(t->net->id), layer, false);
    if (k.post)
        to_act(&k, k.rows, k.W, k.x, k.b->h1);
    else
        norm(&k, k.rows, k.W, k.x, k.norm1, k.b->h1, false, k.b->mean1, k.b->rstd1);
    project_qkv(&k);
    clip_block_rotate(&k, false, k.b->qkv);
    struct dev_attention a = clip_block_attention(&k);
    if (t->net->id == CLIP_TEXT && k.c->class_last)
        clip_class_attention(d, t, &a);
    else
        d->op->attention(d, &a);
    attention_branch(&k);
    if (k.M)
        mlp_branch(&k, y);
    else
        copy_stream(&k, k.b->x1, y);
}
