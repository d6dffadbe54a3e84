// SPDX-License-Identifier: Apache-2.0
// Private to tower-block.c and grad-block.c: a block of a tower at work on a tape.
#ifndef MODEL_TOWER_BLOCK_H
#define MODEL_TOWER_BLOCK_H

#include "model/tower.h"

struct clip_block {
    struct dev *d;
    const struct dev_ops *op;
    struct clip_tape *t;
    struct clip_room *b;
    const struct clip_params *w;
    const struct clip_tower *c;
    float *const *norm1; // gain and bias of the norm before attention
    int layer;
    bool pool, split, swiglu, inner, post;
    size_t W, F, M, heads; // F: width of queries and of what goes on
    size_t rows, q_rows;
    float *x; // what goes in [rows, W]
};

struct clip_block clip_block_of(struct dev *d, struct clip_tape *t, int layer);
struct dev_attention clip_block_attention(const struct clip_block *k);
// The rotary embedding of queries and keys, in place; `back`: of their gradients.
void clip_block_rotate(const struct clip_block *k, bool back, void *qkv);

#endif
