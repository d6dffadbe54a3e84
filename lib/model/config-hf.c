// SPDX-License-Identifier: Apache-2.0
// Hugging Face's CLIPModel: config.json (CLIPConfig). Absent sizes have CLIPTextConfig's and
// CLIPVisionConfig's defaults; the activation has its default, quick_gelu, in files that
// transformers saved and none in others, as converters of models with the other one forget the key.
#include <string.h>

#include "model/config-keys.h"
#include "model/config.h"
#include "model/processor.h"
#include "formats/json.h"

// Keys of every transformers config that say nothing about a tower's arithmetic: generation,
// training, labels, book-keeping.
static const char *const common[] = {
    "_attn_implementation_autoset",
    "_commit_hash",
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dropout",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_factor",
    "initializer_range",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_word_embeddings",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    NULL,
};

// And those that would change it.
#define COMMON_OFF                                                                                 \
    {"add_cross_attention", KEY_OFF, NULL}, {"cross_attention_hidden_size", KEY_OFF, NULL},        \
        {"is_decoder", KEY_OFF, NULL}, {"is_encoder_decoder", KEY_OFF, NULL},                      \
        {"pruned_heads", KEY_OFF, NULL},                                                           \
    {                                                                                              \
        "tie_encoder_decoder", KEY_OFF, NULL                                                       \
    }

// save_pretrained leaves out what is the class's default, quick_gelu, and writes its version.
static int read_act(const char *where, const char *name, bool saved, enum clip_act *act,
                    struct err *e)
{
    if (!name && saved)
        name = "quick_gelu";
    if (!name)
        return err_set(e,
                       "%s: no 'hidden_act': write \"quick_gelu\" (OpenAI's models) or \"gelu\" "
                       "(LAION's) there",
                       where);
    *act = strcmp(name, "quick_gelu") == 0 ? CLIP_QUICK_GELU : CLIP_GELU;
    if (*act == CLIP_GELU && strcmp(name, "gelu") != 0)
        return err_set(e, "%s: 'hidden_act' is '%.32s': only gelu and quick_gelu are implemented",
                       where, name);
    return 0;
}

static int read_text(struct clip_config *c, const cJSON *o, bool saved, struct err *e)
{
    static const char where[] = "text_config";
    const char *act = NULL, *type = "clip_text_model";
    struct clip_tower *t = &c->text;
    c->context = 77;
    c->vocab = 49408;
    c->eos_id = 49407;
    *t = (struct clip_tower){.layers = 12, .width = 512, .heads = 8, .mlp = 2048, .eps = 1e-5};
    const struct key keys[] = {
        {"vocab_size", KEY_INT, &c->vocab},
        {"hidden_size", KEY_INT, &t->width},
        {"intermediate_size", KEY_INT, &t->mlp},
        {"num_hidden_layers", KEY_INT, &t->layers},
        {"num_attention_heads", KEY_INT, &t->heads},
        {"max_position_embeddings", KEY_INT, &c->context},
        {"hidden_act", KEY_TEXT, &act},
        {"layer_norm_eps", KEY_NUMBER, &t->eps},
        {"eos_token_id", KEY_INT, &c->eos_id},
        {"model_type", KEY_TEXT, &type},
        {"projection_dim", KEY_ANY, NULL}, // CLIPModel reads the one at the top
        COMMON_OFF,
    };
    if (KEYS_READ(o, where, keys, common, e) || read_act(where, act, saved, &t->act, e))
        return -1;
    if (strcmp(type, "clip_text_model") != 0)
        return err_set(e, "%s: 'model_type' is '%.32s', not clip_text_model", where, type);
    // Configs of before transformers 4.31 say 2, which was never a token: the largest id is meant.
    if (c->eos_id == 2)
        c->eos_id = -1;
    return 0;
}

static int read_vision(struct clip_config *c, const cJSON *o, bool saved, struct err *e)
{
    static const char where[] = "vision_config";
    const char *act = NULL, *type = "clip_vision_model";
    struct clip_tower *t = &c->vision;
    int channels = 3, eos;
    c->image_size = 224;
    c->patch_size = 32;
    *t = (struct clip_tower){.layers = 12, .width = 768, .heads = 12, .mlp = 3072, .eps = 1e-5};
    const struct key keys[] = {
        {"hidden_size", KEY_INT, &t->width},
        {"intermediate_size", KEY_INT, &t->mlp},
        {"num_hidden_layers", KEY_INT, &t->layers},
        {"num_attention_heads", KEY_INT, &t->heads},
        {"num_channels", KEY_INT, &channels},
        {"image_size", KEY_SIDE, &c->image_size},
        {"patch_size", KEY_SIDE, &c->patch_size},
        {"hidden_act", KEY_TEXT, &act},
        {"layer_norm_eps", KEY_NUMBER, &t->eps},
        {"eos_token_id", KEY_INT, &eos}, // no tokens here
        {"model_type", KEY_TEXT, &type},
        {"projection_dim", KEY_ANY, NULL}, // CLIPModel reads the one at the top
        COMMON_OFF,
    };
    if (KEYS_READ(o, where, keys, common, e) || read_act(where, act, saved, &t->act, e))
        return -1;
    if (strcmp(type, "clip_vision_model") != 0)
        return err_set(e, "%s: 'model_type' is '%.32s', not clip_vision_model", where, type);
    return channels == 3 ? 0 : err_set(e, "%s: 'num_channels' is %d, not 3", where, channels);
}

// Old configs repeat a tower's keys in `text_config_dict`; transformers lets those win, so both
// must say the same.
static int check_repeat(const cJSON *config, const cJSON *repeat, const char *where, struct err *e)
{
    for (const cJSON *v = repeat ? repeat->child : NULL; v; v = v->next) {
        const cJSON *o = cJSON_GetObjectItemCaseSensitive(config, v->string);
        if (o && !cJSON_Compare(o, v, true))
            return err_set(e, "%s and %s_dict disagree on '%.64s'", where, where, v->string);
    }
    return 0;
}

static int read_config(struct clip_config *c, const cJSON *j, struct err *e)
{
    const cJSON *text = NULL, *vision = NULL, *text_dict = NULL, *vision_dict = NULL;
    const char *type = NULL;
    int eos;
    c->embed_dim = 512;
    const struct key keys[] = {
        {"model_type", KEY_TEXT, &type},
        {"projection_dim", KEY_INT, &c->embed_dim},
        {"logit_scale_init_value", KEY_NUMBER, &c->logit_scale},
        {"text_config", KEY_OBJECT, &text},
        {"vision_config", KEY_OBJECT, &vision},
        {"text_config_dict", KEY_OBJECT, &text_dict},
        {"vision_config_dict", KEY_OBJECT, &vision_dict},
        {"eos_token_id", KEY_INT, &eos}, // CLIPModel reads text_config's
        COMMON_OFF,
    };
    if (KEYS_READ(j, "config.json", keys, common, e))
        return -1;
    if (!type || strcmp(type, "clip") != 0)
        return err_set(e, "config.json: 'model_type' is %.32s, not clip", type ? type : "missing");
    text = text ? text : text_dict;
    vision = vision ? vision : vision_dict;
    if (!text || !vision)
        return err_set(e, "config.json: '%s' is missing", text ? "vision_config" : "text_config");
    if (check_repeat(text, text_dict, "text_config", e) ||
        check_repeat(vision, vision_dict, "vision_config", e))
        return -1;
    bool saved = cJSON_IsString(cJSON_GetObjectItemCaseSensitive(j, "transformers_version"));
    return read_text(c, text, saved, e) || read_vision(c, vision, saved, e) ? -1 : 0;
}

int clip_config_from_hf(struct clip_config *c, const cJSON *config, const cJSON *preprocessor,
                        const cJSON *processor, struct err *e)
{
    *c = (struct clip_config){.logit_scale = CLIP_LOGIT_SCALE};
    if (read_config(c, config, e))
        return -1;
    clip_preprocess_default(&c->preprocess, c->image_size);
    if (clip_processor_read(&c->preprocess, preprocessor, processor, e))
        return -1;
    return clip_config_check(c, e);
}

int clip_config_fits_hf(const struct clip_config *c, struct err *e)
{
    if (c->vision.ls_init != 0 || c->text.ls_init != 0)
        return err_set(e, "CLIPModel has no layer scale (ls_init_value)");
    if (c->has_logit_bias)
        return err_set(e, "CLIPModel has no logit bias (init_logit_bias)");
    if (c->eos_id == 2)
        return err_set(e, "CLIPModel takes eos_token_id 2 as the largest id");
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
                   json_add_i64(o, "projection_dim", embed, e)
               ? -1
               : 0;
}

static int add_text(cJSON *j, const struct clip_config *c, int start, struct err *e)
{
    cJSON *o = json_add_object(j, "text_config", e);
    // 2 is CLIPModel's word for the largest id; the last id of the vocabulary is the same row and
    // plainer.
    int eos = c->eos_id < 0 ? c->vocab - 1 : c->eos_id;
    if (!o || add_tower(o, "clip_text_model", &c->text, c->embed_dim, e) ||
        json_add_i64(o, "max_position_embeddings", c->context, e) ||
        json_add_i64(o, "vocab_size", c->vocab, e) || json_add_i64(o, "eos_token_id", eos, e))
        return -1;
    if (start < 0)
        start = eos - 1;
    return start < 0 ? 0 : json_add_i64(o, "bos_token_id", start, e);
}

static int add_vision(cJSON *j, const struct clip_config *c, struct err *e)
{
    cJSON *o = json_add_object(j, "vision_config", e);
    return !o || add_tower(o, "clip_vision_model", &c->vision, c->embed_dim, e) ||
                   json_add_i64(o, "image_size", c->image_size, e) ||
                   json_add_i64(o, "patch_size", c->patch_size, e) ||
                   json_add_i64(o, "num_channels", 3, e)
               ? -1
               : 0;
}

static int add_config(cJSON *j, const struct clip_config *c, int start, struct err *e)
{
    cJSON *a = json_add_array(j, "architectures", e);
    return !a || json_add_string(a, NULL, "CLIPModel", e) ||
                   json_add_string(j, "model_type", "clip", e) ||
                   json_add_i64(j, "projection_dim", c->embed_dim, e) ||
                   json_add_double(j, "logit_scale_init_value", c->logit_scale, e) ||
                   add_text(j, c, start, e) || add_vision(j, c, e)
               ? -1
               : 0;
}

cJSON *clip_config_to_hf(const struct clip_config *c, int start, struct err *e)
{
    cJSON *j = clip_config_fits_hf(c, e) ? NULL : keys_object(e);
    return j ? keys_finish(j, add_config(j, c, start, e)) : NULL;
}
