// SPDX-License-Identifier: Apache-2.0
// A tower on a device: its parameters, where a pass leaves its values, and the pass itself, written
// once for embedding and training. Two shortcuts change no result (docs/method.md 4): a causal text
// is run only up to the token at which it is read, and the last block computes queries, output
// projection and MLP for the one row of each sample that is read. A pool that is attention is one
// more block, `layers`: its queries come from a learned row, its keys and values from all rows.
//
// The residual stream is float32; the inputs of matrix products have the device's activation type
// ("act" below). W is the tower's width, M its MLP's, E embed_dim.
#ifndef MODEL_TOWER_H
#define MODEL_TOWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/table.h"
#include "device/dev.h"
#include "base/err.h"

// Parameters by kind, NULL if the tower has none: vectors and tables as float32 on the device,
// matrices in the form that its products read.
struct clip_params {
    float *v[CLIP_K_COUNT];
    struct dev_weight *m[CLIP_K_COUNT];
};

struct clip_net {
    const struct clip_config *model;
    const struct clip_tower *cfg;
    enum clip_tower_id id;
    bool whole;                 // the last block runs all rows, too
    struct clip_params once;    // kinds outside blocks
    struct clip_params *blocks; // [clip_tower_blocks]; queries apart from keys and values where
                                // clip_net_split
};

// Where parameters come from. `i`: tensor of the table. Both give NULL with e set.
struct clip_net_source {
    // float32 [numel] on the device
    float *(*vector)(void *user, size_t i, struct err *e);
    // rows [first, first + out) of `in` columns of a matrix, or the whole of one that lies [in,
    // out]
    struct dev_weight *(*matrix)(void *user, size_t i, size_t first, size_t out, size_t in,
                                 bool transposed, struct err *e);
    void *user;
};

// c: the table's config, which must outlive the net. 0, or -1; the net must be closed in both
// cases.
int clip_net_open(struct clip_net *n, const struct clip_table *t, const struct clip_config *c,
                  enum clip_tower_id id, bool whole, const struct clip_net_source *s,
                  struct err *e);
// Frees matrices, and with `vectors` those too; no-op on a zeroed net.
void clip_net_close(struct clip_net *n, struct dev *d, bool vectors);
// "image" or "text"; with its stem and its head, for profiles.
const char *clip_tower_name(enum clip_tower_id id);
const char *clip_stem_name(enum clip_tower_id id);
const char *clip_head_name(enum clip_tower_id id);
// Calls f for each matrix.
void clip_net_weights(struct clip_net *n, struct dev *d,
                      void (*f)(struct dev *, struct dev_weight *));
// Whether only one row of a sample goes on in block `layer`.
bool clip_net_split(const struct clip_net *n, int layer);

// What a block keeps: `rows` rows, of which `q_rows` go on (all of them, or in a split block one a
// sample). A pass that keeps nothing has NULL for statistics and copies, and one buffer for values
// that are not needed at the same time.
struct clip_room {
    float *mean1, *rstd1; // [rows]
    void *h1;             // act [rows, W]: after ln_1
    void *qkv;            // act [rows, 3 W]; split: k, v [rows, 2 W]
    float *lse;           // [q_rows, heads]
    void *att;            // act [q_rows, W]
    float *x1;            // [q_rows, W]: the stream after attention
    float *mean2, *rstd2; // [q_rows]
    void *h2;             // act [q_rows, W]
    void *pre, *mid; // act [q_rows, M]: before and after the activation; pre of swiglu [.., 2 M]
    void *br1, *br2; // act [q_rows, W]: branches before layer scale
    // inner_norm: what goes into the two norms and comes out of them
    float *att32, *mean_a, *rstd_a; // [q_rows, W], [q_rows]
    void *att_n;                    // act [q_rows, W]
    float *mid32, *mean_m, *rstd_m; // [q_rows, M], [q_rows]
    void *mid_n;                    // act [q_rows, M]
    float *post1, *post2;           // [q_rows, W], post_norm: branches before their norms
};

// CoCa's class tokens. Their rows lie behind those of all texts, row `tokens` + i that of text i,
// and have keys of their own: a mask of open_clip's (TextTransformer.build_cls_mask) lets key 0 be
// seen, and key j + 1 where token j is no padding; the class token itself is key `context`.
struct clip_class_rows {
    size_t tokens;     // rows of tokens
    size_t n_keys;     // of all class tokens
    size_t max_keys;   // of one
    int32_t *start;    // device [n + 1]: ragged rows of keys
    int32_t *key;      // device [rows]: the row that is each
    int32_t *one_each; // device [n + 1]: 0 .. n
    void *kv;          // act [rows, 2 W]: keys and values of those rows
};

// What a pass keeps of a tower for a batch.
// FLIP's patch dropout (Li et al., 2023): of each picture only `keep` patches go through the tower,
// behind its class token, with their own position rows. Buffers of it, none where keep was never
// asked for.
struct clip_drop {
    size_t keep;       // of each picture in the tape; 0: all patches
    size_t max_keep;   // allocated for
    void *patches;     // act [n * keep, 3 P P]: those kept
    float *pos;        // [rows, W]: their position rows
    float *zero, *sum; // [1 + keep, W]: position rows of zeros; sums that are not used
    float *rope;       // [rows, head_width]: their rows of the table, or NULL
    int32_t *patch_at; // device [n * keep]: rows of all patches
    int32_t *pos_at;   // device [rows]: rows of the position table
};

struct clip_tape {
    struct clip_net *net;
    bool recompute;           // blocks[0] serves all but the last
    int lowest;               // blocks[0] serves all below this one, of which nothing is kept
    size_t n, rows;           // samples and rows in it
    size_t max_n, max_rows;   // room
    size_t indexed;           // vision: pictures that start, q_row and sel are for, and the
    size_t indexed_len;       // rows of each
    float **x;                // [blocks] device [rows, W]: what goes into each block; one for all
                              // up to `lowest`
    struct clip_room *blocks; // [blocks - 1], or with recompute [1], filled again; fewer with
                              // `lowest`
    struct clip_room last;
    float *rope; // device [positions, head_width]: cosines and sines, or NULL
    float *tmp;  // [rows, W], post_norm: a branch after its norm
    // vision
    uint8_t *pixels;   // device [n, size, size, 3]
    void *patches;     // act [n * patches, 3 P P]
    float *patch_rows; // [n * patches, W]
    float *stem;       // [rows, W], before ln_pre
    float *mean0, *rstd0;
    struct clip_drop drop;
    // text
    int32_t *token; // device [rows]
    struct clip_class_rows cls;
    // both
    int32_t *start, *q_row, *sel; // device [n + 1], [n], [n]: ragged rows; the row read of each
                                  // sample, from its start and in all rows
    size_t max_len;               // longest sequence
    // F is W, or CoCa's embed_dim behind its pool
    void *h1s, *q;                // act [n, F]: split block, the rows read
    float *x0s, *mean1s, *rstd1s; // [n, F], [n]
    float *end;                   // [rows, W]: out of the last block where all rows go on, or NULL
    float *y;                     // [n, F]: the rows read, or their mean
    float *mean_f, *rstd_f;       // [n]; of all rows where the norm comes before the mean
    float *normed;                // [rows, W]: all rows after the final norm, or NULL
    void *hf;                     // act [n, F]: what the projection reads
    int32_t *host;                // room for indices on their way
    size_t host_cap;
};

// Cosines and sines in turn of a vision tower's angles, device [positions, head_width], a row for
// each position; the class token's turns nothing. NULL with e set.
float *clip_rope_new(struct dev *d, const struct clip_config *c, struct err *e);

// After clip_tape_images with t->drop.keep: which patches go on, host [n, keep], each in [0, grid
// * grid). t->host has room for 3 n + 1 + 2 n keep + n.
void clip_tape_pick(struct dev *d, struct clip_tape *t, const int32_t *patch);
struct clip_room *clip_tape_room_of(struct clip_tape *t, int layer);

// Rows of a batch of pictures: t->n is given; sets t->rows and t->max_len and uploads start, q_row
// and sel where they are not there. t->host has room for 3 n + 1.
void clip_tape_images(struct dev *d, struct clip_tape *t);
// The same for texts, host tokens [n, context]; t->host has room for 3 n + 1 + rows, and t->token
// is uploaded, too. With `whole` texts are run to their end. With a class token behind the text
// t->host has room for 6 n + 3 + 2 rows.
void clip_tape_texts(struct dev *d, struct clip_tape *t, const int32_t *tokens, bool whole);
// 0, or -1: a token is not in the vocabulary.
int clip_check_tokens(const struct clip_config *c, size_t n, const int32_t *tokens, struct err *e);

// From t->pixels or t->token to z, device float32 [n, E], or with `headless` [n, F]: rows before
// the projection.
void clip_tower_forward(struct dev *d, struct clip_tape *t, bool headless, float *z);
// x1 and what follows of a block, from t->x[layer]; y: the stream after the block [q_rows, W].
void clip_block_forward(struct dev *d, struct clip_tape *t, int layer, float *y);
enum dev_act clip_dev_act(enum clip_act a);

// The position whose row is a text's embedding: the first of eos_id (0 when there is none), or the
// first largest id. tokens [context].
int clip_text_read_position(const struct clip_config *c, const int32_t *tokens);
// Rows of a caption that are run: all, or under a causal mask up to and with the one at which it is
// read; with a class token behind the text, up to the last that it sees, and itself.
size_t clip_text_length(const struct clip_config *c, const int32_t *tokens);

#endif
