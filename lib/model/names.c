// SPDX-License-Identifier: Apache-2.0
#include "model/names.h"

#include <stdio.h>
#include <string.h>

static const char *const once[2][CLIP_K_COUNT] = {
    [CLIP_VISION] = {[CLIP_K_CLASS] = "vision_model.embeddings.class_embedding",
                     [CLIP_K_PATCH] = "vision_model.embeddings.patch_embedding.weight",
                     [CLIP_K_POS] = "vision_model.embeddings.position_embedding.weight",
                     [CLIP_K_LN_PRE_W] = "vision_model.pre_layrnorm.weight", // spelled so
                     [CLIP_K_LN_PRE_B] = "vision_model.pre_layrnorm.bias",
                     [CLIP_K_LN_FINAL_W] = "vision_model.post_layernorm.weight",
                     [CLIP_K_LN_FINAL_B] = "vision_model.post_layernorm.bias",
                     [CLIP_K_HEAD] = "visual_projection.weight"},
    [CLIP_TEXT] = {[CLIP_K_TOKEN] = "text_model.embeddings.token_embedding.weight",
                   [CLIP_K_POS] = "text_model.embeddings.position_embedding.weight",
                   [CLIP_K_LN_FINAL_W] = "text_model.final_layer_norm.weight",
                   [CLIP_K_LN_FINAL_B] = "text_model.final_layer_norm.bias",
                   [CLIP_K_HEAD] = "text_projection.weight",
                   [CLIP_K_LOGIT_SCALE] = "logit_scale"},
};

// '?' stands for q, k or v.
static const char *const in_block[CLIP_K_COUNT] = {
    [CLIP_K_LN1_W] = "layer_norm1.weight",
    [CLIP_K_LN1_B] = "layer_norm1.bias",
    [CLIP_K_QKV_W] = "self_attn.?_proj.weight",
    [CLIP_K_QKV_B] = "self_attn.?_proj.bias",
    [CLIP_K_OUT_W] = "self_attn.out_proj.weight",
    [CLIP_K_OUT_B] = "self_attn.out_proj.bias",
    [CLIP_K_LN2_W] = "layer_norm2.weight",
    [CLIP_K_LN2_B] = "layer_norm2.bias",
    [CLIP_K_FC_W] = "mlp.fc1.weight",
    [CLIP_K_FC_B] = "mlp.fc1.bias",
    [CLIP_K_PROJ_W] = "mlp.fc2.weight",
    [CLIP_K_PROJ_B] = "mlp.fc2.bias",
};

static const char *pattern(const struct clip_tensor *t)
{
    return t->layer < 0 ? once[t->tower][t->kind] : in_block[t->kind];
}

int clip_hf_parts(const struct clip_tensor *t)
{
    if (!pattern(t))
        return 0;
    return t->kind == CLIP_K_QKV_W || t->kind == CLIP_K_QKV_B ? 3 : 1;
}

bool clip_hf_transposed(const struct clip_tensor *t)
{
    return t->kind == CLIP_K_HEAD;
}

void clip_hf_name(const struct clip_tensor *t, int part, char name[CLIP_FILE_NAME_MAX])
{
    if (t->layer < 0)
        snprintf(name, CLIP_FILE_NAME_MAX, "%s", pattern(t));
    else
        snprintf(name, CLIP_FILE_NAME_MAX, "%s_model.encoder.layers.%d.%s",
                 t->tower == CLIP_VISION ? "vision" : "text", t->layer, pattern(t));
    char *at = strchr(name, '?');
    if (at)
        *at = "qkv"[part];
}

void clip_hf_shape(const struct clip_tensor *t, uint64_t shape[4])
{
    for (int i = 0; i < t->rank; i++)
        shape[i] = t->shape[i];
    if (clip_hf_parts(t) == 3)
        shape[0] /= 3;
    if (clip_hf_transposed(t)) {
        shape[0] = t->shape[1];
        shape[1] = t->shape[0];
    }
}

void clip_open_clip_name(const struct clip_tensor *t, bool custom_text,
                         char name[CLIP_FILE_NAME_MAX])
{
    bool logit = t->kind == CLIP_K_LOGIT_SCALE || t->kind == CLIP_K_LOGIT_BIAS;
    bool prefix = custom_text && t->tower == CLIP_TEXT && !logit;
    snprintf(name, CLIP_FILE_NAME_MAX, "%s%s", prefix ? "text." : "", t->name);
}
