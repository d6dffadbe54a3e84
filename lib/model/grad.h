// SPDX-License-Identifier: Apache-2.0
// A CLIP model under training: both towers forward with their activations kept, and backward,
// written once against the device interface. Two shortcuts change no result (docs/method.md 4):
// a caption is run only up to its end-of-text token, and the last block computes queries, output
// projection and MLP for the one row of each sample that is read.
//
//     clip_grad_init(&g, &dev, &table, recompute, &e); clip_grad_upload(&g, flat, &e)
//     clip_grad_images(&g, n, pixels, &tape, z, &e)      z = embeddings before normalisation
//     clip_grad_back(&g, &tape, dz, &e)                  g.grad += dL/dparameters
//
// Parameters, gradients and the residual stream are float32; the inputs of matrix products have the
// device's activation type.
#ifndef MODEL_GRAD_H
#define MODEL_GRAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/table.h"
#include "device/dev.h"
#include "base/err.h"

// The matrices of a block as the device's GEMM likes them. In the last block queries are apart from
// keys and values.
struct clip_grad_block {
    struct dev_weight *qkv, *q, *kv, *out, *fc, *proj;
};

struct clip_grad_tower {
    enum clip_tower_id id;
    const struct clip_tower *cfg;
    struct clip_grad_block *blocks; // [cfg->layers]
    struct dev_weight *conv, *head; // conv: vision only
};

// Room for the backward pass, shared by everything; grown when needed.
struct clip_grad_scratch {
    size_t rows, n; // room for so many rows of the wider tower and so many samples
    float *dx, *dxs;
    void *dy, *dh, *dmid, *dqkv, *dqs;
};

struct clip_grad {
    struct dev *d;
    const struct clip_table *table;
    float *flat, *grad; // device [table->n_flat]
    struct clip_grad_tower tower[2];
    struct clip_grad_scratch s;
    bool recompute;
};

// What forward keeps of one block: `rows` rows, of which `q_rows` go on (all of them, or in the
// last block one a sample). W width, M width of the MLP.
struct clip_block_tape {
    float *mean1, *rstd1; // [rows]
    void *h1;             // act [rows, W]: after ln_1
    void *qkv;            // act [rows, 3 W]; last block: k, v [rows, 2 W]
    float *lse;           // [q_rows, heads]
    void *att;            // act [q_rows, W]
    float *x1;            // [q_rows, W]: the stream after attention
    float *mean2, *rstd2; // [q_rows]
    void *h2;             // act [q_rows, W]
    void *pre, *mid;      // act [q_rows, M]: before and after the activation
    void *br1, *br2;      // act [q_rows, W]: branches before layer scale; NULL without it
};

// What forward keeps of a tower for a batch.
struct clip_tape {
    struct clip_grad_tower *tower;
    bool recompute;
    size_t n, rows;                 // samples and rows in it
    size_t max_n, max_rows;         // room
    size_t indexed;                 // vision: pictures that start, q_row and sel are for
    float **x;                      // [layers] device [rows, W]: what goes into each block
    struct clip_block_tape *blocks; // [layers - 1], or with recompute [1], filled again
    struct clip_block_tape last;
    // vision
    uint8_t *pixels; // device
    void *patches;   // act [n * patches, 3 P P]
    float *stem;     // [rows, W], before ln_pre
    float *mean0, *rstd0;
    // text
    int32_t *token; // device [rows]
    // both
    int32_t *start, *q_row, *sel; // device [n + 1], [n], [n]: ragged rows; the row read of each
                                  // sample, from its start and in all rows
    size_t max_len;               // longest sequence
    void *h1s, *q;                // act [n, W]: last block, the rows read
    float *x0s, *mean1s, *rstd1s; // [n, W], [n]
    float *y;                     // [n, W]: out of the last block
    float *mean_f, *rstd_f;       // [n]
    void *hf;                     // act [n, W]: after the final layer norm
    int32_t *host;                // room for indices on their way
    size_t host_cap;
};

// Allocates parameters and gradients, zero. 0 or -1. `table` must outlive it.
int clip_grad_init(struct clip_grad *g, struct dev *d, const struct clip_table *table,
                   bool recompute, struct err *e);
void clip_grad_release(struct clip_grad *g);
// New parameter values from host flat[table->n_flat]. 0 or -1.
int clip_grad_upload(struct clip_grad *g, const float *flat, struct err *e);
// After the optimiser changed g->flat.
void clip_grad_refresh(struct clip_grad *g);

// Room in a tape for n samples and `rows` rows of a tower (vision: rows is not looked at); grows,
// never shrinks. A zeroed struct is empty. 0 or -1.
int clip_tape_room(struct clip_grad *g, struct clip_tape *t, enum clip_tower_id tower, size_t n,
                   size_t rows, struct err *e);
void clip_tape_release(struct clip_grad *g, struct clip_tape *t);

// Forward, and waits for nothing. pixels: host uint8 [n, size, size, 3], or NULL
// where the tape's own pixels hold them; z: device float32 [n,
// embed_dim]. 0 or -1.
int clip_grad_images(struct clip_grad *g, size_t n, const uint8_t *pixels, struct clip_tape *t,
                     float *z, struct err *e);
// tokens: host [n, context] as the tokenizer makes them, values below vocab. 0 or -1.
int clip_grad_texts(struct clip_grad *g, size_t n, const int32_t *tokens, struct clip_tape *t,
                    float *z, struct err *e);
// Backward from dz (device [n, embed_dim]) of the batch in the tape; adds to g->grad. 0 or -1.
int clip_grad_back(struct clip_grad *g, struct clip_tape *t, const float *dz, struct err *e);

// Tokens of a caption that matter: up to and with its end of text (docs/method.md 4).
size_t clip_text_length(const struct clip_config *c, const int32_t *tokens);
// Device bytes: parameters, gradients and the device's copies of each linear weight; a tape for n
// samples and `rows` rows of a tower; the backward's scratch.
size_t clip_grad_bytes(const struct clip_table *t, size_t act_size, int copies);
size_t clip_tape_bytes(const struct clip_config *c, enum clip_tower_id tower, size_t n, size_t rows,
                       bool recompute, size_t act_size);
size_t clip_scratch_bytes(const struct clip_config *c, size_t n, size_t rows, size_t act_size);
// Rows of n samples, at most.
size_t clip_tower_rows(const struct clip_config *c, enum clip_tower_id tower, size_t n);

// -- inside (grad*.c)
size_t clip_tower_width(const struct clip_grad *g, const struct clip_tape *t);
float *clip_param(const struct clip_grad *g, enum clip_tower_id t, enum clip_kind k, int layer);
float *clip_param_grad(const struct clip_grad *g, enum clip_tower_id t, enum clip_kind k,
                       int layer);
struct clip_block_tape *clip_tape_block(struct clip_tape *t, int layer);
int clip_scratch_room(struct clip_grad *g, size_t n, size_t rows, struct err *e);
// x1 and what follows of a block, from t->x[layer]; y: the stream after the block [q_rows, W].
void clip_block_forward(struct clip_grad *g, struct clip_tape *t, int layer, float *y);
// g->s.dx (last block: g->s.dxs) holds the gradient by the block's result, g->s.dx that by its
// input afterwards.
void clip_block_back(struct clip_grad *g, struct clip_tape *t, int layer);

#endif
