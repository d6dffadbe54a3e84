// SPDX-License-Identifier: Apache-2.0
// Configs: what is read, what is refused by name, and that what is written reads back the same.
#include "config/config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "formats/json.h"
#include "unit/tap.h"

#define VISION                                                                                     \
    "\"vision_cfg\":{\"layers\":3,\"width\":64,\"head_width\":16,\"image_size\":32,\"patch_"       \
    "size\":8"
#define TEXT "\"text_cfg\":{\"width\":32,\"heads\":4,\"layers\":2"
#define OC(top, vision, text) "{\"embed_dim\":32," top VISION vision "}," TEXT text "}}"
#define HFT "\"text_config\":{\"hidden_size\":16,\"num_attention_heads\":2,\"num_hidden_layers\":3"
#define HFV                                                                                        \
    "\"vision_config\":{\"hidden_size\":52,\"num_attention_heads\":4,\"image_size\":48,\"patch_"   \
    "size\":16"
#define HF(top, text, vision)                                                                      \
    "{\"model_type\":\"clip\",\"projection_dim\":24," top HFT text "}," HFV vision "}}"
#define ACT ",\"hidden_act\":\"gelu\""

static int read_open_clip(struct clip_config *c, const char *text, struct err *e)
{
    cJSON *j = json_parse(text, strlen(text), NULL, e);
    int rc = j ? clip_config_from_open_clip(c, j, e) : -1;
    cJSON_Delete(j);
    return rc;
}

static int read_hf(struct clip_config *c, const char *text, const char *pre, struct err *e)
{
    cJSON *j = json_parse(text, strlen(text), NULL, e);
    cJSON *p = pre ? json_parse(pre, strlen(pre), NULL, e) : NULL;
    int rc = j && !pre == !p ? clip_config_from_hf(c, j, p, NULL, e) : -1;
    cJSON_Delete(j);
    cJSON_Delete(p);
    return rc;
}

static void test_open_clip(void)
{
    struct clip_config c;
    struct err e;
    int rc = read_open_clip(&c, OC("", "", ""), &e);
    ok(!rc, "plain config: %s", rc ? e.text : "");
    ok(c.vision.heads == 4 && c.vision.head_width == 16 && c.vision.mlp == 256 && c.grid == 4 &&
           clip_config_positions(&c) == 17,
       "vision sizes");
    ok(c.text.heads == 4 && c.text.head_width == 8 && c.text.mlp == 128 && c.context == 77 &&
           c.vocab == 49408 && c.eos_id == -1,
       "text sizes and defaults");
    ok(c.vision.act == CLIP_GELU && c.vision.eps == 1e-5 && c.vision.ls_init == 0, "gelu, 1e-5");
    ok(!c.preprocess.given && c.preprocess.size == 32 && c.preprocess.mean[0] == 0.48145466,
       "default preprocessing");
    rc = read_open_clip(
        &c,
        "{\"model_cfg\":" OC(
            "\"quick_gelu\":true,\"init_logit_bias\":-10,",
            ",\"mlp_ratio\":4.9231,\"ls_init_value\":1e-4,"
            "\"timm_model_name\":null,\"timm_pool\":\"avg\","
            "\"attentional_pool\":false,\"patch_dropout\":0.0",
            ",\"pool_type\":\"eos\",\"eos_id\":7,"
            "\"norm_kwargs\":{\"eps\":1e-6}") ",\"preprocess_"
                                              "cfg\":{\"mean\":[0.5,0.5,0.5],\"std\":[0.5,0.5,0.5],"
                                              "\"resize_mode\":"
                                              "\"squash\",\"interpolation\":\"bilinear\",\"size\":["
                                              "32,32]}}",
        &e);
    ok(!rc, "wrapped config: %s", rc ? e.text : "");
    ok(c.vision.mlp == 315 && c.vision.ls_init == 1e-4 && c.vision.act == CLIP_QUICK_GELU &&
           c.text.act == CLIP_QUICK_GELU && c.text.eps == 1e-6 && c.eos_id == 7,
       "its values");
    ok(c.has_logit_bias && c.logit_bias == -10 && c.preprocess.fit == CLIP_SQUASH &&
           c.preprocess.given && c.preprocess.resample == CLIP_BILINEAR &&
           c.preprocess.mean[1] == 0.5,
       "logit bias, preprocessing");
}

static void refuses(const char *text, const char *why)
{
    struct clip_config c;
    struct err e = {.text = ""};
    ok(read_open_clip(&c, text, &e) == -1 && strstr(e.text, why), "refused: %s (%s)", why, e.text);
}

static void test_open_clip_refused(void)
{
    refuses("[]", "object");
    refuses("{}", "embed_dim");
    refuses("{\"embed_dim\":32}", "vision_cfg");
    refuses("{\"embed_dim\":32," VISION "}}", "text_cfg");
    refuses("{\"model_cfg\":1}", "model_cfg");
    refuses("{\"model_cfg\":" OC("", "", "") ",\"x\":1}", "'x'");
    refuses(OC("\"foo\":1,", "", ""), "unknown key 'foo'");
    refuses(OC("\"quick_gelu\":1,", "", ""), "quick_gelu");
    refuses(OC("\"multimodal_cfg\":1,", "", ""), "multimodal_cfg");
    refuses(OC("\"init_logit_bias\":\"a\",", "", ""), "init_logit_bias");
    refuses(OC("", ",\"bar\":null", ""), "unknown key 'bar'");
    refuses(OC("", ",\"timm_model_name\":\"vit\"", ""), "'vit' is not implemented");
    refuses(OC("", ",\"timm_model_name\":\"convnext_base\"", ""), "ConvNeXt");
    refuses(OC("", ",\"timm_model_name\":\"vitamin_large_224\"", ""), "hybrid");
    refuses(OC("", ",\"timm_model_name\":\"naflexvit_base_patch16_siglip\"", ""), "NaFlex");
    refuses(OC("", ",\"timm_model_name\":\"vit_base_patch16_siglip_224\"", ""), "takes 224");
    refuses("{\"embed_dim\":8,\"vision_cfg\":{\"timm_model_name\":\"vit_base_patch16_siglip_224\"},"
            "\"text_cfg\":{}}",
            "timm_proj");
    refuses(OC("", "", ",\"embed_cls\":true,\"pad_id\":true"), "pad_id");
    refuses(
        OC("", ",\"timm_model_name\":\"vit_base_patch16_siglip_224\",\"timm_pool\":\"avg\"", ""),
        "timm_pool");
    refuses("{\"embed_dim\":8,\"vision_cfg\":{\"layers\":[3,4,6,3]},\"text_cfg\":{}}", "ResNet");
    refuses(OC("", ",\"attentional_pool\":\"parallel\"", ""), "attentional_pool");
    refuses(OC("", ",\"pool_type\":\"none\"", ""), "pool_type");
    refuses(OC("", ",\"pos_embed_type\":\"none\"", ""), "pos_embed_type");
    refuses(OC("", ",\"act_kwargs\":{\"approximate\":\"sigmoid\"}", ""), "act_kwargs");
    refuses(OC("\"quick_gelu\":true,", ",\"act_kwargs\":{\"approximate\":\"tanh\"}", ""),
            "quick_gelu");
    refuses(OC("", ",\"norm_kwargs\":{\"bias\":false}", ""), "'bias'");
    refuses(OC("", ",\"patch_dropout\":\"a\"", ""), "patch_dropout");
    refuses(OC("", ",\"mlp_ratio\":\"4\"", ""), "mlp_ratio");
    refuses(OC("", ",\"mlp_ratio\":1e300", ""), "MLP width");
    refuses(OC("", ",\"mlp_ratio\":-1", ""), "MLP width");
    refuses(OC("", "", ",\"hf_model_name\":\"roberta\""), "Hugging Face's 'roberta'");
    refuses(OC("", "", ",\"no_causal_mask\":1"), "no_causal_mask");
    refuses(OC("", "", ",\"tokenizer_kwargs\":{\"clean\":\"lower\"}"), "tokenizer_kwargs");
    refuses(OC("", "", ",\"proj_type\":\"mlp\""), "proj_type");
    refuses(OC("", "", ",\"pool_type\":\"mean\""), "pool_type");
    refuses(OC("", "", ",\"context_length\":77.5"), "context_length");
    refuses(OC("", "", ",\"context_length\":0"), "context_length");
    refuses(OC("", "", ",\"vocab_size\":-1"), "vocab_size");
    refuses(OC("", "", ",\"vocab_size\":1e12"), "vocab_size");
    refuses(OC("", "", ",\"norm_kwargs\":{\"eps\":0}"), "eps");
    refuses(OC("", "", ",\"width\":30}"), "");
    refuses("{\"embed_dim\":8,\"vision_cfg\":{\"width\":100,\"head_width\":30},\"text_cfg\":{}}",
            "heads");
    refuses("{\"embed_dim\":8,\"vision_cfg\":{\"width\":10,\"head_width\":0},\"text_cfg\":{}}",
            "head_width");
    refuses("{\"embed_dim\":8,\"vision_cfg\":{\"image_size\":[224,240]},\"text_cfg\":{}}",
            "image_size");
    refuses("{\"embed_dim\":8,\"vision_cfg\":{\"image_size\":8,\"patch_size\":16},\"text_cfg\":{}}",
            "patch_size");
#define PRE(x) "{\"model_cfg\":" OC("", "", "") ",\"preprocess_cfg\":{" x "}}"
    refuses(PRE("\"size\":224"), "224");
    refuses(PRE("\"std\":[0,1,1]"), "std");
    refuses(PRE("\"mean\":[0,1]"), "mean");
    refuses(PRE("\"mode\":\"L\""), "mode");
    refuses(PRE("\"interpolation\":\"random\""), "interpolation");
    refuses(PRE("\"resize_mode\":\"crop\""), "resize_mode");
    refuses(PRE("\"fill_color\":[0,0,1]"), "fill_color");
    refuses(PRE("\"gamma\":1"), "'gamma'");
}

static void test_hf(void)
{
    struct clip_config c;
    struct err e;
    int rc = read_hf(&c,
                     HF("\"text_config_dict\":{\"hidden_size\":16},\"torch_dtype\":\"float32\",",
                        ",\"hidden_act\":\"quick_gelu\",\"eos_token_id\":2,\"top_k\":50",
                        ",\"hidden_act\":\"gelu\",\"pruned_heads\":{}"),
                     "{\"size\":{\"shortest_edge\":48},\"crop_size\":{\"height\":48,\"width\":48},"
                     "\"resample\":3,\"do_resize\":true,\"rescale_factor\":0.00392156862745098,"
                     "\"image_mean\":[0.5,0.4,0.3]}",
                     &e);
    ok(!rc, "config.json: %s", rc ? e.text : "");
    ok(c.embed_dim == 24 && c.text.width == 16 && c.text.mlp == 2048 && c.vision.head_width == 13 &&
           c.grid == 3,
       "sizes and transformers' defaults");
    ok(c.text.act == CLIP_QUICK_GELU && c.vision.act == CLIP_GELU && c.eos_id == -1,
       "an activation for each tower, old eos");
    ok(c.preprocess.given && c.preprocess.mean[2] == 0.3 && c.preprocess.fit == CLIP_SHORTEST,
       "preprocessor");
    ok(!read_hf(&c, HF("", ACT ",\"eos_token_id\":7", ACT), NULL, &e) && c.eos_id == 7,
       "eos of its own");
    ok(!read_hf(&c, HF("", ACT ",\"eos_token_id\":49407", ACT), NULL, &e) && c.eos_id == -1,
       "the last id is the largest");
    ok(!read_hf(&c, HF("\"transformers_version\":\"4.52.0\",", "", ",\"hidden_act\":\"gelu\""),
                NULL, &e) &&
           c.text.act == CLIP_QUICK_GELU && c.vision.act == CLIP_GELU,
       "an activation that transformers left out is its default");
    static const struct {
        const char *config, *pre, *why;
    } cases[] = {
        {HF("", "", ACT), NULL, "text_config: no 'hidden_act'"},
        {HF("", ACT, ""), NULL, "vision_config: no 'hidden_act'"},
        {HF("", ",\"hidden_act\":\"gelu_new\"", ACT), NULL, "gelu_new"},
        {HF("", ACT ",\"frob\":1", ACT), NULL, "unknown key 'frob'"},
        {HF("", ACT, ACT ",\"num_channels\":4"), NULL, "num_channels"},
        {HF("", ACT, ACT ",\"pruned_heads\":{\"1\":[0]}"), NULL, "pruned_heads"},
        {HF("\"text_config_dict\":{\"hidden_size\":17},", ACT, ACT), NULL, "hidden_size"},
        {HF("\"auto_map\":{},", ACT, ACT), NULL, "auto_map"},
        {"{\"model_type\":\"siglip2\"}", NULL, "siglip"},
        {"{\"model_type\":\"clip\"}", NULL, "text_config"},
        {HF("", ACT, ACT), "{\"do_resize\":false}", "do_resize"},
        {HF("", ACT, ACT), "{\"resample\":0}", "resample"},
        {HF("", ACT, ACT), "{\"size\":224}", "crop_size"},
        {HF("", ACT, ACT), "{\"size\":224,\"crop_size\":224}", "224"},
        {HF("", ACT, ACT), "{\"size\":{\"height\":48}}", "size"},
        {HF("", ACT, ACT), "{\"do_center_crop\":false}", "do_center_crop"},
        {HF("", ACT, ACT), "{\"rescale_factor\":2}", "rescale_factor"},
        {HF("", ACT, ACT), "{\"x\":1}", "'x'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        e.text[0] = 0;
        rc = read_hf(&c, cases[i].config, cases[i].pre, &e);
        ok(rc == -1 && strstr(e.text, cases[i].why), "refused: %s (%s)", cases[i].why, e.text);
    }
    ok(!read_hf(&c, HF("", ACT, ACT),
                "{\"size\":{\"height\":48,\"width\":48},\"do_center_crop\":false}", &e) &&
           c.preprocess.fit == CLIP_SQUASH,
       "a size without crop squashes");
}

static bool same_tower(const struct clip_tower *a, const struct clip_tower *b)
{
    return a->layers == b->layers && a->width == b->width && a->heads == b->heads &&
           a->head_width == b->head_width && a->mlp == b->mlp && a->ls_init == b->ls_init &&
           a->eps == b->eps && a->act == b->act;
}

static bool same(const struct clip_config *a, const struct clip_config *b)
{
    const struct clip_preprocess *p = &a->preprocess, *q = &b->preprocess;
    for (int i = 0; i < 3; i++)
        if (p->mean[i] != q->mean[i] || p->std[i] != q->std[i])
            return false;
    return same_tower(&a->vision, &b->vision) && same_tower(&a->text, &b->text) &&
           a->embed_dim == b->embed_dim && a->image_size == b->image_size &&
           a->patch_size == b->patch_size && a->context == b->context && a->vocab == b->vocab &&
           a->eos_id == b->eos_id && a->logit_scale == b->logit_scale &&
           a->has_logit_bias == b->has_logit_bias && a->logit_bias == b->logit_bias &&
           a->custom_text == b->custom_text && p->size == q->size && p->resample == q->resample &&
           p->fit == q->fit && p->fill == q->fill;
}

static void round_trip(const struct clip_config *c, const char *name)
{
    struct clip_config back;
    struct err e = {.text = ""};
    cJSON *j = clip_config_to_open_clip(c, &e);
    ok(j && !clip_config_from_open_clip(&back, j, &e) && same(c, &back), "%s: written and read %s",
       name, e.text);
    cJSON_Delete(j);
    if (clip_config_fits_hf(c, &e))
        return;
    j = clip_config_to_hf(c, -1, &e);
    cJSON *p = clip_config_to_hf_preprocessor(c, &e);
    ok(j && p && !clip_config_from_hf(&back, j, p, NULL, &e) && same(c, &back),
       "%s: through Hugging Face's form %s", name, e.text);
    cJSON_Delete(j);
    cJSON_Delete(p);
}

// Sizes of conventions 10.2: width, head width and MLP of the picture tower.
static void test_files(void)
{
    static const struct {
        const char *name;
        int width, head, mlp, positions;
    } models[] = {
        {"ViT-S-32", 384, 64, 1536, 50},           {"ViT-B-32", 768, 64, 3072, 50},
        {"ViT-B-32-quickgelu", 768, 64, 3072, 50}, {"ViT-B-16", 768, 64, 3072, 197},
        {"ViT-L-14", 1024, 64, 4096, 257},         {"ViT-L-14-336", 1024, 64, 4096, 577},
        {"ViT-H-14", 1280, 80, 5120, 257},         {"ViT-g-14", 1408, 88, 6144, 257},
        {"ViT-bigG-14", 1664, 104, 8192, 257},     {"emoji-4x128", 128, 32, 512, 37},
        {"emoji-3x64", 64, 32, 256, 37},
    };
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct clip_config c;
        struct err e = {.text = ""};
        char path[128];
        snprintf(path, sizeof path, "conf/models/%s.json", models[i].name);
        int rc = clip_config_read_file(&c, path, &e);
        ok(!rc && c.vision.width == models[i].width && c.vision.head_width == models[i].head &&
               c.vision.mlp == models[i].mlp && clip_config_positions(&c) == models[i].positions,
           "%s %s", models[i].name, rc ? e.text : "");
        if (!rc)
            round_trip(&c, models[i].name);
    }
}

static void test_round_trip(void)
{
    struct clip_config c;
    struct err e;
    read_open_clip(&c, OC("\"quick_gelu\":true,\"init_logit_scale\":2.3025850929940455,", "", ""),
                   &e);
    c.vision.mlp = 251; // no short ratio gives it
    c.text.eps = 1e-6;
    c.eos_id = 7;
    c.preprocess.mean[0] = 0.1;
    c.preprocess.fit = CLIP_SQUASH;
    round_trip(&c, "odd one");
    c.has_logit_bias = c.custom_text = true;
    c.logit_bias = -10;
    c.text.ls_init = 0.1;
    c.preprocess.fit = CLIP_LONGEST;
    c.preprocess.fill = 128;
    round_trip(&c, "with layer scale and bias");
    ok(clip_config_fits_hf(&c, &e) == -1, "which CLIPModel cannot hold: %s", e.text);
    ok(!clip_config_to_hf(&c, -1, &e), "so it is not written");
    c.text.act = CLIP_GELU;
    ok(!clip_config_to_open_clip(&c, &e) && strstr(e.text, "activation"),
       "two activations refused by open_clip's form");
}

int main(void)
{
    test_open_clip();
    test_open_clip_refused();
    test_hf();
    test_files();
    test_round_trip();
    return tap_done();
}
