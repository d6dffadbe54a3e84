// SPDX-License-Identifier: Apache-2.0
#include "model/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { ALIGN_FLOATS = 16 }; // 64 bytes

// Sizes a shape can be made of; the numbers below are of the tower at hand.
enum dim { D_END, D_W, D_3W, D_M, D_E, D_3, D_P, D_POS, D_VOCAB };

struct row {
    const char *vision, *text; // names; NULL: that tower has none
    enum clip_kind kind;
    enum dim dims[4];
};

// In the order of the table.
static const struct row stem[] = {
    {"visual.class_embedding", NULL, CLIP_K_CLASS, {D_W}},
    {"visual.conv1.weight", NULL, CLIP_K_PATCH, {D_W, D_3, D_P, D_P}},
    {NULL, "token_embedding.weight", CLIP_K_TOKEN, {D_VOCAB, D_W}},
    {"visual.positional_embedding", "positional_embedding", CLIP_K_POS, {D_POS, D_W}},
    {"visual.ln_pre.weight", NULL, CLIP_K_LN_PRE_W, {D_W}},
    {"visual.ln_pre.bias", NULL, CLIP_K_LN_PRE_B, {D_W}},
};
static const struct row block[] = {
    {"ln_1.weight", "ln_1.weight", CLIP_K_LN1_W, {D_W}},
    {"ln_1.bias", "ln_1.bias", CLIP_K_LN1_B, {D_W}},
    {"attn.in_proj_weight", "attn.in_proj_weight", CLIP_K_QKV_W, {D_3W, D_W}},
    {"attn.in_proj_bias", "attn.in_proj_bias", CLIP_K_QKV_B, {D_3W}},
    {"attn.out_proj.weight", "attn.out_proj.weight", CLIP_K_OUT_W, {D_W, D_W}},
    {"attn.out_proj.bias", "attn.out_proj.bias", CLIP_K_OUT_B, {D_W}},
    {"ls_1.gamma", "ls_1.gamma", CLIP_K_LS1, {D_W}},
    {"ln_2.weight", "ln_2.weight", CLIP_K_LN2_W, {D_W}},
    {"ln_2.bias", "ln_2.bias", CLIP_K_LN2_B, {D_W}},
    {"mlp.c_fc.weight", "mlp.c_fc.weight", CLIP_K_FC_W, {D_M, D_W}},
    {"mlp.c_fc.bias", "mlp.c_fc.bias", CLIP_K_FC_B, {D_M}},
    {"mlp.c_proj.weight", "mlp.c_proj.weight", CLIP_K_PROJ_W, {D_W, D_M}},
    {"mlp.c_proj.bias", "mlp.c_proj.bias", CLIP_K_PROJ_B, {D_W}},
    {"ls_2.gamma", "ls_2.gamma", CLIP_K_LS2, {D_W}},
};
static const struct row head[] = {
    {"visual.ln_post.weight", "ln_final.weight", CLIP_K_LN_FINAL_W, {D_W}},
    {"visual.ln_post.bias", "ln_final.bias", CLIP_K_LN_FINAL_B, {D_W}},
    {"visual.proj", "text_projection", CLIP_K_HEAD, {D_W, D_E}},
};
static const struct row logit[] = {
    {NULL, "logit_scale", CLIP_K_LOGIT_SCALE, {D_END}},
    {NULL, "logit_bias", CLIP_K_LOGIT_BIAS, {D_END}},
};

#define COUNT(a) (sizeof(a) / sizeof *(a))

static const struct clip_tower *tower_of(const struct clip_config *c, enum clip_tower_id id)
{
    return id == CLIP_VISION ? &c->vision : &c->text;
}

static size_t dim_of(const struct clip_config *c, enum clip_tower_id id, enum dim d)
{
    const struct clip_tower *t = tower_of(c, id);
    switch (d) {
    case D_W:
        return (size_t)t->width;
    case D_3W:
        return 3 * (size_t)t->width;
    case D_M:
        return (size_t)t->mlp;
    case D_E:
        return (size_t)c->embed_dim;
    case D_3:
        return 3;
    case D_P:
        return (size_t)c->patch_size;
    case D_POS:
        return (size_t)(id == CLIP_VISION ? clip_config_positions(c) : c->context);
    case D_VOCAB:
        return (size_t)c->vocab;
    case D_END:
        break;
    }
    return 0;
}

static bool has(const struct clip_config *c, enum clip_tower_id id, const struct row *r)
{
    if (r->kind == CLIP_K_LS1 || r->kind == CLIP_K_LS2)
        return tower_of(c, id)->ls_init != 0;
    if (r->kind == CLIP_K_LOGIT_BIAS)
        return c->has_logit_bias;
    return id == CLIP_VISION ? r->vision : r->text;
}

static int add(struct clip_table *t, enum clip_tower_id id, const struct row *r, int layer,
               struct err *e)
{
    struct clip_tensor *x = &t->t[t->n];
    const char *name = id == CLIP_VISION ? r->vision : r->text;
    if (!has(&t->cfg, id, r))
        return 0;
    *x = (struct clip_tensor){.tower = id, .kind = r->kind, .layer = layer, .numel = 1};
    if (layer < 0)
        snprintf(x->name, sizeof x->name, "%s", name);
    else
        snprintf(x->name, sizeof x->name, "%stransformer.resblocks.%d.%s",
                 id == CLIP_VISION ? "visual." : "", layer, name);
    for (; x->rank < 4 && r->dims[x->rank] != D_END; x->rank++) {
        x->shape[x->rank] = dim_of(&t->cfg, id, r->dims[x->rank]);
        if (!mem_mul(x->numel, x->shape[x->rank], &x->numel))
            return err_set(e, "%s: size overflows", x->name);
    }
    x->offset = t->n_flat;
    if (!mem_add(t->n_flat, x->numel, &t->n_flat) ||
        !mem_add(t->n_flat, -t->n_flat % ALIGN_FLOATS, &t->n_flat) || t->n_flat > SIZE_MAX / 8)
        return err_set(e, "%s: size overflows", x->name);
    t->n_params += x->numel;
    if (layer <= 0)
        t->index[id][r->kind] = (int)t->n;
    t->n++;
    return 0;
}

static int add_rows(struct clip_table *t, enum clip_tower_id id, const struct row *r, size_t n,
                    int layer, struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (add(t, id, &r[i], layer, e))
            return -1;
    return 0;
}

static int add_tower(struct clip_table *t, enum clip_tower_id id, struct err *e)
{
    if (add_rows(t, id, stem, COUNT(stem), -1, e))
        return -1;
    for (int l = 0; l < tower_of(&t->cfg, id)->layers; l++)
        if (add_rows(t, id, block, COUNT(block), l, e))
            return -1;
    return add_rows(t, id, head, COUNT(head), -1, e);
}

int clip_table_init(struct clip_table *t, const struct clip_config *c, struct err *e)
{
    size_t layers = (size_t)c->vision.layers + (size_t)c->text.layers;
    size_t max = 2 * (COUNT(stem) + COUNT(head)) + COUNT(logit) + layers * COUNT(block);
    memset(t, 0, sizeof *t);
    t->cfg = *c;
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < CLIP_K_COUNT; k++)
            t->index[i][k] = -1;
    t->t = mem_alloc(max, sizeof *t->t, e);
    if (!t->t)
        return -1;
    if (add_tower(t, CLIP_VISION, e) || add_tower(t, CLIP_TEXT, e) ||
        add_rows(t, CLIP_TEXT, logit, COUNT(logit), -1, e)) {
        clip_table_release(t);
        return -1;
    }
    return 0;
}

void clip_table_release(struct clip_table *t)
{
    free(t->t);
    memset(t, 0, sizeof *t);
}

int clip_table_find(const struct clip_table *t, enum clip_tower_id tower, enum clip_kind kind,
                    int layer)
{
    int first = t->index[tower][kind];
    if (first < 0 || kind < CLIP_K_LN1_W)
        return first;
    // Blocks of a tower are alike, so one lies a fixed number of rows after the other.
    int stride = (int)COUNT(block) - (tower_of(&t->cfg, tower)->ls_init == 0 ? 2 : 0);
    return layer < 0 || layer >= tower_of(&t->cfg, tower)->layers ? -1 : first + layer * stride;
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
