// SPDX-License-Identifier: Apache-2.0
// Starting a model from a folder (model/weights.h).
#include <stdlib.h>
#include <string.h>

#include "model/weights.h"
#include "base/mem.h"

static int differ(const char *what, double from, double to, struct err *e)
{
    return from == to ? 0 : err_set(e, "its %s is %g, this model's %g", what, from, to);
}

static int compare_tower(const struct clip_tower *a, const struct clip_tower *b, const char *name,
                         struct err *e)
{
    const struct {
        const char *what;
        double from, to;
    } same[] = {
        {"layers", a->layers, b->layers},
        {"width", a->width, b->width},
        {"heads", a->heads, b->heads},
        {"MLP width", a->mlp, b->mlp},
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
        {"projection", !a->no_head, !b->no_head},
        {"projection's bias", a->head_bias, b->head_bias},
        {"causal mask", !a->no_mask, !b->no_mask},
        {"kind of token that is read", a->read, b->read},
        {"class token behind the text", a->class_last, b->class_last},
    };
    if (a->act != b->act)
        return err_set(e, "its %s tower has %s, this model's %s", name, clip_act_name(a->act),
                       clip_act_name(b->act));
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        if (differ(same[i].what, same[i].from, same[i].to, e))
            return err_wrap(e, "%s tower", name);
    return 0;
}

static int compare(const struct clip_config *a, const struct clip_config *b, struct err *e)
{
    if (a->has_logit_bias && !b->has_logit_bias)
        return err_set(e, "it has a logit_bias, this model has none");
    return compare_tower(&a->vision, &b->vision, "vision", e) ||
                   compare_tower(&a->text, &b->text, "text", e) ||
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
