// SPDX-License-Identifier: Apache-2.0
// From a model folder's tensors to a device's memory.
#include <stdlib.h>
#include <string.h>

#include "model/model-work.h"
#include "model/model.h"
#include "base/mem.h"

enum { PIECE = 1 << 20 }; // values converted at a time

struct loader {
    struct clip_model *m;
    const struct clip_weights *w;
    enum clip_tower_id tower;
    float *host; // the largest matrix
    size_t n_host;
};

static int find(const struct loader *l, enum clip_kind kind, int layer)
{
    return clip_table_find(&l->w->table, l->tower, kind, layer);
}

// A tensor as float32 on the device; NULL in *to when the model has none.
static int load_f32(struct loader *l, enum clip_kind kind, int layer, float **to, struct err *e)
{
    int i = find(l, kind, layer);
    *to = NULL;
    if (i < 0)
        return 0;
    struct dev *d = l->m->dev;
    const struct clip_tensor *t = &l->w->table.t[i];
    size_t rows = t->rank ? t->shape[0] : 1, cols = t->numel / rows;
    size_t step = cols < PIECE ? PIECE / cols : 1, bytes;
    if (!mem_mul(t->numel, sizeof **to, &bytes))
        return err_set(e, "tensor %s is too large", t->name);
    *to = d->op->alloc(d, bytes, e);
    if (!*to)
        return -1;
    for (size_t r = 0; r < rows; r += step) {
        size_t n = rows - r < step ? rows - r : step;
        clip_weights_rows(l->w, (size_t)i, r, n, l->host);
        d->op->upload(d, *to + r * cols, l->host, n * cols * sizeof **to);
    }
    clip_weights_drop(l->w, (size_t)i);
    return 0;
}

// The values of a matrix where they lie when they can be used from there, else converted into
// l->host.
static const void *matrix_values(struct loader *l, size_t i, enum dev_type *type)
{
    enum st_dtype dtype;
    const void *raw = clip_weights_raw(l->w, i, &dtype);
    if (raw && (dtype == ST_F32 || dtype == ST_BF16) && (size_t)raw % st_dtype_size(dtype) == 0) {
        *type = dtype == ST_F32 ? DEV_F32 : DEV_BF16;
        return raw;
    }
    *type = DEV_F32;
    clip_weights_get(l->w, i, l->host);
    return l->host;
}

// Rows [first, first + out) of a matrix of `in` columns; the whole of one that lies [in, out].
static int load_matrix(struct loader *l, enum clip_kind kind, int layer, size_t first, size_t out,
                       size_t in, struct dev_weight **to, struct err *e)
{
    struct dev *d = l->m->dev;
    int i = find(l, kind, layer);
    enum dev_type type;
    const char *v = matrix_values(l, (size_t)i, &type);
    v += first * in * (type == DEV_BF16 ? 2 : 4);
    *to = d->op->weight_new(d, v, type, out, in, kind == CLIP_K_HEAD, e);
    if (!*to)
        return err_wrap(e, "tensor %s", l->w->table.t[i].name);
    return 0;
}

static void drop(struct loader *l, enum clip_kind kind, int layer)
{
    int i = find(l, kind, layer);
    if (i >= 0)
        clip_weights_drop(l->w, (size_t)i);
}

static int load_vectors(struct loader *l, struct clip_block *b, int layer, struct err *e)
{
    const struct {
        enum clip_kind kind;
        float **to;
    } all[] = {{CLIP_K_LN1_W, &b->ln1_w}, {CLIP_K_LN1_B, &b->ln1_b},   {CLIP_K_LN2_W, &b->ln2_w},
               {CLIP_K_LN2_B, &b->ln2_b}, {CLIP_K_QKV_B, &b->qkv_b},   {CLIP_K_OUT_B, &b->out_b},
               {CLIP_K_FC_B, &b->fc_b},   {CLIP_K_PROJ_B, &b->proj_b}, {CLIP_K_LS1, &b->ls1},
               {CLIP_K_LS2, &b->ls2}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (load_f32(l, all[i].kind, layer, all[i].to, e))
            return -1;
    return 0;
}

static int load_block(struct loader *l, struct clip_block *b, int layer, struct err *e)
{
    const struct clip_tower *c = &l->m->tower[l->tower].cfg;
    size_t w = (size_t)c->width, mlp = (size_t)c->mlp;
    bool split = layer == c->layers - 1 && !l->m->whole;
    if (load_vectors(l, b, layer, e))
        return -1;
    if (split ? load_matrix(l, CLIP_K_QKV_W, layer, 0, w, w, &b->q, e) ||
                    load_matrix(l, CLIP_K_QKV_W, layer, w, 2 * w, w, &b->kv, e)
              : load_matrix(l, CLIP_K_QKV_W, layer, 0, 3 * w, w, &b->qkv, e))
        return -1;
    drop(l, CLIP_K_QKV_W, layer);
    if (load_matrix(l, CLIP_K_OUT_W, layer, 0, w, w, &b->out, e))
        return -1;
    drop(l, CLIP_K_OUT_W, layer);
    if (load_matrix(l, CLIP_K_FC_W, layer, 0, mlp, w, &b->fc, e))
        return -1;
    drop(l, CLIP_K_FC_W, layer);
    if (load_matrix(l, CLIP_K_PROJ_W, layer, 0, w, mlp, &b->proj, e))
        return -1;
    drop(l, CLIP_K_PROJ_W, layer);
    return 0;
}

// Room for the largest matrix, and for the pieces of load_f32.
static int host_room(struct loader *l, struct err *e)
{
    const struct clip_table *t = &l->w->table;
    l->n_host = PIECE;
    for (size_t i = 0; i < t->n; i++) {
        size_t need = t->t[i].numel;
        if (t->t[i].kind == CLIP_K_TOKEN || t->t[i].kind == CLIP_K_POS)
            need = t->t[i].shape[1];
        if (need > l->n_host)
            l->n_host = need;
    }
    l->host = mem_alloc(l->n_host, sizeof *l->host, e);
    return l->host ? 0 : -1;
}

static int load_stem(struct loader *l, struct clip_tower_model *t, struct err *e)
{
    const struct clip_config *c = &l->m->cfg;
    size_t values = 3 * (size_t)c->patch_size * (size_t)c->patch_size;
    if (load_f32(l, CLIP_K_CLASS, -1, &t->cls, e) || load_f32(l, CLIP_K_POS, -1, &t->pos, e) ||
        load_f32(l, CLIP_K_TOKEN, -1, &t->token, e) ||
        load_f32(l, CLIP_K_LN_PRE_W, -1, &t->ln_pre_w, e) ||
        load_f32(l, CLIP_K_LN_PRE_B, -1, &t->ln_pre_b, e) ||
        load_f32(l, CLIP_K_LN_FINAL_W, -1, &t->ln_final_w, e) ||
        load_f32(l, CLIP_K_LN_FINAL_B, -1, &t->ln_final_b, e) ||
        load_matrix(l, CLIP_K_HEAD, -1, 0, (size_t)c->embed_dim, (size_t)t->cfg.width, &t->head, e))
        return -1;
    drop(l, CLIP_K_HEAD, -1);
    if (l->tower == CLIP_VISION &&
        load_matrix(l, CLIP_K_PATCH, -1, 0, (size_t)t->cfg.width, values, &t->patch, e))
        return -1;
    drop(l, CLIP_K_PATCH, -1);
    return 0;
}

static int load_tower(struct loader *l, struct err *e)
{
    struct clip_tower_model *t = &l->m->tower[l->tower];
    t->cfg = l->tower == CLIP_VISION ? l->m->cfg.vision : l->m->cfg.text;
    t->blocks = mem_alloc((size_t)t->cfg.layers, sizeof *t->blocks, e);
    if (!t->blocks)
        return -1;
    t->loaded = true;
    if (load_stem(l, t, e))
        return -1;
    for (int i = 0; i < t->cfg.layers; i++)
        if (load_block(l, &t->blocks[i], i, e))
            return -1;
    return 0;
}

int clip_model_load(struct clip_model *m, struct dev *d, const struct clip_weights *w,
                    const struct clip_model_options *o, struct err *e)
{
    *m = (struct clip_model){
        .dev = d, .cfg = w->table.cfg, .whole = o->whole, .headless = o->headless};
    struct loader l = {.m = m, .w = w};
    int rc = host_room(&l, e);
    for (int i = 0; !rc && i < 2; i++) {
        l.tower = i == 0 ? CLIP_VISION : CLIP_TEXT;
        if (l.tower == CLIP_VISION ? o->vision : o->text)
            rc = load_tower(&l, e) || clip_work_init(m, l.tower, e);
    }
    free(l.host);
    if (rc)
        clip_model_release(m);
    return rc ? -1 : 0;
}

static void free_block(struct dev *d, struct clip_block *b)
{
    float *vectors[] = {b->ln1_w, b->ln1_b, b->ln2_w,  b->ln2_b, b->qkv_b,
                        b->out_b, b->fc_b,  b->proj_b, b->ls1,   b->ls2};
    struct dev_weight *weights[] = {b->qkv, b->q, b->kv, b->out, b->fc, b->proj};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
        d->op->free(d, vectors[i]);
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        d->op->weight_free(d, weights[i]);
}

static void free_tower(struct dev *d, struct clip_tower_model *t)
{
    float *vectors[] = {t->cls,      t->pos,        t->token,     t->ln_pre_w,
                        t->ln_pre_b, t->ln_final_w, t->ln_final_b};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
        d->op->free(d, vectors[i]);
    for (int i = 0; t->blocks && i < t->cfg.layers; i++)
        free_block(d, &t->blocks[i]);
    free(t->blocks);
    d->op->weight_free(d, t->patch);
    d->op->weight_free(d, t->head);
}

void clip_model_release(struct clip_model *m)
{
    if (!m->dev)
        return;
    for (int i = 0; i < 2; i++)
        if (m->tower[i].loaded) {
            free_tower(m->dev, &m->tower[i]);
            clip_work_release(m, i == 0 ? CLIP_VISION : CLIP_TEXT);
        }
    free(m->host);
    memset(m, 0, sizeof *m);
}
