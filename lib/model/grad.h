// SPDX-License-Identifier: Apache-2.0
// A CLIP model under training: both towers forward (tower.h) with their activations kept, and
// backward.
//
//     clip_grad_init(&g, &dev, &table, &locks, recompute, &e); clip_grad_upload(&g, flat, &e)
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

#include "model/lock.h"
#include "model/table.h"
#include "model/tower.h"
#include "device/dev.h"
#include "base/err.h"

// Buffers for the backward pass, shared by both towers; grown when needed.
struct clip_grad_scratch {
    size_t rows, n; // room for so many rows of the wider tower and so many samples
    float *dx, *dxs;
    float *dt; // [rows, max(W, M)], where a tower needs it
    void *dy, *dh, *dmid, *dqkv, *dqs;
    void *dpre; // act [rows, 2 M], swiglu
};

struct clip_grad {
    struct dev *d;
    const struct clip_table *table;
    float *flat;            // device [table->n_flat]
    float *grad;            // device [n_grad]; tensor i begins at `at[i]`
    size_t *at, n_grad;     // SIZE_MAX: it has none; without locks as in the table
    int lowest[2];          // clip_locks_lowest of each tower
    struct clip_net net[2]; // by enum clip_tower_id
    struct clip_grad_scratch s;
    bool recompute;
};

// Allocates parameters and gradients, all zero; tensors that `locks` leave unchanged have no
// gradients. 0 or -1. `table` must outlive it.
int clip_grad_init(struct clip_grad *g, struct dev *d, const struct clip_table *table,
                   const struct clip_locks *locks, bool recompute, struct err *e);
void clip_grad_release(struct clip_grad *g);
// Sets the parameters from host flat[table->n_flat]. 0 or -1.
int clip_grad_upload(struct clip_grad *g, const float *flat, struct err *e);
// Call it after the optimiser changed g->flat.
void clip_grad_refresh(struct clip_grad *g);

// Allocates a tape for n samples and `rows` rows of a tower (vision ignores rows); it grows, and
// never shrinks. A zeroed struct is empty. 0 or -1.
int clip_tape_room(struct clip_grad *g, struct clip_tape *t, enum clip_tower_id tower, size_t n,
                   size_t rows, size_t keep, struct err *e);
void clip_tape_release(struct clip_grad *g, struct clip_tape *t);

// Runs forward, and does not wait. pixels: host uint8 [n, size, size, 3], or NULL if the tape's own
// pixels hold them; z: device float32 [n, embed_dim]. 0 or -1.
// Of each picture only the `keep` patches in pick, host [n, keep], ascending; 0: all.
int clip_grad_images(struct clip_grad *g, size_t n, const uint8_t *pixels, size_t keep,
                     const int32_t *pick, struct clip_tape *t, float *z, struct err *e);
// tokens: host [n, context] as the tokenizer makes them, values below vocab. 0 or -1.
int clip_grad_texts(struct clip_grad *g, size_t n, const int32_t *tokens, struct clip_tape *t,
                    float *z, struct err *e);
// Runs backward from dz (device [n, embed_dim]) for the batch in the tape; adds to g->grad. Does
// nothing for a tower that is locked as a whole. 0 or -1.
int clip_grad_back(struct clip_grad *g, struct clip_tape *t, const float *dz, struct err *e);
// Whether a tower has any gradient.
bool clip_grad_goes(const struct clip_grad *g, enum clip_tower_id tower);

// Device bytes: parameters, gradients and the device's copies of each linear weight; a tape for n
// samples and `rows` rows of a tower with this lowest block; the backward's scratch.
size_t clip_grad_bytes(const struct clip_table *t, const struct clip_locks *locks, size_t act_size,
                       int copies);
size_t clip_tape_bytes(const struct clip_config *c, enum clip_tower_id tower, size_t n, size_t rows,
                       size_t keep, int lowest, bool recompute, size_t act_size);
size_t clip_scratch_bytes(const struct clip_config *c, size_t n, size_t rows, size_t act_size);
// The maximum number of rows of n samples.
size_t clip_tower_rows(const struct clip_config *c, enum clip_tower_id tower, size_t n);

// -- inside (grad*.c)
float *clip_param_grad(const struct clip_grad *g, enum clip_tower_id t, enum clip_kind k,
                       int layer);
int clip_scratch_room(struct clip_grad *g, size_t n, size_t rows, struct err *e);
// g->s.dx (last block: g->s.dxs) holds the gradient by the block's result, g->s.dx that by its
// input afterwards.
void clip_block_back(struct clip_grad *g, struct clip_tape *t, int layer);

#endif
