// SPDX-License-Identifier: Apache-2.0
// Hugging Face's CLIPModel, MetaClip2Model and SiglipModel: config.json. Absent sizes have the
// defaults of the classes' configs; CLIP's activation has its default, quick_gelu, in files that
// transformers saved and none in others, as converters of models with the other one forget the key.
#include <string.h>

#include "config/keys.h"
#include "config/config.h"
#include "config/processor.h"
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

// The kinds of model: what a file leaves out has the class's default.
struct kind {
    enum clip_hf_model model;
    const char *type, *text_type, *vision_type, *act;
    double eps;
    int text_width, text_mlp, text_heads, context, vocab, patch;
};

static const struct kind kinds[] = {
    {CLIP_HF_CLIP, "clip", "clip_text_model", "clip_vision_model", "quick_gelu", 1e-5, 512, 2048, 8,
     77, 49408, 32},
    {CLIP_HF_METACLIP2, "metaclip_2", "metaclip_2_text_model", "metaclip_2_vision_model",
     "quick_gelu", 1e-5, 512, 2048, 8, 77, 49408, 32},
    {CLIP_HF_SIGLIP, "siglip", "siglip_text_model", "siglip_vision_model", "gelu_pytorch_tanh",
     1e-6, 768, 3072, 12, 64, 32000, 16},
};

// save_pretrained leaves out what is the class's default and writes its version. SiglipModel's
// files leave it out without, too, and mean the default.
static int read_act(const char *where, const char *name, bool saved, const struct kind *k,
                    enum clip_act *act, struct err *e)
{
    static const char *const names[] = {[CLIP_GELU] = "gelu",
                                        [CLIP_QUICK_GELU] = "quick_gelu",
                                        [CLIP_TANH_GELU] = "gelu_pytorch_tanh"};
    if (!name && (saved || k->model != CLIP_HF_CLIP))
        name = k->act;
    if (!name)
        return err_set(e,
                       "%s: no 'hidden_act': write \"quick_gelu\" (OpenAI's models) or \"gelu\" "
                       "(LAION's) there",
                       where);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) {
            *act = (enum clip_act)i;
            return 0;
        }
    return err_set(e,
                   "%s: 'hidden_act' is '%.32s': only gelu, quick_gelu and gelu_pytorch_tanh are "
                   "implemented",
                   where, name);
}

static int read_text(struct clip_config *c, const cJSON *o, bool saved, const struct kind *k,
                     struct err *e)
{
    static const char where[] = "text_config";
    const char *act = NULL, *type = k->text_type;
    struct clip_tower *t = &c->text;
    int projection = -1;
    c->context = k->context;
    c->vocab = k->vocab;
    c->eos_id = 49407;
    *t = (struct clip_tower){.layers = 12,
                             .width = k->text_width,
                             .heads = k->text_heads,
                             .mlp = k->text_mlp,
                             .eps = k->eps};
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
        {"projection_size", KEY_INT, &projection},
        COMMON_OFF,
    };
    if (KEYS_READ(o, where, keys, common, e) || read_act(where, act, saved, k, &t->act, e))
        return -1;
    if (strcmp(type, k->text_type) != 0)
        return err_set(e, "%s: 'model_type' is '%.32s', not %s", where, type, k->text_type);
    // Configs of before transformers 4.31 say 2, which was never a token: the largest id is meant.
    if (k->model == CLIP_HF_CLIP && c->eos_id == 2)
        c->eos_id = -1;
    if (k->model == CLIP_HF_SIGLIP) {
        t->no_mask = t->head_bias = true;
        t->read = CLIP_READ_LAST;
        c->eos_id = -1;
        c->embed_dim = projection < 0 ? t->width : projection;
    }
    return 0;
}

static void set_siglip(struct clip_tower *t)
{
    t->no_class = t->patch_bias = t->no_norm_pre = t->no_head = true;
    t->pool = CLIP_POOL_MAP;
    t->pool_heads = t->heads;
    t->pool_mlp = t->mlp;
    t->naming = CLIP_NAMED_TIMM;
}

static int read_vision(struct clip_config *c, const cJSON *o, bool saved, const struct kind *k,
                       struct err *e)
{
    static const char where[] = "vision_config";
    const char *act = NULL, *type = k->vision_type;
    struct clip_tower *t = &c->vision;
    int channels = 3, eos;
    bool head = true;
    c->image_size = 224;
    c->patch_size = k->patch;
    *t = (struct clip_tower){.layers = 12, .width = 768, .heads = 12, .mlp = 3072, .eps = k->eps};
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
        {"vision_use_head", KEY_BOOL, &head},
        COMMON_OFF,
    };
    if (KEYS_READ(o, where, keys, common, e) || read_act(where, act, saved, k, &t->act, e))
        return -1;
    if (strcmp(type, k->vision_type) != 0)
        return err_set(e, "%s: 'model_type' is '%.32s', not %s", where, type, k->vision_type);
    if (!head)
        return err_set(e, "%s: 'vision_use_head' false is not implemented", where);
    if (k->model == CLIP_HF_SIGLIP)
        set_siglip(t);
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

static const struct kind *kind_of(const char *type, struct err *e)
{
    for (size_t i = 0; type && i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(type, kinds[i].type) == 0)
            return &kinds[i];
    if (type && strcmp(type, "siglip2") == 0)
        err_set(e,
                "config.json: 'model_type' is siglip2: a NaFlex model, of pictures of any shape, "
                "which is not implemented (fixed-resolution SigLIP 2 has siglip)");
    else
        err_set(e, "config.json: 'model_type' is %.32s, not clip, metaclip_2 or siglip",
                type ? type : "missing");
    return NULL;
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
    const struct kind *k = kind_of(type, e);
    if (!k)
        return -1;
    text = text ? text : text_dict;
    vision = vision ? vision : vision_dict;
    if (!text || !vision)
        return err_set(e, "config.json: '%s' is missing", text ? "vision_config" : "text_config");
    if (check_repeat(text, text_dict, "text_config", e) ||
        check_repeat(vision, vision_dict, "vision_config", e))
        return -1;
    bool saved = cJSON_IsString(cJSON_GetObjectItemCaseSensitive(j, "transformers_version"));
    c->hf = k->model;
    if (k->model == CLIP_HF_SIGLIP) {
        c->has_logit_bias = true;
        c->logit_bias = -10;
        c->logit_scale = 2.302585092994046; // ln 10, as open_clip begins; the file's value counts
    }
    return read_text(c, text, saved, k, e) || read_vision(c, vision, saved, k, e) ? -1 : 0;
}

int clip_config_from_hf(struct clip_config *c, const cJSON *config, const cJSON *preprocessor,
                        const cJSON *processor, struct err *e)
{
    *c = (struct clip_config){.logit_scale = CLIP_LOGIT_SCALE};
    if (read_config(c, config, e))
        return -1;
    clip_preprocess_family(c);
    if (clip_processor_read(&c->preprocess, preprocessor, processor, e))
        return -1;
    return clip_config_check(c, e);
}
