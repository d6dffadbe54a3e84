// SPDX-License-Identifier: Apache-2.0
// CLIP's forward pass: pictures and token rows to embeddings, on any device (dev.h).
//
// Two exact shortcuts, on unless `whole` is set. Text is causal and read at one position, so the
// tokens behind it are not run; captions lie end to end, so that none is padded. The last block of
// either tower feeds one row a sample, so its queries, projection and MLP are computed for that row
// only.
//
// An embedding depends on its own sample only: batches may be cut anywhere.
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/config.h"
#include "model/weights.h"
#include "device/dev.h"

// One block's parameters; all float32 vectors are on the device.
struct clip_block {
    float *ln1_w, *ln1_b, *ln2_w, *ln2_b;
    float *qkv_b, *out_b, *fc_b, *proj_b;
    float *ls1, *ls2;       // NULL: no layer scale
    struct dev_weight *qkv; // [3 W, W]; NULL in the last block, which has q and kv
    struct dev_weight *q, *kv;
    struct dev_weight *out, *fc, *proj;
};

struct clip_tower_model {
    bool loaded;
    struct clip_tower cfg;
    struct clip_block *blocks; // [cfg.layers]
    float *cls, *pos;          // vision's class row; positions
    float *token;              // text's table
    float *ln_pre_w, *ln_pre_b, *ln_final_w, *ln_final_b;
    struct dev_weight *patch, *head;
};

// Buffers for up to `rows` rows of `seqs` sequences.
struct clip_work {
    size_t rows, seqs;
    float *x, *patch;             // residual stream, rows of patches: [rows, W]
    float *x_read, *emb;          // rows that are read [seqs, W]; [seqs, max(E, W)]
    void *y, *h;                  // act [rows, W], [rows, max(3 W, MLP, patch values)]
    void *y_read, *q, *o;         // act [seqs, W]
    int32_t *start, *read, *last; // device [seqs + 1], rows to read, the same within a sequence
    int32_t *token;               // device [rows]
    uint8_t *pixels;              // device [seqs, size, size, 3]
    size_t indexed;               // pictures that start, read and last are for
    struct dev_record *record;    // the image tower's operations for so many pictures
    size_t recorded;
    bool recorded_unit;
};

struct clip_model_options {
    bool vision, text; // which towers
    bool whole;        // no shortcuts
    bool headless;     // pictures give the tower's features, before the projection
};

struct clip_model {
    struct dev *dev;
    struct clip_config cfg;
    bool whole, headless;
    struct clip_tower_model tower[2]; // by enum clip_tower_id
    struct clip_work work[2];
    int32_t *host; // for building index rows and rows of tokens
};

// Loads the towers, tensor by tensor: a matrix is converted and packed for the device, then its
// pages of the file are dropped. 0 or -1.
int clip_model_load(struct clip_model *m, struct dev *d, const struct clip_weights *w,
                    const struct clip_model_options *o, struct err *e);
// No-op on a zeroed one.
void clip_model_release(struct clip_model *m);

// What a model takes on the device. Packed weights may be larger on the CPU.
struct clip_model_memory {
    size_t weights, work; // work: buffers of a pass
    size_t own;           // the device's
    size_t total;
};
// 0 or -1: too large to count.
int clip_model_memory(const struct clip_table *t, const struct dev *d,
                      const struct clip_model_options *o, struct clip_model_memory *m,
                      struct err *e);

// Values of a picture's row: embed_dim, or the tower's width of a headless model.
size_t clip_model_image_dim(const struct clip_model *m);
// n pictures, host uint8 [n, size, size, 3], size the config's image_size, to out, host [n,
// clip_model_image_dim]; unit rows when `unit`. The preprocessing's mean and std are the config's.
// 0 or -1.
int clip_model_images(struct clip_model *m, size_t n, const uint8_t *pixels, bool unit, float *out,
                      struct err *e);
// n rows of token ids, host [n, context], each in [0, vocab). 0 or -1.
int clip_model_texts(struct clip_model *m, size_t n, const int32_t *tokens, bool unit, float *out,
                     struct err *e);
// The same without waiting for the device: the rows are in `out` once clip_model_wait has returned
// for *number, or a later one. 0: they are there. The input may be given back at once.
int clip_model_images_start(struct clip_model *m, size_t n, const uint8_t *pixels, bool unit,
                            float *out, uint64_t *number, struct err *e);
int clip_model_texts_start(struct clip_model *m, size_t n, const int32_t *tokens, bool unit,
                           float *out, uint64_t *number, struct err *e);
int clip_model_wait(struct clip_model *m, uint64_t number, struct err *e);
// The position whose row is a text's embedding: the first of eos_id (0 when there is none), or the
// first largest id. tokens [context].
int clip_text_read_position(const struct clip_config *c, const int32_t *tokens);
// Multiplications and additions (2 each) of one sample's matrix products: with the shortcuts or
// without; `tokens` is the length that the text tower runs.
double clip_model_flop(const struct clip_config *c, enum clip_tower_id tower, size_t tokens,
                       bool whole);

#endif
