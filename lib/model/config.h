// SPDX-License-Identifier: Apache-2.0
// What a CLIP model is: the sizes and choices of its two towers, read from and written to the
// config files of open_clip (`open_clip_config.json`) and of Hugging Face's CLIPModel
// (`config.json`, `preprocessor_config.json` or `processor_config.json`).
//
// Reading is strict, since a choice that is silently ignored gives embeddings that are silently
// wrong: an unknown key, a key with a value that is not implemented, a wrong type, and an
// activation that the files do not settle are errors that name the key. Absent keys have
// open_clip's (or transformers') defaults.
#ifndef MODEL_CONFIG_H
#define MODEL_CONFIG_H

#include <cjson/cJSON.h>
#include <stdbool.h>

#include "base/err.h"

enum clip_act {
    CLIP_GELU,       // x Phi(x), the erf form
    CLIP_QUICK_GELU, // x sigmoid(1.702 x)
};

enum clip_tower_id { CLIP_VISION, CLIP_TEXT };

// One transformer of pre-norm blocks.
struct clip_tower {
    int layers;
    int width;         // of the residual stream
    int heads;         // divides width
    int head_width;    // width / heads
    int mlp;           // hidden width of the MLP: (int)(width * mlp_ratio)
    double ls_init;    // layer scale's first value; 0: no layer scale
    double eps;        // of every layer norm of the tower
    enum clip_act act; // of the MLP
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

struct clip_config {
    int embed_dim;
    struct clip_tower vision, text;
    int image_size, patch_size; // square
    int grid;                   // image_size / patch_size, rounded down
    int context;                // positions of the text tower
    int vocab;
    int eos_id;          // the text's row is its first token of this id; -1: of the largest id
    double logit_scale;  // first value, stored as ln
    bool has_logit_bias; // a `logit_bias` tensor
    double logit_bias;   // its first value
    bool custom_text;    // open_clip: the text tower's names start with "text."
    struct clip_preprocess preprocess;
};

// ln(1 / 0.07), the first logit scale of all of them.
#define CLIP_LOGIT_SCALE 2.659260036932778

// Positions of the vision tower: class token and patches.
int clip_config_positions(const struct clip_config *c);

// From parsed JSON. 0 or -1.
// open_clip: {"model_cfg": {...}, "preprocess_cfg": {...}} or the model_cfg by itself.
int clip_config_from_open_clip(struct clip_config *c, const cJSON *j, struct err *e);
// Hugging Face: config.json, preprocessor_config.json and processor_config.json, whose
// `image_processor` is what transformers 5 writes in place of the second (each NULL when there is
// none). Where both describe the pictures they must say the same: each version of transformers
// would take another one.
int clip_config_from_hf(struct clip_config *c, const cJSON *config, const cJSON *preprocessor,
                        const cJSON *processor, struct err *e);
// One file in open_clip's form: conf/models/NAME.json, or a folder's open_clip_config.json.
int clip_config_read_file(struct clip_config *c, const char *path, struct err *e);
// A model folder: open_clip_config.json when there, else config.json. Where both are, their
// activations must agree.
int clip_config_read_folder(struct clip_config *c, const char *folder, struct err *e);
// Checks that sizes make sense and fit in int; the readers end with it, and a config made by hand
// should too. Sets grid and head_width.
int clip_config_check(struct clip_config *c, struct err *e);

// -1 with a reason when CLIPModel cannot hold it (layer scale, logit_bias, square fit...).
int clip_config_fits_hf(const struct clip_config *c, struct err *e);

// New trees, freed with cJSON_Delete; NULL with e set.
cJSON *clip_config_to_open_clip(const struct clip_config *c, struct err *e);
// `start`: the tokenizer's start-of-text id; -1: the one before the end's.
cJSON *clip_config_to_hf(const struct clip_config *c, int start, struct err *e);
cJSON *clip_config_to_hf_preprocessor(const struct clip_config *c, struct err *e);

// OpenAI's mean and std, bicubic, shortest side, `given` false.
void clip_preprocess_default(struct clip_preprocess *p, int size);
const char *clip_act_name(enum clip_act a);           // "gelu", "quick_gelu"
const char *clip_resample_name(enum clip_resample r); // "bicubic", "bilinear"
const char *clip_fit_name(enum clip_fit f);           // "shortest", "squash", "longest"

#endif
