// SPDX-License-Identifier: Apache-2.0
// open_clip's config read: the keys of its CLIPVisionCfg, CLIPTextCfg and PreprocessCfg.
#include <math.h>
#include <string.h>

#include "config/keys.h"
#include "config/config.h"
#include "config/timm.h"
#include "formats/json.h"

int clip_mlp_width(int width, double ratio)
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

static int read_act(const cJSON *o, const char *where, enum clip_act *act, struct err *e)
{
    const char *form = "none";
    const struct key keys[] = {{"approximate", KEY_TEXT, &form}};
    if (!o)
        return 0;
    if (KEYS_READ(o, where, keys, NULL, e))
        return -1;
    bool tanh_form = strcmp(form, "tanh") == 0;
    if ((!tanh_form && strcmp(form, "none") != 0) || *act == CLIP_QUICK_GELU)
        return err_set(e, "%s: 'approximate' is '%.32s'%s", where, form,
                       *act == CLIP_QUICK_GELU ? ", which quick_gelu has not" : "");
    *act = tanh_form ? CLIP_TANH_GELU : CLIP_GELU;
    return 0;
}

// What vision_cfg says beyond sizes.
struct vision_keys {
    const cJSON *norm, *act, *layers, *attention;
    const char *pool, *pos, *block, *timm, *timm_pool, *timm_proj;
    int head_width;
    double ratio;
    bool norm_last, timm_bias;
};

// Rows of open_clip's own tower after its blocks.
static int set_pool(struct clip_tower *t, const struct vision_keys *k, struct err *e)
{
    const char *pool = k->pool ? k->pool : "tok";
    bool attention = k->attention && !cJSON_IsFalse(k->attention);
    if (attention && !cJSON_IsTrue(k->attention))
        return err_set(e, "vision_cfg: 'attentional_pool' is not true or false: no other is "
                          "implemented");
    if (strcmp(pool, "avg") == 0 && !attention)
        t->pool = CLIP_POOL_MEAN;
    else if (only("vision_cfg", "pool_type", pool, "tok", e))
        return -1;
    if (attention)
        t->pool = CLIP_POOL_QUERY;
    t->norm_first = t->pool == CLIP_POOL_MEAN && !k->norm_last;
    return 0;
}

static int set_timm(struct clip_config *c, const struct vision_keys *k, struct err *e)
{
    int image = c->image_size;
    if (clip_timm_tower(c, k->timm, k->timm_pool, e))
        return -1;
    if (image != c->image_size)
        return err_set(e, "vision_cfg: 'image_size' is %d, %s takes %d", image, k->timm,
                       c->image_size);
    const char *proj = c->vision.no_head ? "none" : c->vision.outer_head ? "linear" : "";
    const char *got = k->timm_proj ? k->timm_proj : "";
    if (strcmp(proj, got) != 0)
        return err_set(e, "vision_cfg: 'timm_proj' is '%.32s', for %s '%s' is implemented", got,
                       k->timm, proj);
    if (c->vision.outer_head)
        c->vision.head_bias = k->timm_bias;
    return 0;
}

static int read_vision(struct clip_config *c, const cJSON *o, struct err *e)
{
    struct clip_tower *t = &c->vision;
    struct vision_keys k = {.head_width = 64, .ratio = 4};
    int queries = 256, heads = 8;
    c->patch_size = 16;
    c->image_size = 224;
    t->layers = 12;
    t->width = 768;
    const struct key keys[] = {
        {"layers", KEY_VALUE, &k.layers},
        {"width", KEY_INT, &t->width},
        {"head_width", KEY_INT, &k.head_width},
        {"mlp_ratio", KEY_NUMBER, &k.ratio},
        {"patch_size", KEY_SIDE, &c->patch_size},
        {"image_size", KEY_SIDE, &c->image_size},
        {"ls_init_value", KEY_NUMBER, &t->ls_init},
        {"norm_kwargs", KEY_OBJECT, &k.norm},
        {"act_kwargs", KEY_OBJECT, &k.act},
        {"pool_type", KEY_TEXT, &k.pool},
        {"pos_embed_type", KEY_TEXT, &k.pos},
        {"block_type", KEY_TEXT, &k.block},
        {"final_ln_after_pool", KEY_BOOL, &k.norm_last},
        {"no_ln_pre", KEY_BOOL, &t->no_norm_pre},
        {"attentional_pool", KEY_VALUE, &k.attention},
        {"attn_pooler_queries", KEY_INT, &queries},
        {"attn_pooler_heads", KEY_INT, &heads},
        {"patch_dropout", KEY_NUMBER, &c->patch_dropout},
        {"input_patchnorm", KEY_OFF, NULL},
        {"global_average_pool", KEY_OFF, NULL},
        {"qk_norm", KEY_OFF, NULL},
        {"scaled_cosine_attn", KEY_OFF, NULL},
        {"scale_heads", KEY_OFF, NULL},
        {"scale_attn_inner", KEY_OFF, NULL},
        {"scale_attn", KEY_OFF, NULL},
        {"scale_fc", KEY_OFF, NULL},
        {"timm_model_name", KEY_TEXT, &k.timm},
        {"timm_pool", KEY_TEXT, &k.timm_pool},
        {"timm_proj", KEY_TEXT, &k.timm_proj},
        {"timm_proj_bias", KEY_BOOL, &k.timm_bias},
        {"output_tokens", KEY_ANY, NULL}, // more outputs, the same values
        {"n_queries", KEY_ANY, NULL},     // older names, which open_clip does not read
        {"attn_pooler_n_head", KEY_ANY, NULL},
        {"timm_model_pretrained", KEY_ANY, NULL}, // where first values come from
        {"timm_drop", KEY_ANY, NULL},             // training's
        {"timm_drop_path", KEY_ANY, NULL},
    };
    if (KEYS_READ(o, "vision_cfg", keys, NULL, e))
        return -1;
    if (k.timm)
        return set_timm(c, &k, e);
    if (cJSON_IsArray(k.layers))
        return err_set(e, "vision_cfg: a ResNet ('layers' is a list), not a transformer");
    if (k.layers && !key_whole(k.layers, &t->layers))
        return err_set(e, "vision_cfg: 'layers' is not a whole number");
    if (read_norm(k.norm, "norm_kwargs", &t->eps, e) ||
        read_act(k.act, "vision_cfg: act_kwargs", &t->act, e) ||
        only("vision_cfg", "block_type", k.block, "default", e) || set_pool(t, &k, e))
        return -1;
    // The table of either kind is in the file, and what is there counts.
    if (k.pos && strcmp(k.pos, "sin_cos_2d") != 0 &&
        only("vision_cfg", "pos_embed_type", k.pos, "learnable", e))
        return -1;
    if (k.head_width < 1 || k.head_width > t->width)
        return err_set(e, "vision_cfg: 'head_width' is %d, 'width' %d", k.head_width, t->width);
    t->heads = t->width / k.head_width;
    t->mlp = clip_mlp_width(t->width, k.ratio);
    t->pool_heads = t->pool == CLIP_POOL_QUERY ? heads : 0;
    t->pool_queries = t->pool == CLIP_POOL_QUERY ? queries : 0;
    return 0;
}

// open_clip's get_tokenizer: what stands beside the name of another tokenizer than CLIP's.
static int read_words(struct clip_words *w, const char *name, const cJSON *kwargs, struct err *e)
{
    const char *clean = name ? "whitespace" : NULL;
    const struct key keys[] = {
        {"clean", KEY_TEXT, &clean},
        {"strip_sep_token", KEY_BOOL, &w->strip_sep},
        {"language", KEY_OFF, NULL},
        {"context_length", KEY_OFF, NULL},
    };
    if (kwargs && KEYS_READ(kwargs, "tokenizer_kwargs", keys, NULL, e))
        return -1;
    if (!name)
        return kwargs && kwargs->child
                   ? err_set(e, "text_cfg: 'tokenizer_kwargs' without 'hf_tokenizer_name' is not "
                                "implemented")
                   : 0;
    w->canonicalize = strcmp(clean, "canonicalize") == 0;
    if (!w->canonicalize && only("tokenizer_kwargs", "clean", clean, "whitespace", e))
        return -1;
    if (strlen(name) >= sizeof w->name)
        return err_set(e, "text_cfg: 'hf_tokenizer_name' is too long");
    memcpy(w->name, name, strlen(name) + 1);
    return 0;
}

static int set_read(struct clip_config *c, const char *pool, int eos, struct err *e)
{
    bool end = strcmp(pool, "eos") == 0;
    c->eos_id = end ? eos : -1;
    if (strcmp(pool, "last") == 0)
        c->text.read = CLIP_READ_LAST;
    else if (strcmp(pool, "first") == 0)
        c->text.read = CLIP_READ_FIRST;
    else if (!end)
        return only("text_cfg", "pool_type", pool, "argmax", e);
    return 0;
}

static int read_text(struct clip_config *c, const cJSON *o, struct err *e)
{
    struct clip_tower *t = &c->text;
    const cJSON *norm = NULL, *act = NULL, *kwargs = NULL;
    const char *pool = "argmax", *proj = "linear", *block = NULL, *hf = NULL, *words = NULL;
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
        {"act_kwargs", KEY_OBJECT, &act},
        {"pool_type", KEY_TEXT, &pool},
        {"proj_type", KEY_TEXT, &proj},
        {"proj_bias", KEY_BOOL, &t->head_bias},
        {"block_type", KEY_TEXT, &block},
        {"eos_id", KEY_INT, &eos},
        {"no_causal_mask", KEY_BOOL, &t->no_mask},
        {"embed_cls", KEY_BOOL, &t->class_last},
        {"pad_id", KEY_INT, &t->pad_id},
        {"final_ln_after_pool", KEY_BOOL, &unused}, // the same for one row
        {"qk_norm", KEY_OFF, NULL},
        {"scaled_cosine_attn", KEY_OFF, NULL},
        {"scale_heads", KEY_OFF, NULL},
        {"scale_attn_inner", KEY_OFF, NULL},
        {"scale_attn", KEY_OFF, NULL},
        {"scale_fc", KEY_OFF, NULL},
        {"hf_model_name", KEY_TEXT, &hf},
        {"hf_tokenizer_name", KEY_TEXT, &words},
        {"tokenizer_kwargs", KEY_OBJECT, &kwargs},
        {"tokenizer_mode", KEY_OFF, NULL},
        {"text_mask", KEY_ANY, NULL},     // SLIP's way to cut captions, in training
        {"output_tokens", KEY_ANY, NULL}, // more outputs, the same values
        // read by open_clip only with hf_model_name
        {"hf_model_pretrained", KEY_ANY, NULL},
        {"hf_proj_type", KEY_ANY, NULL},
        {"hf_pooler_type", KEY_ANY, NULL},
        {"pooler_type", KEY_ANY, NULL},
        {"proj", KEY_ANY, NULL},
    };
    if (KEYS_READ(o, "text_cfg", keys, NULL, e))
        return -1;
    if (hf && *hf)
        return err_set(e,
                       "text_cfg: the text tower is Hugging Face's '%.64s', which is not "
                       "implemented",
                       hf);
    if (read_norm(norm, "norm_kwargs", &t->eps, e) ||
        read_act(act, "text_cfg: act_kwargs", &t->act, e) ||
        only("text_cfg", "block_type", block, "default", e) ||
        read_words(&c->words, words, kwargs, e) || set_read(c, pool, eos, e))
        return -1;
    t->no_head = strcmp(proj, "none") == 0;
    if (!t->no_head && only("text_cfg", "proj_type", proj, "linear", e))
        return -1;
    t->mlp = clip_mlp_width(t->width, ratio);
    return 0;
}

static int read_model(struct clip_config *c, const cJSON *o, struct err *e)
{
    const cJSON *vision = NULL, *text = NULL, *bias = NULL, *decoder = NULL;
    bool quick = false;
    const struct key keys[] = {
        {"embed_dim", KEY_INT, &c->embed_dim},
        {"vision_cfg", KEY_OBJECT, &vision},
        {"text_cfg", KEY_OBJECT, &text},
        {"quick_gelu", KEY_BOOL, &quick},
        {"custom_text", KEY_BOOL, &c->custom_text},
        {"init_logit_scale", KEY_NUMBER, &c->logit_scale},
        {"init_logit_bias", KEY_VALUE, &bias},
        {"multimodal_cfg", KEY_OBJECT, &decoder},
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
    c->unused_decoder = decoder; // CoCa's: captions are not written here
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
    clip_preprocess_family(c);
    if (pre)
        clip_preprocess_default(&c->preprocess, c->image_size);
    if (pre && read_preprocess(&c->preprocess, pre, e))
        return -1;
    return clip_config_check(c, e);
}
