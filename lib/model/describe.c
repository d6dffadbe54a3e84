// SPDX-License-Identifier: Apache-2.0
#include "model/describe.h"

#include <stdio.h>
#include <string.h>

#include "model/model.h"
#include "model/table.h"

static const char *act_of(const struct clip_tower *t)
{
    return t->swiglu ? "swiglu" : clip_act_name(t->act);
}

static const char *pool_of(const struct clip_tower *t, bool vision)
{
    if (t->pool == CLIP_POOL_MAP)
        return "attention pool with MLP";
    if (t->pool == CLIP_POOL_QUERY)
        return "attention pool";
    if (t->pool == CLIP_POOL_MEAN)
        return "mean of patches";
    if (vision || t->class_last)
        return "class token";
    return t->read == CLIP_READ_LAST    ? "last token"
           : t->read == CLIP_READ_FIRST ? "first token"
                                        : "end of text";
}

static void sizes(const struct clip_tower *t, const char *before, const char *behind, char to[256])
{
    snprintf(to, 256, "%s, %d blocks%s of %d, %d heads of %d, MLP %d %s, eps %g%s%s%s, %s", before,
             t->layers, t->post_norm ? " (norms behind)" : "", t->width, t->heads, t->head_width,
             t->mlp, act_of(t), t->eps, t->rope.grid > 0 ? ", rotary" : "",
             t->inner_norm ? ", inner norms" : "", t->ls_init > 0 ? ", layer scale" : "", behind);
}

static int count(const struct clip_config *c, struct clip_numbers *n, struct err *e)
{
    struct clip_table t;
    if (clip_table_init(&t, c, e))
        return -1;
    size_t all = t.n_params, text = 0;
    for (size_t i = 0; i < t.n; i++)
        text += t.t[i].tower == CLIP_TEXT ? t.t[i].numel : 0;
    n->parameters[CLIP_TEXT] = text;
    n->parameters[CLIP_VISION] = all - text;
    clip_table_release(&t);
    return 0;
}

int clip_describe(const struct clip_config *c, struct clip_numbers *n, struct err *e)
{
    char before[64];
    memset(n, 0, sizeof *n);
    if (count(c, n, e))
        return -1;
    for (int i = 0; i < 2; i++) {
        enum clip_tower_id id = i ? CLIP_TEXT : CLIP_VISION;
        size_t tokens = (size_t)clip_config_text_positions(c);
        n->gflop[id] = clip_model_flop(c, id, tokens, true) / 1e9;
        n->cheap[id] = clip_model_flop(c, id, tokens, false) / 1e9;
    }
    snprintf(before, sizeof before, "%d pixels in patches of %d", c->image_size, c->patch_size);
    sizes(&c->vision, before, pool_of(&c->vision, true), n->text[CLIP_VISION]);
    snprintf(before, sizeof before, "%d tokens of %d, %s", c->context, c->vocab,
             c->text.no_mask ? "no mask" : "causal");
    sizes(&c->text, before, pool_of(&c->text, false), n->text[CLIP_TEXT]);
    return 0;
}
