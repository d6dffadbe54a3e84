// SPDX-License-Identifier: Apache-2.0
// Patterns: '#' is the block's number, '|' stands between pieces, an empty piece is zeros in no
// file, and each '1' before ':' a leading dimension of 1 in the file's shape.
#include "model/names.h"

#include <stdio.h>
#include <string.h>

#define WEIGHT_BIAS(kind, name) [kind] = name ".weight", [kind + 1] = name ".bias"

typedef const char *const patterns[CLIP_K_COUNT];

// -- open_clip
static patterns open_clip_vision = {
    [CLIP_K_CLASS] = "visual.class_embedding",        [CLIP_K_PATCH] = "visual.conv1.weight",
    [CLIP_K_POS] = "visual.positional_embedding",     WEIGHT_BIAS(CLIP_K_LN_PRE_W, "visual.ln_pre"),
    WEIGHT_BIAS(CLIP_K_LN_FINAL_W, "visual.ln_post"), [CLIP_K_HEAD] = "visual.proj",
};
static patterns open_clip_text = {
    [CLIP_K_CLASS] = "cls_emb",
    [CLIP_K_TOKEN] = "token_embedding.weight",
    [CLIP_K_POS] = "positional_embedding",
    WEIGHT_BIAS(CLIP_K_LN_FINAL_W, "ln_final"),
    [CLIP_K_HEAD] = "text_projection",
    [CLIP_K_HEAD_B] = "text_projection.bias",
    [CLIP_K_LOGIT_SCALE] = "logit_scale",
    [CLIP_K_LOGIT_BIAS] = "logit_bias",
};
// Names after "visual." in the image tower.
static patterns open_clip_block = {
    WEIGHT_BIAS(CLIP_K_LN1_W, "transformer.resblocks.#.ln_1"),
    [CLIP_K_QKV_W] = "transformer.resblocks.#.attn.in_proj_weight",
    [CLIP_K_QKV_B] = "transformer.resblocks.#.attn.in_proj_bias",
    WEIGHT_BIAS(CLIP_K_OUT_W, "transformer.resblocks.#.attn.out_proj"),
    [CLIP_K_LS1] = "transformer.resblocks.#.ls_1.gamma",
    WEIGHT_BIAS(CLIP_K_LN2_W, "transformer.resblocks.#.ln_2"),
    WEIGHT_BIAS(CLIP_K_FC_W, "transformer.resblocks.#.mlp.c_fc"),
    WEIGHT_BIAS(CLIP_K_PROJ_W, "transformer.resblocks.#.mlp.c_proj"),
    [CLIP_K_LS2] = "transformer.resblocks.#.ls_2.gamma",
};
static patterns coca_pool = {
    [CLIP_K_LATENT] = "visual.attn_pool.query",
    WEIGHT_BIAS(CLIP_K_LN_Q_W, "visual.attn_pool.ln_q"),
    WEIGHT_BIAS(CLIP_K_LN1_W, "visual.attn_pool.ln_k"),
    [CLIP_K_QKV_W] = "visual.attn_pool.attn.in_proj_weight",
    [CLIP_K_Q_W] = "visual.attn_pool.attn.q_proj_weight",
    [CLIP_K_KV_W] = "visual.attn_pool.attn.k_proj_weight|visual.attn_pool.attn.v_proj_weight",
    [CLIP_K_QKV_B] = "visual.attn_pool.attn.in_proj_bias",
    WEIGHT_BIAS(CLIP_K_OUT_W, "visual.attn_pool.attn.out_proj"),
};

// -- timm
static patterns timm_once = {
    [CLIP_K_CLASS] = "11:visual.trunk.cls_token",
    WEIGHT_BIAS(CLIP_K_PATCH, "visual.trunk.patch_embed.proj"),
    [CLIP_K_POS] = "1:visual.trunk.pos_embed",
    WEIGHT_BIAS(CLIP_K_LN_PRE_W, "visual.trunk.norm_pre"),
    WEIGHT_BIAS(CLIP_K_LN_FINAL_W, "visual.trunk.norm"),
    WEIGHT_BIAS(CLIP_K_HEAD, "visual.trunk.head"),
};
#define TIMM_BLOCK "visual.trunk.blocks.#."
static patterns timm_block = {
    WEIGHT_BIAS(CLIP_K_LN1_W, TIMM_BLOCK "norm1"),
    WEIGHT_BIAS(CLIP_K_QKV_W, TIMM_BLOCK "attn.qkv"),
    WEIGHT_BIAS(CLIP_K_ATT_LN_W, TIMM_BLOCK "attn.norm"),
    WEIGHT_BIAS(CLIP_K_OUT_W, TIMM_BLOCK "attn.proj"),
    [CLIP_K_LS1] = TIMM_BLOCK "ls1.gamma",
    WEIGHT_BIAS(CLIP_K_LN2_W, TIMM_BLOCK "norm2"),
    WEIGHT_BIAS(CLIP_K_FC_W, TIMM_BLOCK "mlp.fc1"),
    WEIGHT_BIAS(CLIP_K_MLP_LN_W, TIMM_BLOCK "mlp.norm"),
    WEIGHT_BIAS(CLIP_K_PROJ_W, TIMM_BLOCK "mlp.fc2"),
    [CLIP_K_LS2] = TIMM_BLOCK "ls2.gamma",
};
// Tensors that timm's Eva names differently.
static patterns eva01_block = {
    [CLIP_K_QKV_B] = TIMM_BLOCK "attn.q_bias||" TIMM_BLOCK "attn.v_bias",
};
static patterns eva02_block = {
    [CLIP_K_QKV_W] = TIMM_BLOCK "attn.q_proj.weight|" TIMM_BLOCK "attn.k_proj.weight|" TIMM_BLOCK
                                "attn.v_proj.weight",
    [CLIP_K_QKV_B] = TIMM_BLOCK "attn.q_proj.bias||" TIMM_BLOCK "attn.v_proj.bias",
    [CLIP_K_FC_W] = TIMM_BLOCK "mlp.fc1_g.weight|" TIMM_BLOCK "mlp.fc1_x.weight",
    [CLIP_K_FC_B] = TIMM_BLOCK "mlp.fc1_g.bias|" TIMM_BLOCK "mlp.fc1_x.bias",
};
#define TIMM_POOL "visual.trunk.attn_pool."
static patterns timm_pool = {
    [CLIP_K_LATENT] = "11:" TIMM_POOL "latent",
    [CLIP_K_QKV_W] = TIMM_POOL "q.weight|" TIMM_POOL "kv.weight",
    [CLIP_K_QKV_B] = TIMM_POOL "q.bias|" TIMM_POOL "kv.bias",
    WEIGHT_BIAS(CLIP_K_OUT_W, TIMM_POOL "proj"),
    WEIGHT_BIAS(CLIP_K_LN2_W, TIMM_POOL "norm"),
    WEIGHT_BIAS(CLIP_K_FC_W, TIMM_POOL "mlp.fc1"),
    WEIGHT_BIAS(CLIP_K_PROJ_W, TIMM_POOL "mlp.fc2"),
};

// -- Hugging Face
static patterns hf_vision = {
    [CLIP_K_CLASS] = "vision_model.embeddings.class_embedding",
    WEIGHT_BIAS(CLIP_K_PATCH, "vision_model.embeddings.patch_embedding"),
    [CLIP_K_POS] = "vision_model.embeddings.position_embedding.weight",
    WEIGHT_BIAS(CLIP_K_LN_PRE_W, "vision_model.pre_layrnorm"), // spelled so
    WEIGHT_BIAS(CLIP_K_LN_FINAL_W, "vision_model.post_layernorm"),
    [CLIP_K_HEAD] = "visual_projection.weight",
};
static patterns hf_text = {
    [CLIP_K_TOKEN] = "text_model.embeddings.token_embedding.weight",
    [CLIP_K_POS] = "text_model.embeddings.position_embedding.weight",
    WEIGHT_BIAS(CLIP_K_LN_FINAL_W, "text_model.final_layer_norm"),
    [CLIP_K_HEAD] = "text_projection.weight",
    [CLIP_K_LOGIT_SCALE] = "logit_scale",
};
static patterns siglip_text = {
    [CLIP_K_TOKEN] = "text_model.embeddings.token_embedding.weight",
    [CLIP_K_POS] = "text_model.embeddings.position_embedding.weight",
    WEIGHT_BIAS(CLIP_K_LN_FINAL_W, "text_model.final_layer_norm"),
    WEIGHT_BIAS(CLIP_K_HEAD, "text_model.head"),
    [CLIP_K_LOGIT_SCALE] = "1:logit_scale",
    [CLIP_K_LOGIT_BIAS] = "1:logit_bias",
};
// Names after "vision_model." or "text_model.".
#define HF_ATTENTION "encoder.layers.#.self_attn."
static patterns hf_block = {
    WEIGHT_BIAS(CLIP_K_LN1_W, "encoder.layers.#.layer_norm1"),
    [CLIP_K_QKV_W] =
        HF_ATTENTION "q_proj.weight|" HF_ATTENTION "k_proj.weight|" HF_ATTENTION "v_proj.weight",
    [CLIP_K_QKV_B] =
        HF_ATTENTION "q_proj.bias|" HF_ATTENTION "k_proj.bias|" HF_ATTENTION "v_proj.bias",
    WEIGHT_BIAS(CLIP_K_OUT_W, HF_ATTENTION "out_proj"),
    WEIGHT_BIAS(CLIP_K_LN2_W, "encoder.layers.#.layer_norm2"),
    WEIGHT_BIAS(CLIP_K_FC_W, "encoder.layers.#.mlp.fc1"),
    WEIGHT_BIAS(CLIP_K_PROJ_W, "encoder.layers.#.mlp.fc2"),
};
static patterns siglip_pool = {
    [CLIP_K_LATENT] = "11:vision_model.head.probe",
    [CLIP_K_QKV_W] = "vision_model.head.attention.in_proj_weight",
    [CLIP_K_QKV_B] = "vision_model.head.attention.in_proj_bias",
    WEIGHT_BIAS(CLIP_K_OUT_W, "vision_model.head.attention.out_proj"),
    WEIGHT_BIAS(CLIP_K_LN2_W, "vision_model.head.layernorm"),
    WEIGHT_BIAS(CLIP_K_FC_W, "vision_model.head.mlp.fc1"),
    WEIGHT_BIAS(CLIP_K_PROJ_W, "vision_model.head.mlp.fc2"),
};

static const struct clip_tower *tower_of(const struct clip_config *c, const struct clip_tensor *t)
{
    return t->tower == CLIP_VISION ? &c->vision : &c->text;
}

static bool in_pool(const struct clip_config *c, const struct clip_tensor *t)
{
    return t->layer == tower_of(c, t)->layers;
}

static const char *hf_pattern(const struct clip_config *c, const struct clip_tensor *t,
                              const char **prefix)
{
    bool siglip = c->vision.pool == CLIP_POOL_MAP;
    if (in_pool(c, t))
        return siglip_pool[t->kind];
    if (t->layer >= 0) {
        *prefix = t->tower == CLIP_VISION ? "vision_model." : "text_model.";
        return hf_block[t->kind];
    }
    if (t->tower == CLIP_VISION)
        return hf_vision[t->kind];
    return siglip ? siglip_text[t->kind] : hf_text[t->kind];
}

static const char *timm_pattern(enum clip_naming n, const struct clip_tensor *t, bool pool,
                                bool own)
{
    if (t->layer < 0)
        return timm_once[t->kind];
    if (pool && own && t->kind == CLIP_K_QKV_W)
        return TIMM_POOL "qkv.weight";
    if (pool && own && t->kind == CLIP_K_QKV_B)
        return TIMM_POOL "qkv.bias";
    if (pool)
        return timm_pool[t->kind];
    if (n == CLIP_NAMED_EVA01 && eva01_block[t->kind])
        return eva01_block[t->kind];
    if (n == CLIP_NAMED_EVA02 && eva02_block[t->kind])
        return eva02_block[t->kind];
    return timm_block[t->kind];
}

// A projection that open_clip itself adds after timm's tower, or one with a bias.
static const char *other_head(const struct clip_tower *w, const struct clip_tensor *t)
{
    if (w->outer_head && t->kind == CLIP_K_HEAD)
        return "visual.head.proj.weight";
    if (w->outer_head && t->kind == CLIP_K_HEAD_B)
        return "visual.head.proj.bias";
    if (t->tower == CLIP_TEXT && w->head_bias && t->kind == CLIP_K_HEAD)
        return "text_projection.weight";
    return NULL;
}

// `own`: the table's own name, complete.
static const char *open_clip_pattern(const struct clip_config *c, const struct clip_tensor *t,
                                     bool own, const char **prefix)
{
    const struct clip_tower *w = tower_of(c, t);
    const char *other = other_head(w, t);
    bool logit = t->kind == CLIP_K_LOGIT_SCALE || t->kind == CLIP_K_LOGIT_BIAS;
    if (c->custom_text && !own && t->tower == CLIP_TEXT && !logit)
        *prefix = "text.";
    if (other)
        return other;
    if (w->naming != CLIP_NAMED_OPEN_CLIP)
        return timm_pattern(own ? CLIP_NAMED_TIMM : w->naming, t, in_pool(c, t), own);
    if (in_pool(c, t))
        return coca_pool[t->kind];
    if (t->layer < 0)
        return t->tower == CLIP_VISION ? open_clip_vision[t->kind] : open_clip_text[t->kind];
    if (t->tower == CLIP_VISION)
        *prefix = "visual.";
    return open_clip_block[t->kind];
}

// The part from `pattern` up to '|' or its end, with the block's number filled in.
static void expand(const char *prefix, const char *pattern, int layer, char *name, size_t room)
{
    size_t n = strcspn(pattern, "|"), at = 0;
    if (n)
        at = (size_t)snprintf(name, room, "%s", prefix);
    for (size_t i = 0; i < n && at < room; i++)
        at += pattern[i] == '#' ? (size_t)snprintf(name + at, room - at, "%d", layer)
                                : (size_t)snprintf(name + at, room - at, "%c", pattern[i]);
}

// Skips leading dimensions of 1, and the prefix of names.
static int leading(const char **pattern)
{
    size_t n = strspn(*pattern, "1");
    if (!n || (*pattern)[n] != ':')
        return 0;
    *pattern += n + 1;
    return (int)n;
}

static int pieces_of(const char *pattern)
{
    int n = 1;
    for (; *pattern; pattern++)
        n += *pattern == '|';
    return n;
}

// Rows of piece i of n: equal shares, except for two pieces, which are q and kv.
static size_t rows_of(const struct clip_tensor *t, int i, int n)
{
    size_t rows = t->rank ? t->shape[0] : 1;
    bool q_kv = n == 2 && (t->kind == CLIP_K_QKV_W || t->kind == CLIP_K_QKV_B);
    return q_kv ? rows / 3 * (size_t)(i + 1) : rows / (size_t)n;
}

static void shape_of(const struct clip_tensor *t, int ones, bool transposed,
                     struct clip_file_part *p)
{
    p->rank = t->rank + ones;
    for (int i = 0; i < ones; i++)
        p->shape[i] = 1;
    for (int i = 0; i < t->rank; i++)
        p->shape[ones + i] = i ? t->shape[i] : p->rows;
    // A single row is a vector.
    if (ones && t->rank == 2 && t->shape[0] == 1) {
        p->rank = 3;
        p->shape[0] = p->shape[1] = 1;
        p->shape[2] = t->shape[1];
    }
    if (transposed) {
        p->shape[0] = t->shape[1];
        p->shape[1] = t->shape[0];
    }
}

bool clip_file_transposed(const struct clip_config *c, const struct clip_tensor *t, bool hf)
{
    const struct clip_tower *w = tower_of(c, t);
    if (t->kind != CLIP_K_HEAD)
        return false;
    return hf || w->naming != CLIP_NAMED_OPEN_CLIP || (t->tower == CLIP_TEXT && w->head_bias);
}

int clip_file_parts(const struct clip_config *c, const struct clip_tensor *t, bool hf,
                    struct clip_file_part part[CLIP_PARTS_MAX])
{
    const char *prefix = "";
    const char *at = hf ? hf_pattern(c, t, &prefix) : open_clip_pattern(c, t, false, &prefix);
    // Layer scale, inner norms and others have no name in CLIPModel.
    if (!at)
        return 0;
    int ones = leading(&at), n = pieces_of(at);
    for (int i = 0; i < n; i++) {
        part[i] = (struct clip_file_part){.rows = rows_of(t, i, n)};
        expand(prefix, at, t->layer, part[i].name, sizeof part[i].name);
        shape_of(t, ones, clip_file_transposed(c, t, hf), &part[i]);
        at += strcspn(at, "|") + 1;
    }
    return n;
}

void clip_tensor_name(const struct clip_config *c, const struct clip_tensor *t,
                      char name[CLIP_NAME_MAX])
{
    const char *prefix = "", *at = open_clip_pattern(c, t, true, &prefix);
    at = at ? at : "?";
    leading(&at);
    expand(prefix, at, t->layer, name, CLIP_NAME_MAX);
}
