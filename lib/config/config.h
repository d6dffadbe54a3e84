// SPDX-License-Identifier: Apache-2.0
// What a CLIP model is: the sizes and choices of its two towers, read from and written to the
// config files of open_clip (`open_clip_config.json`) and of Hugging Face's CLIPModel
// (`config.json`, `preprocessor_config.json` or `processor_config.json`).
//
// Reading is strict, since a choice that is silently ignored gives embeddings that are silently
// wrong: an unknown key, a key with a value that is not implemented, a wrong type, and an
// activation that the files do not settle are errors that name the key. Absent keys have
// open_clip's (or transformers') defaults.
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <cjson/cJSON.h>
#include <stdbool.h>

#include "base/err.h"

enum clip_act {
    CLIP_GELU,       // x Phi(x), the erf form
    CLIP_QUICK_GELU, // x sigmoid(1.702 x)
    CLIP_TANH_GELU,  // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
};

enum clip_tower_id { CLIP_VISION, CLIP_TEXT };

enum clip_qkv_bias {
    CLIP_BIAS_QKV,
    CLIP_BIAS_QV, // none for keys (EVA)
    CLIP_BIAS_NONE,
};

// How the rows of a sample become one row.
enum clip_pool {
    CLIP_POOL_TOKEN, // one of them: the class token's, a text's see clip_read
    CLIP_POOL_MEAN,  // the mean of the patches, without class token
    CLIP_POOL_MAP,   // attention of one learned row (`latent`) over the rows after the final norm,
                     // then x + MLP(norm(x)); no norm behind it (SigLIP, PE-Core)
    CLIP_POOL_QUERY, // attention of a learned row, with a norm of its own, over the rows after
                     // another norm, to rows of embed_dim; the final norm behind it (CoCa)
};

// The token at which a text is read.
enum clip_read { CLIP_READ_END, CLIP_READ_LAST, CLIP_READ_FIRST };

// How files that open_clip reads name a tower's tensors. Hugging Face's names follow from the
// shape.
enum clip_naming {
    CLIP_NAMED_OPEN_CLIP, // its own transformers
    CLIP_NAMED_TIMM,      // visual.trunk, timm's VisionTransformer
    CLIP_NAMED_EVA01,     // timm's Eva: qkv.weight, q_bias, v_bias
    CLIP_NAMED_EVA02,     // timm's Eva: q_proj, k_proj, v_proj, fc1_g, fc1_x
};

// A rotary embedding in two dimensions (timm's RotaryEmbeddingCat) of queries and keys of the
// patches. Angles are places times bands 10000^(-j / (d/4)), j < d/4, d the head's width: those of
// one axis, then of the other; angle m turns the pair (2m, 2m + 1).
struct clip_rope {
    double grid; // a place is i / (patches a side) * grid + offset; 0: no rotary embedding
    double offset;
    bool xy; // the column's bands come first
};

// One transformer; all zero but the sizes, eps and act is a plain CLIP tower of pre-norm blocks.
struct clip_tower {
    int layers;
    int width;         // of the residual stream
    int heads;         // divides width
    int head_width;    // width / heads
    int mlp;           // hidden width of the MLP: (int)(width * mlp_ratio)
    double ls_init;    // layer scale's first value; 0: no layer scale
    double eps;        // of every layer norm of the tower
    enum clip_act act; // of the MLP
    // blocks
    bool swiglu;     // the MLP is silu(gate) * x, in place of act
    bool post_norm;  // x + norm(attention(x)), x + norm(MLP(x))
    bool inner_norm; // norms of attention's rows before `out`, and of the MLP's before `proj`
    enum clip_qkv_bias qkv_bias;
    struct clip_rope rope;
    // before the blocks
    bool no_class;    // vision
    bool patch_bias;  // vision
    bool no_norm_pre; // vision
    // behind them
    enum clip_pool pool;
    bool norm_first;  // CLIP_POOL_MEAN: the final norm comes before the mean
    int pool_heads;   // CLIP_POOL_MAP, CLIP_POOL_QUERY
    int pool_mlp;     // CLIP_POOL_MAP
    int pool_queries; // CLIP_POOL_QUERY: learned rows, of which the first counts
    bool no_head;     // no projection: embed_dim is the width
    bool head_bias;   //
    bool outer_head;  // timm: the projection is open_clip's (visual.head.proj)
    // text
    bool no_mask; // not causal: all tokens see all
    enum clip_read read;
    bool class_last; // CoCa: a class token behind the text, where it is read
    int pad_id;      // class_last: behind tokens of this id it does not look
    enum clip_naming naming;
};

enum clip_resample { CLIP_BICUBIC, CLIP_BILINEAR };
enum clip_fit {
    CLIP_SHORTEST, // shortest side to `size`, then centre crop
    CLIP_SQUASH,   // both sides to `size`
    CLIP_LONGEST,  // longest side to `size`, then centre pad with fill
};

// How pictures are made into the model's input: (u8 / 255 - mean) / std, RGB.
struct clip_preprocess {
    bool given; // false: the files said nothing and this holds the defaults
    int size;
    double mean[3], std[3];
    enum clip_resample resample;
    enum clip_fit fit;
    int fill; // 0..255, for CLIP_LONGEST
};

// What the files say of a tokenizer that is not CLIP's own (open_clip's HFTokenizer).
struct clip_words {
    char name[96];     // hf_tokenizer_name; "": CLIP's, or what the folder's files are
    bool canonicalize; // tokenizer_kwargs: clean, where it is not "whitespace"
    bool strip_sep;    // its strip_sep_token: the end's id is written as 0
};

enum clip_hf_model { CLIP_HF_NONE, CLIP_HF_CLIP, CLIP_HF_METACLIP2, CLIP_HF_SIGLIP };

struct clip_config {
    int embed_dim;
    struct clip_tower vision, text;
    int image_size, patch_size; // square
    int grid;                   // image_size / patch_size, rounded down
    int context;                // positions of the text tower
    int vocab;
    int eos_id;          // CLIP_READ_END: a text is read at its first token of this id; -1: at its
                         // first largest id
    double logit_scale;  // first value, stored as ln
    bool has_logit_bias; // a `logit_bias` tensor
    double logit_bias;   // its first value
    bool custom_text;    // open_clip: the text tower's names start with "text."
    enum clip_hf_model hf; // which, where it was read from Hugging Face's config.json
    struct clip_words words;
    double patch_dropout; // training's; has no part in embeddings
    bool unused_decoder;  // CoCa: tensors "text_decoder.*" are in the file and not read
    struct clip_preprocess preprocess;
};

// ln(1 / 0.07), the first logit scale of all of them.
#define CLIP_LOGIT_SCALE 2.659260036932778

// Positions of the vision tower: class token, where there is one, and patches.
int clip_config_positions(const struct clip_config *c);
// The same where so many patches of a picture go through the image tower; 0: all.
size_t clip_image_positions(const struct clip_config *c, size_t keep);
// Bytes of a picture that the model sees: image_size x image_size x 3.
size_t clip_config_picture_bytes(const struct clip_config *c);
// Positions of the text tower: context, and CoCa's class token.
int clip_config_text_positions(const struct clip_config *c);
// Width of the rows of a tower behind its pool, and of the pool's learned rows.
int clip_pool_width(const struct clip_config *c, enum clip_tower_id tower);
// Whether the final norm is of the pooled row: else it came before the pool.
bool clip_tower_norm_last(const struct clip_tower *t);
// Blocks and, for pools that are attention, the pool.
int clip_tower_blocks(const struct clip_tower *t);

// From parsed JSON. 0 or -1.
// open_clip: {"model_cfg": {...}, "preprocess_cfg": {...}} or the model_cfg by itself.
int clip_config_from_open_clip(struct clip_config *c, const cJSON *j, struct err *e);
// Hugging Face: config.json, preprocessor_config.json and processor_config.json, whose
// `image_processor` is what transformers 5 writes in place of the second (each NULL when there is
// none). Where both describe the pictures they must say the same: each version of transformers
// would take another one.
int clip_config_from_hf(struct clip_config *c, const cJSON *config, const cJSON *preprocessor,
                        const cJSON *processor, struct err *e);
// One file: conf/models/NAME.json or a folder's open_clip_config.json, or Hugging Face's
// config.json.
int clip_config_read_file(struct clip_config *c, const char *path, struct err *e);
// A model folder: open_clip_config.json when there, else config.json. Where both are, their
// activations must agree.
int clip_config_read_folder(struct clip_config *c, const char *folder, struct err *e);
// Checks that sizes make sense and fit in int; the readers end with it, and a config made by hand
// should too. Sets grid and head_width.
int clip_config_check(struct clip_config *c, struct err *e);

// Whether it has SiglipModel's shape.
bool clip_config_is_siglip(const struct clip_config *c);
// -1 with a reason when neither CLIPModel nor SiglipModel can hold it (layer scale, a rotary
// embedding, square fit...).
int clip_config_fits_hf(const struct clip_config *c, struct err *e);

// Whether open_clip can hold it; else -1 with a reason.
int clip_config_fits_open_clip(const struct clip_config *c, struct err *e);

// New trees, freed with cJSON_Delete; NULL with e set.
cJSON *clip_config_to_open_clip(const struct clip_config *c, struct err *e);
// The one of the two that can hold it, open_clip's first.
cJSON *clip_config_to_any(const struct clip_config *c, struct err *e);
// `start`: the tokenizer's start-of-text id; -1: the one before the end's.
cJSON *clip_config_to_hf(const struct clip_config *c, int start, struct err *e);
cJSON *clip_config_to_hf_preprocessor(const struct clip_config *c, struct err *e);

// OpenAI's mean and std, bicubic, shortest side, `given` false.
void clip_preprocess_default(struct clip_preprocess *p, int size);
// What the published models of the config's family have; `given` false.
void clip_preprocess_family(struct clip_config *c);
const char *clip_act_name(enum clip_act a);           // as Hugging Face's hidden_act
const char *clip_resample_name(enum clip_resample r); // "bicubic", "bilinear"
const char *clip_fit_name(enum clip_fit f);           // "shortest", "squash", "longest"

#endif
