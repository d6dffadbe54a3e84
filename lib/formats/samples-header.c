// SPDX-License-Identifier: Apache-2.0
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/json.h"
#include "base/mem.h"
#include "formats/samples-format.h"

static const char *const status_names[SAMPLE_N_STATUS] = {
    [SAMPLE_OK] = "ok",
    [SAMPLE_BAD_IMAGE] = "bad-image",
    [SAMPLE_NO_IMAGE] = "no-image",
    [SAMPLE_NO_CAPTION] = "no-caption",
    [SAMPLE_BAD_UTF8] = "bad-utf8",
    [SAMPLE_BAD_JSON] = "bad-json",
    [SAMPLE_DUPLICATE_KEY] = "duplicate-key",
    [SAMPLE_OVERSIZE] = "oversize",
    [SAMPLE_NOT_KEPT] = "not-kept",
    [SAMPLE_NOT_SELECTED] = "not-selected",
    [SAMPLE_NO_FIELD] = "no-field",
};

static const char *const images_names[] = {
    [SAMPLES_NO_IMAGES] = "no",
    [SAMPLES_PIXELS] = "yes",
    [SAMPLES_RAW] = "raw",
};

const char *sample_status_name(enum sample_status s)
{
    return (unsigned)s < SAMPLE_N_STATUS ? status_names[s] : "unknown";
}

int sample_status_of(const char *name)
{
    for (int i = 0; i < SAMPLE_N_STATUS; i++)
        if (strcmp(name, status_names[i]) == 0)
            return i;
    return -1;
}

void samples_header_init(struct samples_header *h, const char *tool)
{
    *h = (struct samples_header){
        .images = SAMPLES_PIXELS,
        .captions = true,
        .size = 224,
        .resize = "shortest",
        .crop = "center",
        .interpolation = "bicubic",
        .scale_min = 1,
        .scale_max = 1,
        .limit = UINT64_MAX,
        .n_parts = 1,
        .version = CLIPCID_VERSION,
    };
    snprintf(h->tool, sizeof h->tool, "%s", tool);
}

static int add_format(cJSON *o, const struct samples_header *h, struct err *e)
{
    if (json_add_string(o, "images", images_names[h->images], e) ||
        json_add_bool(o, "captions", h->captions, e))
        return -1;
    if (h->images != SAMPLES_PIXELS)
        return 0;
    if (json_add_u64(o, "size", h->size, e) || json_add_string(o, "resize", h->resize, e) ||
        json_add_string(o, "crop", h->crop, e) ||
        json_add_string(o, "interpolation", h->interpolation, e) ||
        json_add_doubles(o, "scale", (double[]){h->scale_min, h->scale_max}, 2, e) ||
        json_add_bool(o, "flip", h->flip, e) || json_add_bool(o, "fast", h->fast, e))
        return -1;
    if (h->ratio_max > 0 &&
        json_add_doubles(o, "ratio", (double[]){h->ratio_min, h->ratio_max}, 2, e))
        return -1;
    if (h->jitter_prob > 0 && (json_add_doubles(o, "jitter", h->jitter, 4, e) ||
                               json_add_double(o, "jitter_prob", h->jitter_prob, e)))
        return -1;
    if (h->gray > 0 && json_add_double(o, "gray", h->gray, e))
        return -1;
    if (h->white && json_add_bool(o, "white", true, e))
        return -1;
    if (!h->has_norm)
        return 0;
    return json_add_doubles(o, "mean", h->mean, 3, e) || json_add_doubles(o, "std", h->std, 3, e)
               ? -1
               : 0;
}

static int add_origin(cJSON *o, const struct samples_header *h, struct err *e)
{
    if (json_add_string(o, "tool", h->tool, e) || json_add_string(o, "version", h->version, e) ||
        json_add_u64(o, "seed", h->seed, e) || json_add_u64(o, "epoch", h->epoch, e) ||
        (h->has_view && json_add_u64(o, "view", h->view, e)) ||
        json_add_u64(o, "shuffle", h->shuffle, e) || json_add_u64(o, "skip", h->skip, e))
        return -1;
    if (h->limit != UINT64_MAX && json_add_u64(o, "limit", h->limit, e))
        return -1;
    return json_add_u64(o, "part", h->part, e) || json_add_u64(o, "parts", h->n_parts, e) ||
                   json_add_bool(o, "keep", h->keep, e)
               ? -1
               : 0;
}

char *samples_header_text(const struct samples_header *h, struct err *e)
{
    if (samples_header_check(h, e))
        return NULL;
    cJSON *o = cJSON_CreateObject();
    if (!o) {
        err_set(e, "out of memory");
        return NULL;
    }
    char *s = add_format(o, h, e) || add_origin(o, h, e) ? NULL : json_text(o, false, e);
    cJSON_Delete(o);
    return s;
}

static int get_word(const cJSON *o, const char *name, enum json_need need, char out[SAMPLES_NAME],
                    struct err *e)
{
    const char *s;
    int rc = json_string(o, name, need, &s, e);
    if (rc <= 0)
        return rc;
    if (strlen(s) >= SAMPLES_NAME)
        return err_set(e, "'%s' is too long", name);
    strcpy(out, s);
    return 0;
}

static int get_images(struct samples_header *h, const cJSON *o, struct err *e)
{
    const char *s;
    if (json_string(o, "images", JSON_REQUIRED, &s, e) < 0)
        return -1;
    for (size_t i = 0; i < sizeof images_names / sizeof *images_names; i++)
        if (strcmp(s, images_names[i]) == 0) {
            h->images = (enum samples_images)i;
            return 0;
        }
    return err_set(e, "unknown 'images' '%.40s'", s);
}

static int get_format(struct samples_header *h, const cJSON *o, struct err *e)
{
    int64_t size = 0;
    double scale[2] = {1, 1}, ratio[2] = {0, 0};
    if (get_images(h, o, e) || json_bool(o, "captions", JSON_REQUIRED, &h->captions, e) < 0)
        return -1;
    if (h->images != SAMPLES_PIXELS)
        return 0;
    if (json_int(o, "size", JSON_REQUIRED, 1, SAMPLES_MAX_SIZE, &size, e) < 0 ||
        get_word(o, "resize", JSON_REQUIRED, h->resize, e) ||
        get_word(o, "crop", JSON_REQUIRED, h->crop, e) ||
        get_word(o, "interpolation", JSON_REQUIRED, h->interpolation, e) ||
        json_doubles(o, "scale", JSON_OPTIONAL, scale, 2, e) < 0 ||
        json_doubles(o, "ratio", JSON_OPTIONAL, ratio, 2, e) < 0 ||
        json_doubles(o, "jitter", JSON_OPTIONAL, h->jitter, 4, e) < 0 ||
        json_double(o, "jitter_prob", JSON_OPTIONAL, &h->jitter_prob, e) < 0 ||
        json_double(o, "gray", JSON_OPTIONAL, &h->gray, e) < 0 ||
        json_bool(o, "flip", JSON_OPTIONAL, &h->flip, e) < 0 ||
        json_bool(o, "fast", JSON_OPTIONAL, &h->fast, e) < 0 ||
        json_bool(o, "white", JSON_OPTIONAL, &h->white, e) < 0)
        return -1;
    h->size = (uint32_t)size;
    h->scale_min = scale[0];
    h->scale_max = scale[1];
    h->ratio_min = ratio[0];
    h->ratio_max = ratio[1];
    int mean = json_doubles(o, "mean", JSON_OPTIONAL, h->mean, 3, e);
    int std = mean < 0 ? -1 : json_doubles(o, "std", JSON_OPTIONAL, h->std, 3, e);
    if (std < 0)
        return -1;
    h->has_norm = mean && std;
    return mean == std ? 0 : err_set(e, "'mean' and 'std' go together");
}

static int get_origin(struct samples_header *h, const cJSON *o, struct err *e)
{
    h->limit = UINT64_MAX;
    h->n_parts = 1;
    int view = json_u64(o, "view", JSON_OPTIONAL, &h->view, e);
    if (view < 0)
        return -1;
    h->has_view = view;
    return get_word(o, "tool", JSON_OPTIONAL, h->tool, e) ||
                   get_word(o, "version", JSON_OPTIONAL, h->version, e) ||
                   json_u64(o, "seed", JSON_OPTIONAL, &h->seed, e) < 0 ||
                   json_u64(o, "epoch", JSON_OPTIONAL, &h->epoch, e) < 0 ||
                   json_u64(o, "shuffle", JSON_OPTIONAL, &h->shuffle, e) < 0 ||
                   json_u64(o, "skip", JSON_OPTIONAL, &h->skip, e) < 0 ||
                   json_u64(o, "limit", JSON_OPTIONAL, &h->limit, e) < 0 ||
                   json_u64(o, "part", JSON_OPTIONAL, &h->part, e) < 0 ||
                   json_u64(o, "parts", JSON_OPTIONAL, &h->n_parts, e) < 0 ||
                   json_bool(o, "keep", JSON_OPTIONAL, &h->keep, e) < 0
               ? -1
               : 0;
}

int samples_header_parse(struct samples_header *h, const char *text, size_t n, struct err *e)
{
    *h = (struct samples_header){0};
    cJSON *o = json_parse(text, n, &(struct json_limits){.bytes = SAMPLES_MAX_JSON, .depth = 8}, e);
    if (!o)
        return -1;
    int rc = cJSON_IsObject(o) ? 0 : err_set(e, "not a JSON object");
    rc = rc || get_format(h, o, e) || get_origin(h, o, e) ? -1 : 0;
    cJSON_Delete(o);
    return rc || samples_header_check(h, e) ? -1 : 0;
}

static bool is_word(const char *s)
{
    size_t n = strnlen(s, SAMPLES_NAME);
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)s[i]) && !strchr("-._+~", s[i]))
            return false;
    return n < SAMPLES_NAME;
}

int samples_header_check(const struct samples_header *h, struct err *e)
{
    const char *const words[] = {h->tool, h->version, h->resize, h->crop, h->interpolation};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!is_word(words[i]))
            return err_set(e, "'%.*s' is not a short word", SAMPLES_NAME, words[i]);
    if (h->images == SAMPLES_PIXELS && (h->size == 0 || h->size > SAMPLES_MAX_SIZE))
        return err_set(e, "pictures of %u pixels; from 1 to %d are taken", h->size,
                       SAMPLES_MAX_SIZE);
    if (h->images != SAMPLES_PIXELS && h->size)
        return err_set(e, "a size, but no pixels");
    if (h->n_parts == 0 || h->part >= h->n_parts)
        return err_set(e, "part %llu of %llu", (unsigned long long)h->part,
                       (unsigned long long)h->n_parts);
    return 0;
}

static int differs(struct err *e, const char *what)
{
    return err_set(e, "its '%s' differs from that of the stream before it", what);
}

int samples_same_format(const struct samples_header *a, const struct samples_header *b,
                        struct err *e)
{
    if (a->images != b->images)
        return differs(e, "images");
    if (a->captions != b->captions)
        return differs(e, "captions");
    if (a->size != b->size)
        return differs(e, "size");
    if (strcmp(a->resize, b->resize))
        return differs(e, "resize");
    if (strcmp(a->crop, b->crop))
        return differs(e, "crop");
    if (strcmp(a->interpolation, b->interpolation))
        return differs(e, "interpolation");
    if (a->scale_min != b->scale_min || a->scale_max != b->scale_max)
        return differs(e, "scale");
    if (a->ratio_min != b->ratio_min || a->ratio_max != b->ratio_max)
        return differs(e, "ratio");
    for (int i = 0; i < 4; i++)
        if (a->jitter[i] != b->jitter[i])
            return differs(e, "jitter");
    if (a->jitter_prob != b->jitter_prob)
        return differs(e, "jitter_prob");
    if (a->gray != b->gray)
        return differs(e, "gray");
    if (a->flip != b->flip)
        return differs(e, "flip");
    if (a->fast != b->fast)
        return differs(e, "fast");
    if (a->white != b->white)
        return differs(e, "white");
    for (int i = 0; i < 3; i++)
        if (a->has_norm != b->has_norm || a->mean[i] != b->mean[i] || a->std[i] != b->std[i])
            return differs(e, "mean' or 'std");
    return 0;
}

void samples_digest_pack(const char *hex, uint8_t out[16])
{
    for (int i = 0; i < 16; i++) {
        unsigned v = 0;
        for (int j = 0; j < 2; j++) {
            char c = hex[2 * i + j];
            v = v * 16 + (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
        }
        out[i] = (uint8_t)v;
    }
}

void samples_digest_unpack(const uint8_t in[16], char hex[DIGEST_HEX])
{
    for (int i = 0; i < 16; i++) {
        hex[2 * i] = "0123456789abcdef"[in[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[in[i] & 15];
    }
    hex[32] = '\0';
}
