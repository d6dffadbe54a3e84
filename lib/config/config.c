// SPDX-License-Identifier: Apache-2.0
#include "config/config.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/json.h"
#include "base/path.h"

size_t clip_config_picture_bytes(const struct clip_config *c)
{
    return (size_t)c->image_size * (size_t)c->image_size * 3;
}

size_t clip_image_positions(const struct clip_config *c, size_t keep)
{
    return keep ? keep + !c->vision.no_class : (size_t)clip_config_positions(c);
}

int clip_config_positions(const struct clip_config *c)
{
    return c->grid * c->grid + !c->vision.no_class;
}

int clip_config_text_positions(const struct clip_config *c)
{
    return c->context + c->text.class_last;
}

int clip_pool_width(const struct clip_config *c, enum clip_tower_id tower)
{
    const struct clip_tower *t = tower == CLIP_VISION ? &c->vision : &c->text;
    return t->pool == CLIP_POOL_QUERY ? c->embed_dim : t->width;
}

bool clip_tower_norm_last(const struct clip_tower *t)
{
    return t->pool != CLIP_POOL_MAP && !(t->pool == CLIP_POOL_MEAN && t->norm_first);
}

int clip_tower_blocks(const struct clip_tower *t)
{
    return t->layers + (t->pool == CLIP_POOL_MAP || t->pool == CLIP_POOL_QUERY);
}

const char *clip_act_name(enum clip_act a)
{
    return a == CLIP_QUICK_GELU ? "quick_gelu" : a == CLIP_TANH_GELU ? "gelu_pytorch_tanh" : "gelu";
}

const char *clip_resample_name(enum clip_resample r)
{
    return r == CLIP_BILINEAR ? "bilinear" : "bicubic";
}

const char *clip_fit_name(enum clip_fit f)
{
    return f == CLIP_SQUASH ? "squash" : f == CLIP_LONGEST ? "longest" : "shortest";
}

void clip_preprocess_default(struct clip_preprocess *p, int size)
{
    *p = (struct clip_preprocess){
        .size = size,
        .mean = {0.48145466, 0.4578275, 0.40821073},
        .std = {0.26862954, 0.26130258, 0.27577711},
        .resample = CLIP_BICUBIC,
        .fit = CLIP_SHORTEST,
    };
}

void clip_preprocess_family(struct clip_config *c)
{
    static const double half[3] = {0.5, 0.5, 0.5};
    static const double imagenet[2][3] = {{0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}};
    struct clip_preprocess *p = &c->preprocess;
    const struct clip_tower *t = &c->vision;
    bool map = t->pool == CLIP_POOL_MAP; // SigLIP, PE-Core
    bool clipa = t->pool == CLIP_POOL_MEAN && t->no_norm_pre && t->naming == CLIP_NAMED_OPEN_CLIP;
    clip_preprocess_default(p, c->image_size);
    if (map) {
        memcpy(p->mean, half, sizeof half);
        memcpy(p->std, half, sizeof half);
    } else if (clipa) {
        memcpy(p->mean, imagenet[0], sizeof p->mean);
        memcpy(p->std, imagenet[1], sizeof p->std);
    }
    if (map || clipa)
        p->fit = CLIP_SQUASH;
    if (clipa || (map && t->rope.grid > 0))
        p->resample = CLIP_BILINEAR;
    // MetaCLIP 2 of 378 pixels
    if (c->image_size == 378 && (c->eos_id == 1 || c->eos_id == 2))
        p->fit = CLIP_SQUASH;
}

// Limits far above any model, so that products of two sizes fit in 64 bits with room.
static int check_range(const char *what, int v, int max, struct err *e)
{
    return v >= 1 && v <= max ? 0 : err_set(e, "%s is %d, not in 1..%d", what, v, max);
}

static int check_tower(struct clip_tower *t, const char *name, struct err *e)
{
    if (check_range("layers", t->layers, 4096, e) || check_range("width", t->width, 1 << 16, e) ||
        check_range("heads", t->heads, t->width, e) || check_range("MLP width", t->mlp, 1 << 20, e))
        return err_wrap(e, "%s tower", name);
    if (t->width % t->heads)
        return err_set(e, "%s tower: width %d is not a multiple of %d heads", name, t->width,
                       t->heads);
    if (!(t->eps > 0 && t->eps < 1))
        return err_set(e, "%s tower: layer norm eps %g is not between 0 and 1", name, t->eps);
    if (!isfinite(t->ls_init) || t->ls_init < 0)
        return err_set(e, "%s tower: ls_init_value %g: layer scale starts above 0, 0 is none", name,
                       t->ls_init);
    t->head_width = t->width / t->heads;
    if (t->rope.grid > 0 && t->head_width % 4)
        return err_set(e, "%s tower: heads of %d cannot have a rotary embedding", name,
                       t->head_width);
    return 0;
}

static int check_pool(const struct clip_config *c, enum clip_tower_id id, struct err *e)
{
    const struct clip_tower *t = id == CLIP_VISION ? &c->vision : &c->text;
    const char *name = id == CLIP_VISION ? "vision" : "text";
    int width = clip_pool_width(c, id);
    if (t->no_head && c->embed_dim != width)
        return err_set(e, "%s tower: without projection embed_dim is its width %d, not %d", name,
                       width, c->embed_dim);
    if (clip_tower_blocks(t) == t->layers)
        return 0;
    if (check_range("pool's heads", t->pool_heads, width, e) ||
        check_range("pool's queries", t->pool == CLIP_POOL_QUERY ? t->pool_queries : 1, 1 << 16,
                    e) ||
        check_range("pool's MLP width", t->pool == CLIP_POOL_MAP ? t->pool_mlp : 1, 1 << 20, e))
        return err_wrap(e, "%s tower", name);
    if (width % t->pool_heads)
        return err_set(e, "%s tower: the pool's width %d is not a multiple of %d heads", name,
                       width, t->pool_heads);
    return 0;
}

static int check_preprocess(const struct clip_config *c, struct err *e)
{
    const struct clip_preprocess *p = &c->preprocess;
    if (p->size != c->image_size)
        return err_set(e, "preprocessing makes pictures of %d, the model takes %d", p->size,
                       c->image_size);
    for (int i = 0; i < 3; i++)
        if (!(fabs(p->mean[i]) < 1e6) || !(p->std[i] > 1e-6 && p->std[i] < 1e6))
            return err_set(e, "preprocessing: mean %g, std %g", p->mean[i], p->std[i]);
    if (p->fill < 0 || p->fill > 255)
        return err_set(e, "preprocessing: fill %d is not in 0..255", p->fill);
    return 0;
}

int clip_config_check(struct clip_config *c, struct err *e)
{
    if (check_range("embed_dim", c->embed_dim, 1 << 16, e) ||
        check_tower(&c->vision, "vision", e) || check_tower(&c->text, "text", e) ||
        check_pool(c, CLIP_VISION, e) || check_pool(c, CLIP_TEXT, e) ||
        check_range("image_size", c->image_size, 1 << 13, e) ||
        check_range("patch_size", c->patch_size, c->image_size, e) ||
        check_range("context_length", c->context, 1 << 16, e) ||
        check_range("vocab_size", c->vocab, 1 << 24, e) || check_preprocess(c, e))
        return -1;
    if (c->eos_id < -1 || c->eos_id >= c->vocab)
        return err_set(e, "eos_id %d is not in the vocabulary", c->eos_id);
    if (!isfinite(c->logit_scale) || !isfinite(c->logit_bias))
        return err_set(e, "first logit scale or bias is not a number");
    c->grid = c->image_size / c->patch_size;
    if (c->eos_id == c->vocab - 1) // the same row: no id is larger
        c->eos_id = -1;
    return 0;
}

int clip_config_read_file(struct clip_config *c, const char *path, struct err *e)
{
    cJSON *j = json_read_file(path, NULL, e);
    if (!j)
        return -1;
    bool hf = cJSON_GetObjectItemCaseSensitive(j, "model_type") != NULL;
    int rc = hf ? clip_config_from_hf(c, j, NULL, NULL, e) : clip_config_from_open_clip(c, j, e);
    cJSON_Delete(j);
    return rc ? err_wrap(e, "%s", path) : 0;
}

// The file parsed. 1; 0: not there, *out NULL; -1.
static int read_if_there(const char *folder, const char *name, cJSON **out, struct err *e)
{
    *out = NULL;
    char *path = path_new(folder, name, e);
    if (!path)
        return -1;
    int rc = 0;
    if (access(path, F_OK) == 0)
        rc = (*out = json_read_file(path, NULL, e)) ? 1 : -1;
    else if (errno != ENOENT)
        rc = err_errno(e, "%s", path);
    free(path);
    return rc;
}

static int read_hf_folder(struct clip_config *c, const char *folder, struct err *e)
{
    cJSON *config, *pre = NULL, *processor = NULL;
    int rc = read_if_there(folder, "config.json", &config, e);
    if (rc < 0)
        return -1;
    if (!rc)
        return err_set(e, "%s: no open_clip_config.json and no config.json", folder);
    rc = read_if_there(folder, "preprocessor_config.json", &pre, e);
    if (rc >= 0)
        rc = read_if_there(folder, "processor_config.json", &processor, e);
    if (rc >= 0 && (rc = clip_config_from_hf(c, config, pre, processor, e)))
        err_wrap(e, "%s", folder);
    cJSON_Delete(config);
    cJSON_Delete(pre);
    cJSON_Delete(processor);
    return rc < 0 ? -1 : 0;
}

static int same_act(const cJSON *hf, const char *part, enum clip_act act, struct err *e)
{
    const cJSON *o = cJSON_GetObjectItemCaseSensitive(hf, part);
    const cJSON *a = cJSON_GetObjectItemCaseSensitive(o, "hidden_act");
    if (cJSON_IsString(a) && strcmp(a->valuestring, clip_act_name(act)) != 0)
        return err_set(e,
                       "open_clip_config.json says quick_gelu %s, config.json's %s says hidden_act "
                       "'%.32s'",
                       act == CLIP_QUICK_GELU ? "true" : "false", part, a->valuestring);
    return 0;
}

// A folder with both configs holds one set of weights: if they disagree on the activation, one of
// them gives wrong embeddings without any other sign.
static int check_other(const struct clip_config *c, const char *folder, struct err *e)
{
    cJSON *hf;
    int rc = read_if_there(folder, "config.json", &hf, e);
    if (rc <= 0)
        return rc;
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(hf, "model_type");
    rc = 0;
    if (cJSON_IsString(type) && strcmp(type->valuestring, "clip") == 0)
        rc = same_act(hf, "text_config", c->text.act, e) ||
                     same_act(hf, "vision_config", c->vision.act, e)
                 ? err_wrap(e, "%s", folder)
                 : 0;
    cJSON_Delete(hf);
    return rc;
}

int clip_config_read_folder(struct clip_config *c, const char *folder, struct err *e)
{
    cJSON *j;
    int rc = read_if_there(folder, "open_clip_config.json", &j, e);
    if (rc < 0)
        return -1;
    if (!rc)
        return read_hf_folder(c, folder, e);
    rc = clip_config_from_open_clip(c, j, e);
    cJSON_Delete(j);
    if (rc)
        return err_wrap(e, "%s/open_clip_config.json", folder);
    return check_other(c, folder, e);
}
