// SPDX-License-Identifier: Apache-2.0
#include "model/lock.h"

static const struct clip_tower *tower_of(const struct clip_config *c, enum clip_tower_id id)
{
    return id == CLIP_VISION ? &c->vision : &c->text;
}

int clip_locks_lowest(const struct clip_locks *l, const struct clip_config *c,
                      enum clip_tower_id id)
{
    const struct clip_tower *t = tower_of(c, id);
    if (!l->tower[id])
        return -1;
    return l->unlock ? t->layers - l->unlock : clip_tower_blocks(t);
}

bool clip_locks_graded(const struct clip_locks *l, const struct clip_table *t, size_t i)
{
    const struct clip_tensor *x = &t->t[i];
    int lowest = clip_locks_lowest(l, &t->cfg, x->tower);
    switch (x->kind) {
    case CLIP_K_CLASS:
    case CLIP_K_PATCH:
    case CLIP_K_PATCH_B:
    case CLIP_K_TOKEN:
    case CLIP_K_POS:
    case CLIP_K_LN_PRE_W:
    case CLIP_K_LN_PRE_B:
        return lowest < 0;
    case CLIP_K_LN_FINAL_W:
    case CLIP_K_LN_FINAL_B:
    case CLIP_K_HEAD:
    case CLIP_K_HEAD_B:
        return lowest < clip_tower_blocks(tower_of(&t->cfg, x->tower));
    case CLIP_K_LOGIT_SCALE:
    case CLIP_K_LOGIT_BIAS:
        return true;
    default:
        return x->layer >= lowest;
    }
}

static bool of_norm(enum clip_kind k)
{
    switch (k) {
    case CLIP_K_LN_PRE_W:
    case CLIP_K_LN_PRE_B:
    case CLIP_K_LN_FINAL_W:
    case CLIP_K_LN_FINAL_B:
    case CLIP_K_LN1_W:
    case CLIP_K_LN1_B:
    case CLIP_K_ATT_LN_W:
    case CLIP_K_ATT_LN_B:
    case CLIP_K_LN2_W:
    case CLIP_K_LN2_B:
    case CLIP_K_MLP_LN_W:
    case CLIP_K_MLP_LN_B:
    case CLIP_K_LN_Q_W:
    case CLIP_K_LN_Q_B:
        return true;
    default:
        return false;
    }
}

bool clip_locked(const struct clip_locks *l, const struct clip_table *t, size_t i)
{
    return !clip_locks_graded(l, t, i) || (l->norms && of_norm(t->t[i].kind));
}

size_t clip_table_room(const struct clip_table *t, size_t i)
{
    return (i + 1 < t->n ? t->t[i + 1].offset : t->n_flat) - t->t[i].offset;
}

size_t clip_locks_n_grad(const struct clip_locks *l, const struct clip_table *t)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n; i++)
        n += clip_locks_graded(l, t, i) ? clip_table_room(t, i) : 0;
    return n;
}

size_t clip_locks_n_trained(const struct clip_locks *l, const struct clip_table *t)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n; i++)
        n += clip_locked(l, t, i) ? 0 : clip_table_room(t, i);
    return n;
}
