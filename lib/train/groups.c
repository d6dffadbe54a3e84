// SPDX-License-Identifier: Apache-2.0
#include "train/groups.h"

#include <math.h>

struct param_group {
    size_t tensors, values;
};

static int layers_of(const struct clip_config *cfg, enum clip_tower_id id)
{
    return id == CLIP_VISION ? cfg->vision.layers : cfg->text.layers;
}

int train_groups_check(const struct clip_config *cfg, const struct train_set *s, struct err *e)
{
    const struct clip_locks *l = &s->locks;
    bool image = l->tower[CLIP_VISION];
    int layers = layers_of(cfg, image ? CLIP_VISION : CLIP_TEXT);
    if (l->unlock <= layers)
        return 0;
    return err_set(e, "--unlock %d: the %s tower has %d blocks", l->unlock,
                   image ? "image" : "text", layers);
}

static int depth(const struct clip_table *t, size_t i)
{
    const struct clip_tensor *x = &t->t[i];
    int layers = layers_of(&t->cfg, x->tower);
    return x->layer >= 0 ? layers - x->layer : x->kind < CLIP_K_LN_FINAL_W ? layers + 1 : 0;
}

double train_groups_rate(const struct clip_table *t, size_t i, double decay)
{
    return decay > 0 ? pow(decay, depth(t, i)) : 1;
}

int train_groups_slots(struct train_core *c, struct err *e)
{
    for (size_t i = 0; i < c->table.n; i++) {
        const struct clip_tensor *t = &c->table.t[i];
        if (clip_locked(&c->set.locks, &c->table, i))
            continue;
        struct optim_slot *s = optim_add_dealt(&c->optim, t->name, c->model.at[i], t->numel,
                                               c->model.flat + t->offset, t->rank >= 2, e);
        if (!s)
            return -1;
        s->rate = train_groups_rate(&c->table, i, c->set.layer_decay);
    }
    return 0;
}

static void say_rates(const struct clip_config *cfg, double decay, struct log *log)
{
    double least[2];
    for (int i = 0; i < 2; i++)
        least[i] = pow(decay, layers_of(cfg, (enum clip_tower_id)i) + 1);
    if (decay > 0 && decay < 1)
        log_note(log,
                 "rates: 1 behind a tower's blocks, times %g a block, down to %.3g of the image "
                 "tower's embeddings and %.3g of the text tower's",
                 decay, least[CLIP_VISION], least[CLIP_TEXT]);
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
    say_rates(cfg, s->layer_decay, log);
    if (s->ema > 0)
        log_note(log, "an average of the weights is kept: %.9g of it stays in a step", s->ema);
    return 0;
}
