// SPDX-License-Identifier: Apache-2.0
// The tensors of a CLIP model, one table for everything that needs them: loading, forward,
// backward, optimiser, writing. Names and shapes are open_clip's (without `text.`); linear weights
// are [out, in], `proj` and `text_projection` are [in, out]; row-major.
//
// Order: the vision tower (stem, blocks, head), the text tower (the same), logit_scale, logit_bias.
#ifndef MODEL_TABLE_H
#define MODEL_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "config/config.h"

// W width, M hidden width of the MLP, S positions, P patch, E embed_dim, V vocab of a tower; F the
// width behind its pool (W; CoCa: E). The tower's description says which there are.
enum clip_kind {
    // once a tower
    CLIP_K_CLASS,       // [W]
    CLIP_K_PATCH,       // vision [W, 3, P, P]
    CLIP_K_PATCH_B,     // vision [W]
    CLIP_K_TOKEN,       // text [V, W]
    CLIP_K_POS,         // [S, W]
    CLIP_K_LN_PRE_W,    // vision [W]
    CLIP_K_LN_PRE_B,    // vision [W]
    CLIP_K_LN_FINAL_W,  // [F] (ln_post, ln_final)
    CLIP_K_LN_FINAL_B,  // [F]
    CLIP_K_HEAD,        // [F, E] (proj, text_projection): x . head
    CLIP_K_HEAD_B,      // [E]
    CLIP_K_LOGIT_SCALE, // one number, [] (ln)
    CLIP_K_LOGIT_BIAS,  // one number, []; only with has_logit_bias
    // once a block; of the pool, which is block `layers`, with F for W, OUT, LN2, FC and PROJ too
    CLIP_K_LN1_W,    // [W]
    CLIP_K_LN1_B,    // [W]
    CLIP_K_QKV_W,    // [3 W, W], rows q, k, v
    CLIP_K_QKV_B,    // [3 W]; where keys have none, the middle third is zero
    CLIP_K_ATT_LN_W, // [W], inner_norm
    CLIP_K_ATT_LN_B, // [W]
    CLIP_K_OUT_W,    // [W, W]
    CLIP_K_OUT_B,    // [W]
    CLIP_K_LS1,      // [W], only with layer scale
    CLIP_K_LN2_W,    // [W]
    CLIP_K_LN2_B,    // [W]
    CLIP_K_FC_W,     // [M, W]; swiglu [2 M, W], gate first
    CLIP_K_FC_B,     // [M] or [2 M]
    CLIP_K_MLP_LN_W, // [M], inner_norm
    CLIP_K_MLP_LN_B, // [M]
    CLIP_K_PROJ_W,   // [W, M]
    CLIP_K_PROJ_B,   // [W]
    CLIP_K_LS2,      // [W], only with layer scale
    CLIP_K_LATENT,   // pool [queries, F]: learned rows
    CLIP_K_LN_Q_W,   // CLIP_POOL_QUERY [F]: of the learned rows
    CLIP_K_LN_Q_B,   // [F]
    // Queries, and keys and values: tensors if the pool's F is not W, else parts of a QKV_W that is
    // used in two pieces.
    CLIP_K_Q_W,  // [F, F]
    CLIP_K_KV_W, // [2 F, W]
    CLIP_K_COUNT
};

enum { CLIP_NAME_MAX = 64 };

struct clip_tensor {
    char name[CLIP_NAME_MAX];
    enum clip_tower_id tower; // logit_*: CLIP_TEXT
    enum clip_kind kind;
    int layer; // -1: not in a block; the tower's `layers`: of its pool
    int rank;
    size_t shape[4];
    size_t numel;
    size_t
        offset; // elements before it when all tensors lie in one array, each at 64 bytes (float32)
};

struct clip_table {
    struct clip_config cfg;
    struct clip_tensor *t;
    size_t n;
    size_t n_params; // sum of numel
    size_t n_flat;   // elements of the one array, gaps included
    int *index[2];   // of a tower: by block, those that are in none first, and kind
};

// Builds the table of a checked config. 0 or -1.
int clip_table_init(struct clip_table *t, const struct clip_config *c, struct err *e);
void clip_table_release(struct clip_table *t);
// Index of a tensor; layer is ignored for kinds outside blocks. -1: the model has none.
int clip_table_find(const struct clip_table *t, enum clip_tower_id tower, enum clip_kind kind,
                    int layer);
// Whether a matrix product reads it; vectors, tables of rows and positions are not.
bool clip_kind_is_matrix(enum clip_kind k);
// By name (with or without a leading "text."); -1: none.
int clip_table_find_name(const struct clip_table *t, const char *name);

// open_clip's initialisation of tensor i into out[numel]; each tensor has its own random stream, so
// the order of calls does not matter. Normal: token 0.02, text positions 0.01, text attention
// W^-1/2, text out and c_proj (2 W L)^-1/2, text c_fc (2 W)^-1/2, text_projection W^-1/2, vision
// class, positions and proj W^-1/2. Uniform, torch's defaults: vision in_proj +-sqrt(6 / 4W)
// (Xavier), other weights, and c_fc and c_proj biases of both towers, +-1/sqrt(fan in). Attention
// biases 0, layer norms 1 and 0.
void clip_init_tensor(const struct clip_table *t, size_t i, uint64_t seed, float *out);

// Position embeddings of another size, as open_clip resizes them on loading.
// Vision: with `first` 1 row 0 (class) kept, the grid in bicubic with antialias, align_corners
// false (torch's: a = -1/2, support widened when shrinking, along x then y). in [first + g0^2, w],
// out the same of g1.
int clip_resize_grid(const float *in, int g0, float *out, int g1, int w, int first, struct err *e);
// Text: linear, align_corners false, no antialias. in [n0, w], out [n1, w].
void clip_resize_line(const float *in, int n0, float *out, int n1, int w);

#endif
