// SPDX-License-Identifier: Apache-2.0
// The weights of a model folder, in open_clip's or Hugging Face's layout, seen through one table
// (model/table.h). Files stay mapped; a tensor is converted when it is read, so that a model larger
// than memory can be packed piece by piece.
//
// A missing tensor, one too many, a wrong shape and a number type other than F32, F16, BF16 and F64
// are errors that name it. Left out: the decoder's of a config that has multimodal_cfg. Left alone:
// `module.` and `text.` before open_clip names, `position_ids` and the entries that OpenAI's dumps
// add (input_resolution, context_length, vocab_size).
#ifndef MODEL_WEIGHTS_H
#define MODEL_WEIGHTS_H

#include <stddef.h>
#include <stdint.h>

#include "model/table.h"
#include "formats/safetensors.h"

// Where a tensor of the table comes from.
struct clip_part {
    const struct st_tensor *st[3]; // one below the other; NULL: zeros
    size_t rows[3];                // of each
    int n;
    bool transposed; // the file has the projection as [out, in]
};

struct clip_weights {
    struct clip_table table; // table.cfg: the config
    struct safetensors files;
    struct clip_part *parts; // [table.n]
    bool hf;                 // layout of the file
    size_t left_out; // tensors of a decoder (CoCa's text_decoder.*), which nothing here runs
};

// Opens a model folder: config as clip_config_read_folder; weights in open_clip_model.safetensors,
// model.safetensors, or either's .index.json. 0 or -1 (e names the folder).
int clip_weights_open(struct clip_weights *w, const char *folder, struct err *e);
// The same with config and weights file named by the caller.
int clip_weights_open_file(struct clip_weights *w, const struct clip_config *c, const char *path,
                           struct err *e);
// No-op on a zeroed or failed one.
void clip_weights_close(struct clip_weights *w);

// Tensor i of the table as float32, dst[numel]; thread-safe.
void clip_weights_get(const struct clip_weights *w, size_t i, float *dst);
// Rows [first, first + n) along its first dimension (rank 0: one row of one element).
void clip_weights_rows(const struct clip_weights *w, size_t i, size_t first, size_t n, float *dst);
// The bytes of tensor i in the mapped file if they are one piece in the table's layout, with their
// type (ST_F32, ST_F16, ST_BF16); else NULL. They may not be aligned. Valid until close.
const void *clip_weights_raw(const struct clip_weights *w, size_t i, enum st_dtype *dtype);
// What turns cosines into logits: exp(logit_scale), and logit_bias. False, *bias 0: it has no bias.
bool clip_weights_logits(const struct clip_weights *w, double *scale, double *bias);
// Tells the system that tensor i's pages are no longer needed (they can be read again).
void clip_weights_drop(const struct clip_weights *w, size_t i);

// All tensors from a folder for a model of config `to` (its table: t) into flat[t->n_flat] (see
// clip_tensor.offset), position embeddings resized where image size or context differ (training's
// --init). Every other size must agree. 0 or -1.
int clip_weights_load_into(const char *folder, const struct clip_table *t, float *flat,
                           struct err *e);

// What became of a tensor of the model.
enum clip_take { CLIP_TAKE_NONE, CLIP_TAKE_SAME, CLIP_TAKE_RESIZED, CLIP_TAKE_CUT, CLIP_TAKE_NEW };
struct clip_taking {
    bool tower[2], logits; // wanted: towers, logit_scale and logit_bias
    bool inherit;          // the folder's model is larger: see clip_weights_take
    uint8_t *how;          // [t->n], an enum clip_take; NONE: not wanted. The caller's
    char other[256];       // names of tensors of the folder that were wanted and have no place here
    bool other_pictures;   // its image tower was made for another mean or standard deviation
};
// The same for part of a model: what is wanted of a folder, into flat, which has first values
// already (NULL: nothing is read, the report is made all the same). A projection of another width,
// or one that the folder has not, stays new; every other size must agree. 0 or -1.
// With `inherit` (TinyCLIP, ICCV 2023) the folder's towers may have more blocks, heads, channels
// and columns: block i is its block floor(i L / l), and of each tensor the leading heads, channels
// and columns are taken. Heads must be as wide. The same config: the same weights.
int clip_weights_take(const char *folder, const struct clip_table *t, struct clip_taking *k,
                      float *flat, struct err *e);

#endif
