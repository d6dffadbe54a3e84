// SPDX-License-Identifier: Apache-2.0
// open_clip's config written: keys with their defaults are left out.
#include <math.h>

#include "config/keys.h"
#include "config/config.h"
#include "config/timm.h"
#include "formats/json.h"

// A ratio that gives `mlp` back when it is multiplied and cut.
static double mlp_ratio(const struct clip_tower *t)
{
    double r = (double)t->mlp / t->width;
    while (clip_mlp_width(t->width, r) < t->mlp)
        r = nextafter(r, INFINITY);
    return r;
}

static int add_tower(cJSON *o, const struct clip_tower *t, struct err *e)
{
    cJSON *norm, *act;
    if (json_add_i64(o, "width", t->width, e) || json_add_i64(o, "layers", t->layers, e))
        return -1;
    if (t->mlp != 4 * t->width && json_add_double(o, "mlp_ratio", mlp_ratio(t), e))
        return -1;
    if (t->ls_init != 0 && json_add_double(o, "ls_init_value", t->ls_init, e))
        return -1;
    if (t->act == CLIP_TANH_GELU && (!(act = json_add_object(o, "act_kwargs", e)) ||
                                     json_add_string(act, "approximate", "tanh", e)))
        return -1;
    if (t->eps == 1e-5)
        return 0;
    norm = json_add_object(o, "norm_kwargs", e);
    return norm ? json_add_double(norm, "eps", t->eps, e) : -1;
}

static int add_pool(cJSON *o, const struct clip_tower *t, struct err *e)
{
    if (t->no_norm_pre && json_add_bool(o, "no_ln_pre", true, e))
        return -1;
    if (t->pool == CLIP_POOL_QUERY)
        return json_add_bool(o, "attentional_pool", true, e) ||
                       json_add_i64(o, "attn_pooler_queries", t->pool_queries, e) ||
                       json_add_i64(o, "attn_pooler_heads", t->pool_heads, e)
                   ? -1
                   : 0;
    if (t->pool != CLIP_POOL_MEAN)
        return 0;
    return json_add_string(o, "pool_type", "avg", e) ||
                   (!t->norm_first && json_add_bool(o, "final_ln_after_pool", true, e))
               ? -1
               : 0;
}

static int add_timm(cJSON *o, const struct clip_config *c, struct err *e)
{
    const char *name = clip_timm_name(c);
    const char *proj = c->vision.no_head ? "none" : c->vision.outer_head ? "linear" : NULL;
    if (json_add_string(o, "timm_model_name", name, e) ||
        json_add_bool(o, "timm_model_pretrained", false, e) ||
        json_add_string(o, "timm_pool", clip_timm_pool(c), e))
        return -1;
    if (proj && json_add_string(o, "timm_proj", proj, e))
        return -1;
    if (c->vision.outer_head && c->vision.head_bias)
        return json_add_bool(o, "timm_proj_bias", true, e);
    return proj || cJSON_AddNullToObject(o, "timm_proj") ? 0 : err_set(e, "out of memory");
}

static int add_vision(cJSON *m, const struct clip_config *c, struct err *e)
{
    cJSON *o = json_add_object(m, "vision_cfg", e);
    if (!o || json_add_i64(o, "image_size", c->image_size, e))
        return -1;
    if (c->patch_dropout != 0 && json_add_double(o, "patch_dropout", c->patch_dropout, e))
        return -1;
    if (c->vision.naming != CLIP_NAMED_OPEN_CLIP)
        return add_timm(o, c, e);
    if (json_add_i64(o, "patch_size", c->patch_size, e) || add_tower(o, &c->vision, e) ||
        json_add_i64(o, "head_width", c->vision.head_width, e))
        return -1;
    return add_pool(o, &c->vision, e);
}

static int add_words(cJSON *o, const struct clip_words *w, struct err *e)
{
    cJSON *k;
    if (!*w->name)
        return 0;
    if (json_add_string(o, "hf_tokenizer_name", w->name, e))
        return -1;
    if (!w->canonicalize && !w->strip_sep)
        return 0;
    if (!(k = json_add_object(o, "tokenizer_kwargs", e)) ||
        (w->canonicalize && json_add_string(k, "clean", "canonicalize", e)))
        return -1;
    return w->strip_sep ? json_add_bool(k, "strip_sep_token", true, e) : 0;
}

static int add_read(cJSON *o, const struct clip_config *c, struct err *e)
{
    const struct clip_tower *t = &c->text;
    if ((t->no_mask && json_add_bool(o, "no_causal_mask", true, e)) ||
        (t->head_bias && json_add_bool(o, "proj_bias", true, e)) ||
        (t->no_head && json_add_string(o, "proj_type", "none", e)))
        return -1;
    if (t->class_last)
        return json_add_bool(o, "embed_cls", true, e) || json_add_i64(o, "pad_id", t->pad_id, e)
                   ? -1
                   : 0;
    if (t->read != CLIP_READ_END)
        return json_add_string(o, "pool_type", t->read == CLIP_READ_LAST ? "last" : "first", e);
    if (c->eos_id < 0)
        return 0;
    return json_add_string(o, "pool_type", "eos", e) || json_add_i64(o, "eos_id", c->eos_id, e) ? -1
                                                                                                : 0;
}

static int add_text(cJSON *m, const struct clip_config *c, struct err *e)
{
    cJSON *o = json_add_object(m, "text_cfg", e);
    if (!o || json_add_i64(o, "context_length", c->context, e) ||
        json_add_i64(o, "vocab_size", c->vocab, e) || add_tower(o, &c->text, e) ||
        json_add_i64(o, "heads", c->text.heads, e))
        return -1;
    return add_words(o, &c->words, e) || add_read(o, c, e) ? -1 : 0;
}

static int add_model(cJSON *j, const struct clip_config *c, struct err *e)
{
    cJSON *m = json_add_object(j, "model_cfg", e);
    if (!m || json_add_i64(m, "embed_dim", c->embed_dim, e))
        return -1;
    if (c->text.act == CLIP_QUICK_GELU && json_add_bool(m, "quick_gelu", true, e))
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

int clip_config_fits_open_clip(const struct clip_config *c, struct err *e)
{
    bool own = c->vision.naming == CLIP_NAMED_OPEN_CLIP; // quick_gelu never reaches timm's
    if (own && (c->vision.act == CLIP_QUICK_GELU) != (c->text.act == CLIP_QUICK_GELU))
        return err_set(e, "open_clip's config cannot hold two activations: vision %s, text %s",
                       clip_act_name(c->vision.act), clip_act_name(c->text.act));
    if (!own && !clip_timm_name(c))
        return err_set(e, "open_clip knows no tower of timm of these sizes");
    return 0;
}

cJSON *clip_config_to_open_clip(const struct clip_config *c, struct err *e)
{
    cJSON *j = clip_config_fits_open_clip(c, e) ? NULL : keys_object(e);
    return j ? keys_finish(j, add_model(j, c, e) || add_preprocess(j, &c->preprocess, e)) : NULL;
}

cJSON *clip_config_to_any(const struct clip_config *c, struct err *e)
{
    struct err why;
    return clip_config_fits_open_clip(c, &why) ? clip_config_to_hf(c, -1, e)
                                               : clip_config_to_open_clip(c, e);
}
