// SPDX-License-Identifier: Apache-2.0
// Writes model folders: config, weights, tokenizer files.
#ifndef MODEL_FOLDER_H
#define MODEL_FOLDER_H

#include "model/table.h"
#include "formats/safetensors.h"

enum model_layout {
    MODEL_OPEN_CLIP, // open_clip_config.json, open_clip_model.safetensors
    MODEL_HF,        // config.json, preprocessor_config.json, model.safetensors, tokenizer files
};

// Writes tensor i of the table as float32 to dst[numel]. 0 or -1.
typedef int model_get_fn(void *user, size_t i, float *dst, struct err *e);

struct model_source {
    const struct clip_table *table;
    model_get_fn *get;
    void *user;
    const char *tokenizer; // folder, or vocabulary file; NULL: none. Copied into open_clip's
                           // layout, written in Hugging Face's form into CLIPModel's
    enum st_dtype dtype;   // to write: ST_F32, ST_F16 or ST_BF16
};

// Writes into `folder`, made when it is not there; each file appears whole, weights first, config
// last, so a folder with a config is complete. Both layouts may share a folder. Bytes depend on
// nothing but config, weights and dtype. 0 or -1 (what CLIPModel cannot hold: see
// clip_config_fits_hf; a value that F16 or BF16 would make infinite, with its tensor's name).
int model_folder_write(const char *folder, enum model_layout layout, const struct model_source *s,
                       struct err *e);
// The layouts in which a trained model is written: open_clip's where it can hold it; Hugging Face's
// where that is asked for (`hf`), where the config came from there, and where open_clip's cannot.
struct model_layouts {
    bool open_clip, hf;
};
// 0, or -1: Hugging Face's layout is needed and cannot hold the model.
int model_layouts_of(const struct clip_config *c, bool hf, struct model_layouts *l, struct err *e);
// Names of the files that a tokenizer may consist of; NULL-terminated.
extern const char *const model_tokenizer_files[];
// Copies the tokenizer files (vocabulary, merges, their configs) that the folder `from` has, or the
// vocabulary file `from` under the name by which tokenizer_open finds it in a folder. 0 or -1.
int model_folder_copy_tokenizer(const char *folder, const char *from, struct err *e);

// The common sources: an open folder (user: struct clip_weights *), and a flat array of the table's
// layout (user: struct model_flat *).
model_get_fn model_get_weights;
struct model_flat {
    const struct clip_table *table;
    const float *flat;
};
model_get_fn model_get_flat;

#endif
