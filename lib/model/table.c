// SPDX-License-Identifier: Apache-2.0
#include "model/table.h"

#include <stdlib.h>
#include <string.h>

#include "model/names.h"
#include "base/mem.h"

enum { ALIGN_FLOATS = 16 }; // 64 bytes

// Sizes of which shapes are made; the numbers below are those of the current tower, or of its pool.
enum dim { D_END, D_W, D_3W, D_M, D_FC, D_E, D_F, D_2F, D_3F, D_Q, D_3, D_P, D_POS, D_VOCAB };

struct row {
    enum clip_kind kind;
    enum dim dims[4];
};

// In the order of the table.
static const struct row stem[] = {
    {CLIP_K_CLASS, {D_W}},          {CLIP_K_PATCH, {D_W, D_3, D_P, D_P}}, {CLIP_K_PATCH_B, {D_W}},
    {CLIP_K_TOKEN, {D_VOCAB, D_W}}, {CLIP_K_POS, {D_POS, D_W}},           {CLIP_K_LN_PRE_W, {D_W}},
    {CLIP_K_LN_PRE_B, {D_W}},
};
static const struct row block[] = {
    {CLIP_K_LN1_W, {D_W}},       {CLIP_K_LN1_B, {D_W}},    {CLIP_K_QKV_W, {D_3W, D_W}},
    {CLIP_K_QKV_B, {D_3W}},      {CLIP_K_ATT_LN_W, {D_W}}, {CLIP_K_ATT_LN_B, {D_W}},
    {CLIP_K_OUT_W, {D_W, D_W}},  {CLIP_K_OUT_B, {D_W}},    {CLIP_K_LS1, {D_W}},
    {CLIP_K_LN2_W, {D_W}},       {CLIP_K_LN2_B, {D_W}},    {CLIP_K_FC_W, {D_FC, D_W}},
    {CLIP_K_FC_B, {D_FC}},       {CLIP_K_MLP_LN_W, {D_M}}, {CLIP_K_MLP_LN_B, {D_M}},
    {CLIP_K_PROJ_W, {D_W, D_M}}, {CLIP_K_PROJ_B, {D_W}},   {CLIP_K_LS2, {D_W}},
};
static const struct row map_pool[] = {
    {CLIP_K_LATENT, {D_Q, D_W}}, {CLIP_K_QKV_W, {D_3W, D_W}}, {CLIP_K_QKV_B, {D_3W}},
    {CLIP_K_OUT_W, {D_W, D_W}},  {CLIP_K_OUT_B, {D_W}},       {CLIP_K_LN2_W, {D_W}},
    {CLIP_K_LN2_B, {D_W}},       {CLIP_K_FC_W, {D_M, D_W}},   {CLIP_K_FC_B, {D_M}},
    {CLIP_K_PROJ_W, {D_W, D_M}}, {CLIP_K_PROJ_B, {D_W}},
};
// CoCa's pool gives rows of embed_dim. One matrix if that is the width, else two.
static const struct row query_pool[] = {
    {CLIP_K_LATENT, {D_Q, D_F}}, {CLIP_K_LN_Q_W, {D_F}},     {CLIP_K_LN_Q_B, {D_F}},
    {CLIP_K_LN1_W, {D_W}},       {CLIP_K_LN1_B, {D_W}},      {CLIP_K_QKV_W, {D_3W, D_W}},
    {CLIP_K_Q_W, {D_F, D_F}},    {CLIP_K_KV_W, {D_2F, D_W}}, {CLIP_K_QKV_B, {D_3F}},
    {CLIP_K_OUT_W, {D_F, D_F}},  {CLIP_K_OUT_B, {D_F}},
};
static const struct row head[] = {
    {CLIP_K_LN_FINAL_W, {D_F}},
    {CLIP_K_LN_FINAL_B, {D_F}},
    {CLIP_K_HEAD, {D_F, D_E}},
    {CLIP_K_HEAD_B, {D_E}},
};
static const struct row logit[] = {
    {CLIP_K_LOGIT_SCALE, {D_END}},
    {CLIP_K_LOGIT_BIAS, {D_END}},
};

#define COUNT(a) (sizeof(a) / sizeof *(a))

static const struct clip_tower *tower_of(const struct clip_config *c, enum clip_tower_id id)
{
    return id == CLIP_VISION ? &c->vision : &c->text;
}

struct adding {
    struct clip_table *t;
    enum clip_tower_id id;
    int layer;
    bool pool;
};

static size_t dim_of(const struct adding *a, enum dim d)
{
    const struct clip_config *c = &a->t->cfg;
    const struct clip_tower *t = tower_of(c, a->id);
    size_t w = (size_t)t->width, f = (size_t)clip_pool_width(c, a->id);
    size_t m = (size_t)(a->pool ? t->pool_mlp : t->mlp);
    const size_t dims[] = {
        [D_W] = w,
        [D_3W] = 3 * w,
        [D_M] = m,
        [D_FC] = t->swiglu ? 2 * m : m,
        [D_E] = (size_t)c->embed_dim,
        [D_F] = f,
        [D_2F] = 2 * f,
        [D_3F] = 3 * f,
        [D_Q] = t->pool == CLIP_POOL_QUERY ? (size_t)t->pool_queries : 1,
        [D_3] = 3,
        [D_P] = (size_t)c->patch_size,
        [D_POS] = (size_t)(a->id == CLIP_VISION ? clip_config_positions(c)
                                                : clip_config_text_positions(c)),
        [D_VOCAB] = (size_t)c->vocab,
    };
    return dims[d];
}

static bool has(const struct adding *a, enum clip_kind kind)
{
    const struct clip_config *c = &a->t->cfg;
    const struct clip_tower *t = tower_of(c, a->id);
    bool vision = a->id == CLIP_VISION, wide = clip_pool_width(c, a->id) != t->width;
    switch (kind) {
    case CLIP_K_CLASS:
        return vision ? !t->no_class : t->class_last;
    case CLIP_K_PATCH:
        return vision;
    case CLIP_K_PATCH_B:
        return vision && t->patch_bias;
    case CLIP_K_TOKEN:
        return !vision;
    case CLIP_K_LN_PRE_W:
    case CLIP_K_LN_PRE_B:
        return vision && !t->no_norm_pre;
    case CLIP_K_QKV_W:
        return !a->pool || !wide;
    case CLIP_K_Q_W:
    case CLIP_K_KV_W:
        return wide;
    case CLIP_K_QKV_B:
        return a->pool || t->qkv_bias != CLIP_BIAS_NONE;
    case CLIP_K_ATT_LN_W:
    case CLIP_K_ATT_LN_B:
    case CLIP_K_MLP_LN_W:
    case CLIP_K_MLP_LN_B:
        return t->inner_norm;
    case CLIP_K_LS1:
    case CLIP_K_LS2:
        return t->ls_init != 0;
    case CLIP_K_HEAD:
        return !t->no_head;
    case CLIP_K_HEAD_B:
        return !t->no_head && t->head_bias;
    case CLIP_K_LOGIT_BIAS:
        return c->has_logit_bias;
    default:
        return true;
    }
}

static int *slot(const struct clip_table *t, enum clip_tower_id id, int layer, enum clip_kind kind)
{
    return &t->index[id][(layer + 1) * CLIP_K_COUNT + (int)kind];
}

static int add(const struct adding *a, const struct row *r, struct err *e)
{
    struct clip_table *t = a->t;
    struct clip_tensor *x = &t->t[t->n];
    if (!has(a, r->kind))
        return 0;
    *x = (struct clip_tensor){.tower = a->id, .kind = r->kind, .layer = a->layer, .numel = 1};
    clip_tensor_name(&t->cfg, x, x->name);
    for (; x->rank < 4 && r->dims[x->rank] != D_END; x->rank++) {
        x->shape[x->rank] = dim_of(a, r->dims[x->rank]);
        if (!mem_mul(x->numel, x->shape[x->rank], &x->numel))
            return err_set(e, "%s: size overflows", x->name);
    }
    x->offset = t->n_flat;
    if (!mem_add(t->n_flat, x->numel, &t->n_flat) ||
        !mem_add(t->n_flat, -t->n_flat % ALIGN_FLOATS, &t->n_flat) || t->n_flat > SIZE_MAX / 8)
        return err_set(e, "%s: size overflows", x->name);
    t->n_params += x->numel;
    if (x->kind == CLIP_K_QKV_B && !a->pool && tower_of(&t->cfg, a->id)->qkv_bias == CLIP_BIAS_QV)
        t->n_params -= x->numel / 3;
    *slot(t, a->id, a->layer, r->kind) = (int)t->n;
    t->n++;
    return 0;
}

static int add_rows(const struct adding *a, const struct row *r, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (add(a, &r[i], e))
            return -1;
    return 0;
}

static int add_tower(struct clip_table *t, enum clip_tower_id id, struct err *e)
{
    const struct clip_tower *c = tower_of(&t->cfg, id);
    struct adding once = {t, id, -1, false}, pool = {t, id, c->layers, true};
    if (add_rows(&once, stem, COUNT(stem), e))
        return -1;
    for (int l = 0; l < c->layers; l++) {
        struct adding in = {t, id, l, false};
        if (add_rows(&in, block, COUNT(block), e))
            return -1;
    }
    if (c->pool == CLIP_POOL_MAP && add_rows(&pool, map_pool, COUNT(map_pool), e))
        return -1;
    if (c->pool == CLIP_POOL_QUERY && add_rows(&pool, query_pool, COUNT(query_pool), e))
        return -1;
    return add_rows(&once, head, COUNT(head), e);
}

// No tensor has a place yet.
static int make_index(struct clip_table *t, struct err *e)
{
    for (int i = 0; i < 2; i++) {
        const struct clip_tower *c = tower_of(&t->cfg, (enum clip_tower_id)i);
        size_t n = ((size_t)c->layers + 2) * CLIP_K_COUNT;
        if (!(t->index[i] = mem_alloc(n, sizeof *t->index[i], e)))
            return -1;
        for (size_t k = 0; k < n; k++)
            t->index[i][k] = -1;
    }
    return 0;
}

int clip_table_init(struct clip_table *t, const struct clip_config *c, struct err *e)
{
    size_t layers = (size_t)c->vision.layers + (size_t)c->text.layers;
    size_t max = 2 * (COUNT(stem) + COUNT(head) + COUNT(query_pool) + COUNT(map_pool)) +
                 COUNT(logit) + layers * COUNT(block);
    struct adding scalars = {t, CLIP_TEXT, -1, false};
    memset(t, 0, sizeof *t);
    t->cfg = *c;
    t->t = mem_alloc(max, sizeof *t->t, e);
    if (!t->t || make_index(t, e) || add_tower(t, CLIP_VISION, e) || add_tower(t, CLIP_TEXT, e) ||
        add_rows(&scalars, logit, COUNT(logit), e)) {
        clip_table_release(t);
        return -1;
    }
    return 0;
}

void clip_table_release(struct clip_table *t)
{
    free(t->t);
    free(t->index[0]);
    free(t->index[1]);
    memset(t, 0, sizeof *t);
}

int clip_table_find(const struct clip_table *t, enum clip_tower_id tower, enum clip_kind kind,
                    int layer)
{
    if (kind < CLIP_K_LN1_W)
        layer = -1;
    else if (layer < 0 || layer > tower_of(&t->cfg, tower)->layers)
        return -1;
    return *slot(t, tower, layer, kind);
}

bool clip_kind_is_matrix(enum clip_kind k)
{
    return k == CLIP_K_PATCH || k == CLIP_K_HEAD || k == CLIP_K_QKV_W || k == CLIP_K_OUT_W ||
           k == CLIP_K_FC_W || k == CLIP_K_PROJ_W || k == CLIP_K_Q_W || k == CLIP_K_KV_W;
}

int clip_table_find_name(const struct clip_table *t, const char *name)
{
    if (strncmp(name, "text.", 5) == 0)
        name += 5;
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->t[i].name, name) == 0)
            return (int)i;
    return -1;
}
