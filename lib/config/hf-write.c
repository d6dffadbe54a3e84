// SPDX-License-Identifier: Apache-2.0
// What Hugging Face's classes can hold, and their config.json written.
#include "config/keys.h"
#include "config/config.h"
#include "formats/json.h"

// Blocks as CLIPModel and SiglipModel have them.
static bool plain_blocks(const struct clip_tower *t)
{
    return !t->swiglu && !t->post_norm && !t->inner_norm && t->qkv_bias == CLIP_BIAS_QKV &&
           t->rope.grid == 0 && t->ls_init == 0;
}

bool clip_config_is_siglip(const struct clip_config *c)
{
    const struct clip_tower *v = &c->vision, *t = &c->text;
    return plain_blocks(v) && plain_blocks(t) && v->pool == CLIP_POOL_MAP && v->no_class &&
           v->patch_bias && v->no_norm_pre && v->no_head && v->pool_heads == v->heads &&
           v->pool_mlp == v->mlp && t->no_mask && t->read == CLIP_READ_LAST && t->head_bias &&
           c->has_logit_bias;
}

static int fits_clip(const struct clip_config *c, struct err *e)
{
    const struct clip_tower *v = &c->vision, *t = &c->text;
    if (v->ls_init != 0 || t->ls_init != 0)
        return err_set(e, "CLIPModel has no layer scale (ls_init_value)");
    if (c->has_logit_bias)
        return err_set(e, "CLIPModel has no logit bias (init_logit_bias)");
    if (!plain_blocks(v) || !plain_blocks(t) || v->pool != CLIP_POOL_TOKEN || v->no_class ||
        v->patch_bias || v->no_norm_pre || v->no_head || v->head_bias)
        return err_set(e, "neither CLIPModel nor SiglipModel has an image tower of this kind");
    if (t->no_mask || t->read != CLIP_READ_END || t->head_bias || t->no_head || t->class_last)
        return err_set(e, "neither CLIPModel nor SiglipModel has a text tower of this kind");
    if (c->eos_id == 2 && c->hf != CLIP_HF_METACLIP2)
        return err_set(e, "CLIPModel takes eos_token_id 2 as the largest id");
    return 0;
}

int clip_config_fits_hf(const struct clip_config *c, struct err *e)
{
    if (!clip_config_is_siglip(c) && fits_clip(c, e))
        return -1;
    if (c->preprocess.fit == CLIP_LONGEST)
        return err_set(e, "CLIPImageProcessor has no resize_mode longest");
    return 0;
}

static int add_tower(cJSON *o, const char *type, const struct clip_tower *t, int embed,
                     struct err *e)
{
    return json_add_string(o, "model_type", type, e) ||
                   json_add_i64(o, "hidden_size", t->width, e) ||
                   json_add_i64(o, "intermediate_size", t->mlp, e) ||
                   json_add_i64(o, "num_hidden_layers", t->layers, e) ||
                   json_add_i64(o, "num_attention_heads", t->heads, e) ||
                   json_add_string(o, "hidden_act", clip_act_name(t->act), e) ||
                   json_add_double(o, "layer_norm_eps", t->eps, e) ||
                   (t->pool != CLIP_POOL_MAP && !t->no_mask &&
                    json_add_i64(o, "projection_dim", embed, e))
               ? -1
               : 0;
}

static const char *const types[][4] = {
    // the model, its text, its vision tower, its class
    [CLIP_HF_CLIP] = {"clip", "clip_text_model", "clip_vision_model", "CLIPModel"},
    [CLIP_HF_METACLIP2] = {"metaclip_2", "metaclip_2_text_model", "metaclip_2_vision_model",
                           "MetaClip2Model"},
    [CLIP_HF_SIGLIP] = {"siglip", "siglip_text_model", "siglip_vision_model", "SiglipModel"},
};

static enum clip_hf_model model_of(const struct clip_config *c)
{
    return clip_config_is_siglip(c)     ? CLIP_HF_SIGLIP
           : c->hf == CLIP_HF_METACLIP2 ? CLIP_HF_METACLIP2
                                        : CLIP_HF_CLIP;
}

static int add_text(cJSON *j, const struct clip_config *c, int start, struct err *e)
{
    enum clip_hf_model m = model_of(c);
    cJSON *o = json_add_object(j, "text_config", e);
    // 2 is CLIPModel's word for the largest id; the last id of the vocabulary is the same row and
    // plainer.
    int eos = c->eos_id < 0 ? c->vocab - 1 : c->eos_id;
    if (!o || add_tower(o, types[m][1], &c->text, c->embed_dim, e) ||
        json_add_i64(o, "max_position_embeddings", c->context, e) ||
        json_add_i64(o, "vocab_size", c->vocab, e))
        return -1;
    if (m == CLIP_HF_SIGLIP)
        return json_add_i64(o, "projection_size", c->embed_dim, e);
    if (json_add_i64(o, "eos_token_id", eos, e))
        return -1;
    if (start < 0)
        start = eos - 1;
    return start < 0 ? 0 : json_add_i64(o, "bos_token_id", start, e);
}

static int add_vision(cJSON *j, const struct clip_config *c, struct err *e)
{
    cJSON *o = json_add_object(j, "vision_config", e);
    return !o || add_tower(o, types[model_of(c)][2], &c->vision, c->embed_dim, e) ||
                   json_add_i64(o, "image_size", c->image_size, e) ||
                   json_add_i64(o, "patch_size", c->patch_size, e) ||
                   json_add_i64(o, "num_channels", 3, e)
               ? -1
               : 0;
}

static int add_config(cJSON *j, const struct clip_config *c, int start, struct err *e)
{
    enum clip_hf_model m = model_of(c);
    cJSON *a = json_add_array(j, "architectures", e);
    if (!a || json_add_string(a, NULL, types[m][3], e) ||
        json_add_string(j, "model_type", types[m][0], e))
        return -1;
    if (m != CLIP_HF_SIGLIP && (json_add_i64(j, "projection_dim", c->embed_dim, e) ||
                                json_add_double(j, "logit_scale_init_value", c->logit_scale, e)))
        return -1;
    return add_text(j, c, start, e) || add_vision(j, c, e) ? -1 : 0;
}

cJSON *clip_config_to_hf(const struct clip_config *c, int start, struct err *e)
{
    cJSON *j = clip_config_fits_hf(c, e) ? NULL : keys_object(e);
    return j ? keys_finish(j, add_config(j, c, start, e)) : NULL;
}
