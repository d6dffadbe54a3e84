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

#include "config/config.h"
#include "model/folder.h"
#include "model/tower.h"
#include "model/weights.h"
#include "device/dev.h"

// Buffers for up to `rows` rows of `seqs` sequences. Values that a pass does not need at the same
// time share one.
struct clip_work {
    size_t rows, seqs;
    struct clip_tape tape;        // over the buffers below
    struct clip_room room;        // of all blocks but the last
    float *x, *patch;             // residual stream, rows of patches: [rows, W]
    float *x_read, *emb;          // rows that are read [seqs, W]; [seqs, max(E, W)]
    void *y, *h;                  // act [rows, W], [rows, max(3 W, MLP, patch values)]
    void *mid, *normed;           // act [rows, MLP], [rows, max(W, MLP)], where they are needed
    float *f32, *branch, *all;    // [rows, max(W, MLP)], [rows, W], [rows, W], the same
    void *y_read, *q, *o;         // act [seqs, W]
    int32_t *start, *read, *last; // device [seqs + 1], rows to read, the same within a sequence
    int32_t *token;               // device [rows]
    uint8_t *pixels;              // device [seqs, size, size, 3]
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
    struct clip_net net[2]; // by enum clip_tower_id; `cfg` is NULL where it is not loaded
    struct clip_work work[2];
};

// Loads the towers tensor by tensor: converts and packs a matrix for the device, then drops its
// pages of the file. 0 or -1.
int clip_model_load(struct clip_model *m, struct dev *d, const struct clip_weights *w,
                    const struct clip_model_options *o, struct err *e);
// The same from tensors of table `t` that `get` gives, a matrix perhaps more than once: to the bit
// the model that a folder with these tensors as float32 would give.
int clip_model_take(struct clip_model *m, struct dev *d, const struct clip_table *t,
                    model_get_fn *get, void *user, const struct clip_model_options *o,
                    struct err *e);
// No-op on a zeroed one.
void clip_model_release(struct clip_model *m);

// Bytes of a model on the device. Packed weights may be larger on the CPU.
struct clip_model_memory {
    size_t weights, work; // work: buffers of a pass
    size_t own;           // the device's
    size_t total;
};
// 0 or -1: too large to count.
int clip_model_memory(const struct clip_table *t, const struct dev *d,
                      const struct clip_model_options *o, struct clip_model_memory *m,
                      struct err *e);

// Values of a picture's row: embed_dim, or of a headless model what its projection reads.
size_t clip_model_image_dim(const struct clip_model *m);
// n pictures, host uint8 [n, size, size, 3], size the config's image_size, to out, host [n,
// clip_model_image_dim]; unit rows when `unit`. The preprocessing's mean and std are the config's.
// 0 or -1.
int clip_model_images(struct clip_model *m, size_t n, const uint8_t *pixels, bool unit, float *out,
                      struct err *e);
// n rows of token ids, host [n, context], each in [0, vocab). 0 or -1.
int clip_model_texts(struct clip_model *m, size_t n, const int32_t *tokens, bool unit, float *out,
                     struct err *e);
// Does the same without waiting for the device: the rows are in `out` once clip_model_wait has
// returned for *number, or a later number. 0: they are there already. The input may be reused at
// once.
int clip_model_images_start(struct clip_model *m, size_t n, const uint8_t *pixels, bool unit,
                            float *out, uint64_t *number, struct err *e);
int clip_model_texts_start(struct clip_model *m, size_t n, const int32_t *tokens, bool unit,
                           float *out, uint64_t *number, struct err *e);
int clip_model_wait(struct clip_model *m, uint64_t number, struct err *e);
// Multiplications and additions (2 each) of one sample's matrix products: with the shortcuts or
// without; `tokens` is the length that the text tower runs.
double clip_model_flop(const struct clip_config *c, enum clip_tower_id tower, size_t tokens,
                       bool whole);

#endif
