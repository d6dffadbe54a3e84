// SPDX-License-Identifier: Apache-2.0
// Starting a model from a folder (model/weights.h).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/weights.h"
#include "base/mem.h"

static int differ(const char *what, double from, double to, struct err *e)
{
    return from == to ? 0 : err_set(e, "its %s is %g, this model's %g", what, from, to);
}

// Sizes that may be greater where a tower is inherited, and what is then needed besides.
static int compare_sizes(const struct clip_tower *a, const struct clip_tower *b, bool inherit,
                         struct err *e)
{
    const struct {
        const char *what;
        int from, to;
    } sizes[] = {{"layers", a->layers, b->layers},
                 {"width", a->width, b->width},
                 {"heads", a->heads, b->heads},
                 {"MLP width", a->mlp, b->mlp}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (!inherit && differ(sizes[i].what, sizes[i].from, sizes[i].to, e))
            return -1;
        if (sizes[i].from < sizes[i].to)
            return err_set(e, "its %s is %d, less than this model's %d", sizes[i].what,
                           sizes[i].from, sizes[i].to);
    }
    if (inherit && differ("width of a head", a->head_width, b->head_width, e))
        return -1;
    bool attends = b->pool == CLIP_POOL_MAP || b->pool == CLIP_POOL_QUERY;
    return inherit && attends && a->width != b->width
               ? err_set(e, "a pool with attention is not inherited by another width")
               : 0;
}

// any_head: the projection may be another.
static int compare_tower(const struct clip_tower *a, const struct clip_tower *b, const char *name,
                         bool any_head, bool inherit, struct err *e)
{
    const struct {
        const char *what;
        double from, to;
    } same[] = {
        {"layer norm eps", a->eps, b->eps},
        {"layer scale", a->ls_init != 0, b->ls_init != 0},
        {"gated MLP", a->swiglu, b->swiglu},
        {"norm behind branches", a->post_norm, b->post_norm},
        {"inner norms", a->inner_norm, b->inner_norm},
        {"kind of attention bias", a->qkv_bias, b->qkv_bias},
        {"rotary grid", a->rope.grid, b->rope.grid},
        {"rotary offset", a->rope.offset, b->rope.offset},
        {"rotary order", a->rope.xy, b->rope.xy},
        {"class token", !a->no_class, !b->no_class},
        {"patch bias", a->patch_bias, b->patch_bias},
        {"norm before the blocks", !a->no_norm_pre, !b->no_norm_pre},
        {"kind of pool", a->pool, b->pool},
        {"norm before the pool", a->norm_first, b->norm_first},
        {"pool's heads", a->pool_heads, b->pool_heads},
        {"pool's MLP width", a->pool_mlp, b->pool_mlp},
        {"pool's queries", a->pool_queries, b->pool_queries},
        {"projection", any_head || !a->no_head, any_head || !b->no_head},
        {"projection's bias", any_head || a->head_bias, any_head || b->head_bias},
        {"causal mask", !a->no_mask, !b->no_mask},
        {"kind of token that is read", a->read, b->read},
        {"class token behind the text", a->class_last, b->class_last},
    };
    if (a->act != b->act)
        return err_set(e, "its %s tower has %s, this model's %s", name, clip_act_name(a->act),
                       clip_act_name(b->act));
    if (compare_sizes(a, b, inherit, e))
        return err_wrap(e, "%s tower", name);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        if (differ(same[i].what, same[i].from, same[i].to, e))
            return err_wrap(e, "%s tower", name);
    return 0;
}

static int compare(const struct clip_config *a, const struct clip_config *b, struct err *e)
{
    if (a->has_logit_bias && !b->has_logit_bias)
        return err_set(e, "it has a logit_bias, this model has none");
    return compare_tower(&a->vision, &b->vision, "vision", false, false, e) ||
                   compare_tower(&a->text, &b->text, "text", false, false, e) ||
                   differ("embed_dim", a->embed_dim, b->embed_dim, e) ||
                   differ("patch_size", a->patch_size, b->patch_size, e) ||
                   differ("vocab_size", a->vocab, b->vocab, e)
               ? -1
               : 0;
}

static int load_positions(const struct clip_weights *w, size_t i, const struct clip_table *t,
                          const struct clip_tensor *to, float *out, struct err *e)
{
    const struct clip_tensor *from = &w->table.t[i];
    float *tmp = mem_alloc(from->numel, sizeof *tmp, e);
    int rc = 0, width = (int)from->shape[1];
    if (!tmp)
        return -1;
    clip_weights_get(w, i, tmp);
    if (to->tower == CLIP_VISION)
        rc = clip_resize_grid(tmp, w->table.cfg.grid, out, t->cfg.grid, width,
                              !t->cfg.vision.no_class, e);
    else
        clip_resize_line(tmp, (int)from->shape[0], out, (int)to->shape[0], width);
    free(tmp);
    return rc;
}

static int load(const struct clip_weights *w, const struct clip_table *t, float *flat,
                struct err *e)
{
    for (size_t k = 0; k < t->n; k++) {
        const struct clip_tensor *to = &t->t[k];
        float *out = flat + to->offset;
        int i = clip_table_find(&w->table, to->tower, to->kind, to->layer);
        if (i < 0)
            clip_init_tensor(t, k, 0, out); // logit_bias: a constant
        else if (w->table.t[i].numel == to->numel)
            clip_weights_get(w, (size_t)i, out);
        else if (load_positions(w, (size_t)i, t, to, out, e))
            return -1;
        if (i >= 0)
            clip_weights_drop(w, (size_t)i);
    }
    return 0;
}

int clip_weights_load_into(const char *folder, const struct clip_table *t, float *flat,
                           struct err *e)
{
    struct clip_weights w;
    if (clip_weights_open(&w, folder, e))
        return -1;
    int rc = compare(&w.table.cfg, &t->cfg, e) || load(&w, t, flat, e);
    clip_weights_close(&w);
    return rc ? err_wrap(e, "%s", folder) : 0;
}

// -- part of a folder

static int compare_wanted(const struct clip_config *a, const struct clip_config *b,
                          const struct clip_taking *k, struct err *e)
{
    if (k->tower[CLIP_VISION] &&
        (compare_tower(&a->vision, &b->vision, "vision", true, k->inherit, e) ||
         differ("patch_size", a->patch_size, b->patch_size, e)))
        return -1;
    return k->tower[CLIP_TEXT] && (compare_tower(&a->text, &b->text, "text", true, k->inherit, e) ||
                                   differ("vocab_size", a->vocab, b->vocab, e))
               ? -1
               : 0;
}

static bool is_logit(const struct clip_tensor *t)
{
    return t->kind == CLIP_K_LOGIT_SCALE || t->kind == CLIP_K_LOGIT_BIAS;
}

static bool wanted(const struct clip_taking *k, const struct clip_tensor *t)
{
    return is_logit(t) ? k->logits : k->tower[t->tower];
}

static bool same_shape(const struct clip_tensor *a, const struct clip_tensor *b)
{
    bool same = a->rank == b->rank;
    for (int i = 0; same && i < a->rank; i++)
        same = a->shape[i] == b->shape[i];
    return same;
}

// The block of the folder's tower that block `layer` is.
static int inherited_layer(const struct clip_weights *w, const struct clip_table *t,
                           const struct clip_tensor *to)
{
    bool text = to->tower == CLIP_TEXT;
    int from = text ? w->table.cfg.text.layers : w->table.cfg.vision.layers;
    int own = text ? t->cfg.text.layers : t->cfg.vision.layers;
    return to->layer < 0      ? to->layer
           : to->layer == own ? from // the pool
                              : (int)((int64_t)to->layer * from / own);
}

// Parts that lie one below the other in a tensor, each of which is cut.
static size_t pieces_of(const struct clip_tensor *t, const struct clip_tower *tower)
{
    if (t->kind == CLIP_K_QKV_W || t->kind == CLIP_K_QKV_B)
        return 3;
    bool gated = tower->swiglu && (t->kind == CLIP_K_FC_W || t->kind == CLIP_K_FC_B);
    return gated || t->kind == CLIP_K_KV_W ? 2 : 1;
}

static size_t rows_of(const struct clip_tensor *t)
{
    return t->rank ? t->shape[0] : 1;
}

// The leading rows and columns of each piece of `from`, whose values are in x.
static void cut(const float *x, size_t rows, size_t cols, size_t pieces, float *out, size_t to_rows,
                size_t to_cols)
{
    for (size_t p = 0; p < pieces; p++)
        for (size_t r = 0; r < to_rows / pieces; r++)
            memcpy(out + (p * (to_rows / pieces) + r) * to_cols,
                   x + (p * (rows / pieces) + r) * cols, to_cols * sizeof *out);
}

// Tensor k from the larger model's tensor i.
static int take_cut(const struct clip_weights *w, const struct clip_table *t, size_t k, size_t i,
                    float *out, struct err *e)
{
    const struct clip_tensor *to = &t->t[k], *from = &w->table.t[i];
    size_t rows = rows_of(from), to_rows = rows_of(to);
    size_t cols = from->numel / rows, to_cols = to->numel / to_rows;
    bool positions = to->kind == CLIP_K_POS;
    if (from->rank != to->rank || cols < to_cols || (!positions && rows < to_rows))
        return err_set(e, "its %s is smaller", to->name);
    if (!out)
        return 0;
    size_t most = (rows > to_rows ? rows : to_rows) * cols;
    float *x = mem_alloc(most, sizeof *x, e);
    struct clip_tensor resized = *from;
    resized.shape[0] = to_rows;
    int rc = x ? 0 : -1;
    if (!rc && positions && rows != to_rows)
        rc = load_positions(w, i, t, &resized, x, e);
    else if (!rc)
        clip_weights_get(w, i, x);
    const struct clip_tower *tower = to->tower == CLIP_TEXT ? &t->cfg.text : &t->cfg.vision;
    if (!rc)
        cut(x, positions ? to_rows : rows, cols, pieces_of(to, tower), out, to_rows, to_cols);
    free(x);
    return rc;
}

static int take(const struct clip_weights *w, const struct clip_table *t, size_t k,
                struct clip_taking *into, float *flat, struct err *e)
{
    const struct clip_tensor *to = &t->t[k];
    int layer = into->inherit ? inherited_layer(w, t, to) : to->layer;
    int i = clip_table_find(&w->table, to->tower, to->kind, layer);
    const struct clip_tensor *from = i < 0 ? NULL : &w->table.t[i];
    bool head = to->kind == CLIP_K_HEAD || to->kind == CLIP_K_HEAD_B || is_logit(to);
    int rc = 0;
    into->how[k] = CLIP_TAKE_NEW;
    if (from && same_shape(from, to)) {
        if (flat)
            clip_weights_get(w, (size_t)i, flat + to->offset);
        into->how[k] = CLIP_TAKE_SAME;
    } else if (from && into->inherit) {
        rc = take_cut(w, t, k, (size_t)i, flat ? flat + to->offset : NULL, e);
        into->how[k] = CLIP_TAKE_CUT;
    } else if (from && to->kind == CLIP_K_POS && from->shape[1] == to->shape[1]) {
        rc = flat ? load_positions(w, (size_t)i, t, to, flat + to->offset, e) : 0;
        into->how[k] = CLIP_TAKE_RESIZED;
    } else if (!head) {
        rc = err_set(e, "its %s has another size", to->name);
    }
    if (i >= 0)
        clip_weights_drop(w, (size_t)i);
    return rc;
}

// Tensors of the folder that are wanted and that the model has not, or has otherwise.
static void list_others(const struct clip_weights *w, const struct clip_table *t,
                        struct clip_taking *k)
{
    for (size_t i = 0; i < w->table.n; i++) {
        const struct clip_tensor *from = &w->table.t[i];
        int to = clip_table_find(t, from->tower, from->kind, from->layer);
        size_t n = strlen(k->other);
        if (!wanted(k, from) || (to >= 0 && k->how[to] != CLIP_TAKE_NEW))
            continue;
        if (n + strlen(from->name) + 3 < sizeof k->other)
            snprintf(k->other + n, sizeof k->other - n, "%s%s", n ? ", " : "", from->name);
    }
}

int clip_weights_take(const char *folder, const struct clip_table *t, struct clip_taking *k,
                      float *flat, struct err *e)
{
    struct clip_weights w;
    if (clip_weights_open(&w, folder, e))
        return -1;
    int rc = compare_wanted(&w.table.cfg, &t->cfg, k, e);
    for (size_t i = 0; i < t->n && !rc; i++) {
        k->how[i] = CLIP_TAKE_NONE;
        if (wanted(k, &t->t[i]))
            rc = take(&w, t, i, k, flat, e);
    }
    const struct clip_preprocess *a = &w.table.cfg.preprocess, *b = &t->cfg.preprocess;
    k->other_pictures = k->tower[CLIP_VISION] && (memcmp(a->mean, b->mean, sizeof a->mean) ||
                                                  memcmp(a->std, b->std, sizeof a->std));
    k->other[0] = '\0';
    if (!rc && !k->inherit)
        list_others(&w, t, k);
    clip_weights_close(&w);
    return rc ? err_wrap(e, "%s", folder) : 0;
}
