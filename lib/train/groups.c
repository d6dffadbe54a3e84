// SPDX-License-Identifier: Apache-2.0
#include "train/groups.h"

#include <stdio.h>

struct param_group {
    size_t tensors, values;
};

int train_groups_check(const struct clip_config *cfg, const struct train_set *s, struct err *e)
{
    const struct clip_locks *l = &s->locks;
    bool image = l->tower[CLIP_VISION];
    int layers = image ? cfg->vision.layers : cfg->text.layers;
    if (l->unlock <= layers)
        return 0;
    return err_set(e, "--unlock %d: the %s tower has %d blocks", l->unlock,
                   image ? "image" : "text", layers);
}

static void count(struct param_group *g, size_t tensors, size_t values)
{
    g->tensors += tensors;
    g->values += values;
}

int train_groups_say(const struct clip_config *cfg, const struct train_set *s, struct log *log,
                     struct err *e)
{
    struct param_group decay = {0}, plain = {0}, locked = {0};
    struct clip_table t;
    if (clip_table_init(&t, cfg, e))
        return -1;
    for (size_t i = 0; i < t.n; i++) {
        bool is = clip_locked(&s->locks, &t, i);
        count(is ? &locked : t.t[i].rank >= 2 ? &decay : &plain, 1, t.t[i].numel);
    }
    clip_table_release(&t);
    if (s->project)
        count(&decay, 2, 2 * (size_t)cfg->embed_dim * s->dim_t);
    if (s->k)
        count(s->cluster.frozen ? &locked : &decay, 1, s->k * s->dim_t);
    log_note(log,
             "parameters: %zu in %zu tensors with weight decay, %zu in %zu without, %zu in %zu "
             "locked",
             decay.values, decay.tensors, plain.values, plain.tensors, locked.values,
             locked.tensors);
    return 0;
}
