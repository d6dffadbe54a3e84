// SPDX-License-Identifier: Apache-2.0
// open_clip's config: the keys of its CLIPVisionCfg, CLIPTextCfg and PreprocessCfg.
#include <math.h>
#include <string.h>

#include "model/config-keys.h"
#include "model/config.h"
#include "formats/json.h"

// (int)(width * ratio), as Python's int(). 0 when it does not fit; the check then refuses it.
static int mlp_width(int width, double ratio)
{
    double m = width * ratio;
    return m >= 1 && m < 1 << 24 ? (int)m : 0;
}

static int read_norm(const cJSON *o, const char *where, double *eps, struct err *e)
{
    const struct key keys[] = {{"eps", KEY_NUMBER, eps}};
    return o ? KEYS_READ(o, where, keys, NULL, e) : 0;
}

static int only(const char *where, const char *key, const char *got, const char *want,
                struct err *e)
{
    if (!got || strcmp(got, want) == 0)
        return 0;
    return err_set(e, "%s: '%s' is '%.32s': only '%s' is implemented", where, key, got, want);
}

static int read_vision(struct clip_config *c, const cJSON *o, struct err *e)
{
    struct clip_tower *t = &c->vision;
    const cJSON *norm = NULL;
    const char *pool = NULL, *pos = NULL, *block = NULL;
    int head_width = 64;
    double ratio = 4;
    bool unused;
    c->patch_size = 16;
    c->image_size = 224;
    t->layers = 12;
    t->width = 768;
    const struct key keys[] = {
        {"layers", KEY_INT, &t->layers},
        {"width", KEY_INT, &t->width},
        {"head_width", KEY_INT, &head_width},
        {"mlp_ratio", KEY_NUMBER, &ratio},
        {"patch_size", KEY_SIDE, &c->patch_size},
        {"image_size", KEY_SIDE, &c->image_size},
        {"ls_init_value", KEY_NUMBER, &t->ls_init},
        {"norm_kwargs", KEY_OBJECT, &norm},
        {"pool_type", KEY_TEXT, &pool},
        {"pos_embed_type", KEY_TEXT, &pos},
        {"block_type", KEY_TEXT, &block},
        {"final_ln_after_pool", KEY_BOOL, &unused}, // the same for one row
        {"patch_dropout", KEY_OFF, NULL},
        {"attentional_pool", KEY_OFF, NULL},
        {"no_ln_pre", KEY_OFF, NULL},
        {"act_kwargs", KEY_OFF, NULL},
        {"input_patchnorm", KEY_OFF, NULL},
        {"global_average_pool", KEY_OFF, NULL},
        {"qk_norm", KEY_OFF, NULL},
        {"scaled_cosine_attn", KEY_OFF, NULL},
        {"scale_heads", KEY_OFF, NULL},
        {"scale_attn_inner", KEY_OFF, NULL},
        {"scale_attn", KEY_OFF, NULL},
        {"scale_fc", KEY_OFF, NULL},
        {"timm_model_name", KEY_OFF, NULL},
        {"output_tokens", KEY_ANY, NULL}, // more outputs, the same values
        // read by open_clip only with attentional_pool or timm_model_name
        {"attn_pooler_queries", KEY_ANY, NULL},
        {"attn_pooler_heads", KEY_ANY, NULL},
        {"n_queries", KEY_ANY, NULL},
        {"attn_pooler_n_head", KEY_ANY, NULL},
        {"timm_model_pretrained", KEY_ANY, NULL},
        {"timm_pool", KEY_ANY, NULL},
        {"timm_proj", KEY_ANY, NULL},
        {"timm_proj_bias", KEY_ANY, NULL},
        {"timm_drop", KEY_ANY, NULL},
        {"timm_drop_path", KEY_ANY, NULL},
    };
    if (KEYS_READ(o, "vision_cfg", keys, NULL, e) || read_norm(norm, "norm_kwargs", &t->eps, e) ||
        only("vision_cfg", "pool_type", pool, "tok", e) ||
        only("vision_cfg", "pos_embed_type", pos, "learnable", e) ||
        only("vision_cfg", "block_type", block, "default", e))
        return -1;
    if (head_width < 1 || head_width > t->width)
        return err_set(e, "vision_cfg: 'head_width' is %d, 'width' %d", head_width, t->width);
    t->heads = t->width / head_width;
    t->mlp = mlp_width(t->width, ratio);
    return 0;
}

static int read_text(struct clip_config *c, const cJSON *o, struct err *e)
{
    struct clip_tower *t = &c->text;
    const cJSON *norm = NULL;
    const char *pool = "argmax", *proj = NULL, *block = NULL;
    int eos = 49407; // CLIPTextCfg's default
    double ratio = 4;
    bool unused;
    c->context = 77;
    c->vocab = 49408;
    t->width = 512;
    t->heads = 8;
    t->layers = 12;
    const struct key keys[] = {
        {"context_length", KEY_INT, &c->context},
        {"vocab_size", KEY_INT, &c->vocab},
        {"width", KEY_INT, &t->width},
        {"heads", KEY_INT, &t->heads},
        {"layers", KEY_INT, &t->layers},
        {"mlp_ratio", KEY_NUMBER, &ratio},
        {"ls_init_value", KEY_NUMBER, &t->ls_init},
        {"norm_kwargs", KEY_OBJECT, &norm},
        {"pool_type", KEY_TEXT, &pool},
        {"proj_type", KEY_TEXT, &proj},
        {"block_type", KEY_TEXT, &block},
        {"eos_id", KEY_INT, &eos},
        {"final_ln_after_pool", KEY_BOOL, &unused}, // the same for one row
        {"embed_cls", KEY_OFF, NULL},
        {"no_causal_mask", KEY_OFF, NULL},
        {"proj_bias", KEY_OFF, NULL},
        {"act_kwargs", KEY_OFF, NULL},
        {"qk_norm", KEY_OFF, NULL},
        {"scaled_cosine_attn", KEY_OFF, NULL},
        {"scale_heads", KEY_OFF, NULL},
        {"scale_attn_inner", KEY_OFF, NULL},
        {"scale_attn", KEY_OFF, NULL},
        {"scale_fc", KEY_OFF, NULL},
        {"hf_model_name", KEY_OFF, NULL},
        {"hf_tokenizer_name", KEY_OFF, NULL}, // another tokenizer than CLIP's
        {"tokenizer_mode", KEY_OFF, NULL},
        {"tokenizer_kwargs", KEY_OFF, NULL},
        {"text_mask", KEY_ANY, NULL},     // SLIP's way to cut captions, in training
        {"pad_id", KEY_ANY, NULL},        // read only with embed_cls
        {"output_tokens", KEY_ANY, NULL}, // more outputs, the same values
        // read by open_clip only with hf_model_name
        {"hf_model_pretrained", KEY_ANY, NULL},
        {"hf_proj_type", KEY_ANY, NULL},
        {"hf_pooler_type", KEY_ANY, NULL},
        {"pooler_type", KEY_ANY, NULL},
        {"proj", KEY_ANY, NULL},
    };
    if (KEYS_READ(o, "text_cfg", keys, NULL, e) || read_norm(norm, "norm_kwargs", &t->eps, e) ||
        only("text_cfg", "proj_type", proj, "linear", e) ||
        only("text_cfg", "block_type", block, "default", e))
        return -1;
    if (strcmp(pool, "eos") != 0 && only("text_cfg", "pool_type", pool, "argmax", e))
        return -1;
    c->eos_id = strcmp(pool, "eos") == 0 ? eos : -1;
    t->mlp = mlp_width(t->width, ratio);
    return 0;
}

static int read_model(struct clip_config *c, const cJSON *o, struct err *e)
{
    const cJSON *vision = NULL, *text = NULL, *bias = NULL;
    bool quick = false;
    const struct key keys[] = {
        {"embed_dim", KEY_INT, &c->embed_dim},
        {"vision_cfg", KEY_OBJECT, &vision},
        {"text_cfg", KEY_OBJECT, &text},
        {"quick_gelu", KEY_BOOL, &quick},
        {"custom_text", KEY_BOOL, &c->custom_text},
        {"init_logit_scale", KEY_NUMBER, &c->logit_scale},
        {"init_logit_bias", KEY_VALUE, &bias},
        {"multimodal_cfg", KEY_OFF, NULL},
        {"cast_dtype", KEY_OFF, NULL},
        {"nonscalar_logit_scale", KEY_ANY, NULL}, // [1] and [] are read alike
        {"output_dict", KEY_ANY, NULL},           // the form of the outputs
    };
    if (KEYS_READ(o, "model_cfg", keys, NULL, e))
        return -1;
    if (!vision || !text || !c->embed_dim)
        return err_set(e, "model_cfg: '%s' is missing",
                       !c->embed_dim ? "embed_dim"
                       : !vision     ? "vision_cfg"
                                     : "text_cfg");
    if (bias && !cJSON_IsNumber(bias))
        return err_set(e, "model_cfg: 'init_logit_bias' is not a number");
    c->has_logit_bias = bias;
    c->logit_bias = bias ? bias->valuedouble : 0;
    c->vision.act = c->text.act = quick ? CLIP_QUICK_GELU : CLIP_GELU;
    return read_vision(c, vision, e) || read_text(c, text, e) ? -1 : 0;
}

// A grey, as one number or three alike.
static int read_fill(const cJSON *v, int *fill, struct err *e)
{
    const cJSON *x = cJSON_IsArray(v) ? v->child : v;
    bool fine = cJSON_IsNumber(x) && x->valuedouble >= 0 && x->valuedouble <= 255 &&
                x->valuedouble == floor(x->valuedouble);
    if (fine && cJSON_IsArray(v)) {
        fine = cJSON_GetArraySize(v) == 3;
        for (const cJSON *y = x->next; y && fine; y = y->next)
            fine = cJSON_IsNumber(y) && y->valuedouble == x->valuedouble;
    }
    if (!fine)
        return err_set(e, "preprocess_cfg: 'fill_color' is not a grey of 0..255");
    *fill = (int)x->valuedouble;
    return 0;
}

static int read_preprocess(struct clip_preprocess *p, const cJSON *o, struct err *e)
{
    const char *mode = NULL, *resample = "bicubic", *fit = "shortest";
    const cJSON *fill = NULL;
    const struct key keys[] = {
        {"size", KEY_SIDE, &p->size},           {"mode", KEY_TEXT, &mode},
        {"mean", KEY_TRIPLE, p->mean},          {"std", KEY_TRIPLE, p->std},
        {"interpolation", KEY_TEXT, &resample}, {"resize_mode", KEY_TEXT, &fit},
        {"fill_color", KEY_VALUE, &fill},
    };
    static const char where[] = "preprocess_cfg";
    if (KEYS_READ(o, where, keys, NULL, e) || only(where, "mode", mode, "RGB", e))
        return -1;
    p->resample = strcmp(resample, "bilinear") == 0 ? CLIP_BILINEAR : CLIP_BICUBIC;
    if (!p->resample && only(where, "interpolation", resample, "bicubic", e))
        return -1;
    p->fit = strcmp(fit, "squash") == 0    ? CLIP_SQUASH
             : strcmp(fit, "longest") == 0 ? CLIP_LONGEST
                                           : CLIP_SHORTEST;
    if (p->fit == CLIP_SHORTEST && only(where, "resize_mode", fit, "shortest", e))
        return -1;
    p->given = true;
    return fill ? read_fill(fill, &p->fill, e) : 0;
}

int clip_config_from_open_clip(struct clip_config *c, const cJSON *j, struct err *e)
{
    const cJSON *model = NULL, *pre = NULL;
    const struct key keys[] = {
        {"model_cfg", KEY_OBJECT, &model},
        {"preprocess_cfg", KEY_OBJECT, &pre},
    };
    *c = (struct clip_config){.logit_scale = CLIP_LOGIT_SCALE, .eos_id = -1};
    c->vision.eps = c->text.eps = 1e-5;
    if (cJSON_GetObjectItemCaseSensitive(j, "model_cfg")) {
        if (KEYS_READ(j, "config", keys, NULL, e))
            return -1;
    }
    if (read_model(c, model ? model : j, e))
        return -1;
    clip_preprocess_default(&c->preprocess, c->image_size);
    if (pre && read_preprocess(&c->preprocess, pre, e))
        return -1;
    return clip_config_check(c, e);
}

// A ratio that gives `mlp` back when it is multiplied and cut.
static double mlp_ratio(const struct clip_tower *t)
{
    double r = (double)t->mlp / t->width;
    while (mlp_width(t->width, r) < t->mlp)
        r = nextafter(r, INFINITY);
    return r;
}

static int add_tower(cJSON *o, const struct clip_tower *t, struct err *e)
{
    cJSON *norm;
    if (json_add_i64(o, "width", t->width, e) || json_add_i64(o, "layers", t->layers, e))
        return -1;
    if (t->mlp != 4 * t->width && json_add_double(o, "mlp_ratio", mlp_ratio(t), e))
        return -1;
    if (t->ls_init != 0 && json_add_double(o, "ls_init_value", t->ls_init, e))
        return -1;
    if (t->eps == 1e-5)
        return 0;
    norm = json_add_object(o, "norm_kwargs", e);
    return norm ? json_add_double(norm, "eps", t->eps, e) : -1;
}

static int add_vision(cJSON *m, const struct clip_config *c, struct err *e)
{
    cJSON *o = json_add_object(m, "vision_cfg", e);
    if (!o || json_add_i64(o, "image_size", c->image_size, e) ||
        json_add_i64(o, "patch_size", c->patch_size, e) || add_tower(o, &c->vision, e))
        return -1;
    return json_add_i64(o, "head_width", c->vision.head_width, e);
}

static int add_text(cJSON *m, const struct clip_config *c, struct err *e)
{
    cJSON *o = json_add_object(m, "text_cfg", e);
    if (!o || json_add_i64(o, "context_length", c->context, e) ||
        json_add_i64(o, "vocab_size", c->vocab, e) || add_tower(o, &c->text, e) ||
        json_add_i64(o, "heads", c->text.heads, e))
        return -1;
    if (c->eos_id < 0)
        return 0;
    return json_add_string(o, "pool_type", "eos", e) || json_add_i64(o, "eos_id", c->eos_id, e) ? -1
                                                                                                : 0;
}

static int add_model(cJSON *j, const struct clip_config *c, struct err *e)
{
    cJSON *m = json_add_object(j, "model_cfg", e);
    if (!m || json_add_i64(m, "embed_dim", c->embed_dim, e))
        return -1;
    if (c->vision.act == CLIP_QUICK_GELU && json_add_bool(m, "quick_gelu", true, e))
        return -1;
    if (c->custom_text && json_add_bool(m, "custom_text", true, e))
        return -1;
    if (c->logit_scale != CLIP_LOGIT_SCALE &&
        json_add_double(m, "init_logit_scale", c->logit_scale, e))
        return -1;
    if (c->has_logit_bias && json_add_double(m, "init_logit_bias", c->logit_bias, e))
        return -1;
    return add_vision(m, c, e) || add_text(m, c, e) ? -1 : 0;
}

static int add_preprocess(cJSON *j, const struct clip_preprocess *p, struct err *e)
{
    cJSON *o = json_add_object(j, "preprocess_cfg", e);
    if (!o || json_add_i64(o, "size", p->size, e) || json_add_string(o, "mode", "RGB", e) ||
        json_add_doubles(o, "mean", p->mean, 3, e) || json_add_doubles(o, "std", p->std, 3, e) ||
        json_add_string(o, "interpolation", clip_resample_name(p->resample), e) ||
        json_add_string(o, "resize_mode", clip_fit_name(p->fit), e))
        return -1;
    return json_add_i64(o, "fill_color", p->fill, e);
}

cJSON *clip_config_to_open_clip(const struct clip_config *c, struct err *e)
{
    if (c->vision.act != c->text.act) {
        err_set(e, "open_clip's config cannot hold two activations: vision %s, text %s",
                clip_act_name(c->vision.act), clip_act_name(c->text.act));
        return NULL;
    }
    cJSON *j = keys_object(e);
    return j ? keys_finish(j, add_model(j, c, e) || add_preprocess(j, &c->preprocess, e)) : NULL;
}
