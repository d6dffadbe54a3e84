// SPDX-License-Identifier: Apache-2.0
// Hugging Face's CLIPImageProcessor in its forms: the slow one's preprocessor_config.json, the fast
// one's, with its keys about devices and layouts, and the same inside processor_config.json as
// transformers 5 saves it.
#include "config/processor.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "config/keys.h"
#include "formats/json.h"

// Keys that change no pixel: which device, which layout, what class wrote the file.
static const char *const ignored[] = {
    "_processor_class",       "_valid_processor_keys", "data_format", "device",
    "disable_grouping",       "do_convert_rgb",                    // pictures are RGB already
    "feature_extractor_type", "input_data_format",     "pad_size", // read with do_pad only
    "processor_class",        "return_tensors",        NULL,
};

static bool is_clip_type(const char *type)
{
    static const char *const types[] = {"CLIPImageProcessor", "CLIPImageProcessorFast",
                                        "CLIPImageProcessorPil", "CLIPFeatureExtractor"};
    for (size_t i = 0; type && i < sizeof types / sizeof *types; i++)
        if (strcmp(type, types[i]) == 0)
            return true;
    return !type;
}

// A size: n, [n, n], {"shortest_edge": n} (*edge set) or {"height": n, "width": n}. *edge comes in
// as what a plain n means.
static int read_size(const cJSON *v, const char *where, const char *name, int *out, bool *edge,
                     struct err *e)
{
    int h = -1, w = -1, s = -1;
    const struct key keys[] = {
        {"shortest_edge", KEY_INT, &s}, {"height", KEY_INT, &h},
        {"width", KEY_INT, &w},         {"longest_edge", KEY_OFF, NULL},
        {"max_height", KEY_OFF, NULL},  {"max_width", KEY_OFF, NULL},
    };
    if (cJSON_IsObject(v)) {
        if (KEYS_READ(v, name, keys, NULL, e))
            return err_wrap(e, "%s", where);
    } else if (cJSON_IsArray(v) && cJSON_GetArraySize(v) == 2) {
        if (!key_whole(v->child, &h) || !key_whole(v->child->next, &w))
            return err_set(e, "%s: '%s' is not a size", where, name);
    } else if (!key_whole(v, *edge ? &s : &h)) {
        return err_set(e, "%s: '%s' is not a size", where, name);
    } else if (!*edge) {
        w = h;
    }
    *edge = s >= 0;
    *out = *edge ? s : h;
    if (*edge ? h >= 0 || w >= 0 : h < 0 || h != w)
        return err_set(e, "%s: '%s' is not a square or a shortest edge", where, name);
    return 0;
}

// SiglipImageProcessor squashes to a square and crops nothing; its files say the size only.
static bool is_siglip_type(const char *type)
{
    return type && strncmp(type, "SiglipImageProcessor", 20) == 0;
}

struct fit {
    const cJSON *size, *crop_size;
    bool crop, square, default_square;
};

static int read_fit(struct clip_preprocess *p, const struct fit *f, const char *where,
                    struct err *e)
{
    bool edge = !f->default_square, crop_edge = false;
    int n = p->size, crop_n = p->size;
    if (f->size && read_size(f->size, where, "size", &n, &edge, e))
        return -1;
    if (!f->size)
        edge = true;
    if (f->square) // of transformers 4.36 to 4.40: the shortest edge is meant for both sides
        edge = false;
    if (f->crop && f->crop_size &&
        read_size(f->crop_size, where, "crop_size", &crop_n, &crop_edge, e))
        return -1;
    if (edge && !f->crop)
        return err_set(e, "%s: 'do_center_crop' false leaves pictures that are not square", where);
    if (f->crop && crop_n != n)
        return err_set(e, "%s: 'size' %d and 'crop_size' %d differ: not implemented", where, n,
                       crop_n);
    p->size = n;
    p->fit = edge ? CLIP_SHORTEST : CLIP_SQUASH;
    return 0;
}

// Pillow's number, or the filter's name.
static int read_resample(struct clip_preprocess *p, const cJSON *v, const char *where,
                         struct err *e)
{
    int n = 3; // bicubic
    if (cJSON_IsString(v))
        n = strcasecmp(v->valuestring, "bicubic") == 0    ? 3
            : strcasecmp(v->valuestring, "bilinear") == 0 ? 2
                                                          : -1;
    else if (v && !key_whole(v, &n))
        n = -1;
    if (n < 0 && cJSON_IsString(v))
        return err_set(e, "%s: 'resample' is '%.32s', not bicubic or bilinear", where,
                       v->valuestring);
    if (n != 3 && n != 2)
        return err_set(e, "%s: 'resample' is not bicubic (3) or bilinear (2)", where);
    p->resample = n == 2 ? CLIP_BILINEAR : CLIP_BICUBIC;
    return 0;
}

struct scale {
    bool rescale, normalize;
    double factor;
};

// (u8 factor - mean) / std, each part only where asked for, as (u8 / 255 - mean) / std.
static int read_scale(struct clip_preprocess *p, const struct scale *s, const char *where,
                      struct err *e)
{
    double factor = s->rescale ? s->factor : 1;
    if (!(factor > 0 && factor <= 1))
        return err_set(e, "%s: 'rescale_factor' %g is not over 0 and at most 1", where, factor);
    double k = fabs(factor * 255 - 1) < 1e-9 ? 1 : 1 / (255 * factor);
    for (int i = 0; i < 3; i++) {
        p->mean[i] = s->normalize ? p->mean[i] * k : 0;
        p->std[i] = s->normalize ? p->std[i] * k : k;
    }
    return 0;
}

// Another class has other defaults, and other ideas of what a plain size means: then the file must
// say all of it.
static int check_type(const char *type, const cJSON *j, const char *where, struct err *e)
{
    static const char *const must[] = {"size", "image_mean", "image_std", "resample"};
    bool known = is_clip_type(type) || is_siglip_type(type);
    for (size_t i = 0; !known && i < sizeof must / sizeof *must; i++) {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(j, must[i]);
        if (!v || cJSON_IsNull(v) || (i == 0 && cJSON_IsNumber(v)))
            return err_set(e, "%s: 'image_processor_type' is '%.48s', whose '%s' is not known here",
                           where, type, must[i]);
    }
    return 0;
}

static int read_one(struct clip_preprocess *p, const cJSON *j, const char *where, struct err *e)
{
    struct fit fit = {.crop = true};
    struct scale scale = {true, true, 1 / 255.0};
    bool resize = true;
    const cJSON *resample = NULL;
    const char *type = NULL;
    const struct key keys[] = {
        {"size", KEY_VALUE, &fit.size},
        {"crop_size", KEY_VALUE, &fit.crop_size},
        {"default_to_square", KEY_BOOL, &fit.default_square},
        {"use_square_size", KEY_BOOL, &fit.square},
        {"do_center_crop", KEY_BOOL, &fit.crop},
        {"do_normalize", KEY_BOOL, &scale.normalize},
        {"do_rescale", KEY_BOOL, &scale.rescale},
        {"do_resize", KEY_BOOL, &resize},
        {"do_pad", KEY_OFF, NULL},
        {"image_mean", KEY_TRIPLE, p->mean},
        {"image_std", KEY_TRIPLE, p->std},
        {"resample", KEY_VALUE, &resample},
        {"rescale_factor", KEY_NUMBER, &scale.factor},
        {"image_processor_type", KEY_TEXT, &type},
        {"size_divisor", KEY_OFF, NULL},
        {"crop_pct", KEY_OFF, NULL},
        {"do_flip_channel_order", KEY_OFF, NULL},
    };
    if (KEYS_READ(j, where, keys, ignored, e) || check_type(type, j, where, e))
        return -1;
    if (is_siglip_type(type)) {
        const cJSON *crop = cJSON_GetObjectItemCaseSensitive(j, "do_center_crop");
        fit.crop = cJSON_IsTrue(crop);
        fit.default_square = true;
    }
    if (!resize)
        return err_set(e, "%s: 'do_resize' false is not implemented", where);
    p->given = true;
    return read_resample(p, resample, where, e) || read_scale(p, &scale, where, e) ||
                   read_fit(p, &fit, where, e)
               ? -1
               : 0;
}

static bool same(const struct clip_preprocess *a, const struct clip_preprocess *b)
{
    for (int i = 0; i < 3; i++)
        if (a->mean[i] != b->mean[i] || a->std[i] != b->std[i])
            return false;
    return a->size == b->size && a->resample == b->resample && a->fit == b->fit;
}

int clip_processor_read(struct clip_preprocess *p, const cJSON *preprocessor,
                        const cJSON *processor, struct err *e)
{
    static const char old_file[] = "preprocessor_config.json";
    static const char new_file[] = "processor_config.json: image_processor";
    struct clip_preprocess first = *p;
    // Before transformers 5 the file was about other things, and without this key.
    const cJSON *inner = cJSON_GetObjectItemCaseSensitive(processor, "image_processor");
    bool both = preprocessor && inner && !cJSON_IsNull(inner);
    if (preprocessor && read_one(p, preprocessor, old_file, e))
        return -1;
    if (!inner || cJSON_IsNull(inner))
        return 0;
    if (both)
        first = *p, clip_preprocess_default(p, first.size);
    if (read_one(p, inner, new_file, e))
        return -1;
    if (both && !same(&first, p))
        return err_set(e, "preprocessor_config.json and processor_config.json say that pictures "
                          "are prepared in two ways: keep the right one of them");
    return 0;
}

static int add_pair(cJSON *j, const char *name, int n, struct err *e)
{
    cJSON *o = json_add_object(j, name, e);
    return !o || json_add_i64(o, "height", n, e) || json_add_i64(o, "width", n, e) ? -1 : 0;
}

static int add_preprocessor(cJSON *j, const struct clip_config *c, struct err *e)
{
    const struct clip_preprocess *p = &c->preprocess;
    bool squash = p->fit == CLIP_SQUASH, siglip = squash && clip_config_is_siglip(c);
    cJSON *size = NULL;
    if (json_add_string(j, "image_processor_type",
                        siglip ? "SiglipImageProcessor" : "CLIPImageProcessor", e) ||
        json_add_bool(j, "do_resize", true, e) ||
        (!siglip && (json_add_bool(j, "do_center_crop", !squash, e) ||
                     add_pair(j, "crop_size", p->size, e))) ||
        json_add_bool(j, "do_rescale", true, e) || json_add_bool(j, "do_normalize", true, e) ||
        json_add_bool(j, "do_convert_rgb", true, e) ||
        json_add_i64(j, "resample", p->resample == CLIP_BILINEAR ? 2 : 3, e) ||
        json_add_double(j, "rescale_factor", 1 / 255.0, e) ||
        json_add_doubles(j, "image_mean", p->mean, 3, e) ||
        json_add_doubles(j, "image_std", p->std, 3, e))
        return -1;
    if (squash)
        return add_pair(j, "size", p->size, e);
    size = json_add_object(j, "size", e);
    return size ? json_add_i64(size, "shortest_edge", p->size, e) : -1;
}

cJSON *clip_config_to_hf_preprocessor(const struct clip_config *c, struct err *e)
{
    cJSON *j = clip_config_fits_hf(c, e) ? NULL : keys_object(e);
    return j ? keys_finish(j, add_preprocessor(j, c, e)) : NULL;
}
