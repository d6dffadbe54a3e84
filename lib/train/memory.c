// SPDX-License-Identifier: Apache-2.0
// How a step is divided, and what it takes.
#include <string.h>

#include "losses/ranks.h"
#include "train/choose.h"
#include "train/drop.h"
#include "train/shares.h"
#include "train/step.h"

static size_t larger(int a, int b)
{
    return (size_t)(a > b ? a : b);
}

size_t train_piece(const struct train_set *s)
{
    return s->batch / s->accumulate + (s->batch % s->accumulate != 0);
}

size_t train_keep(const struct train_set *s, const struct clip_config *c)
{
    return train_drop_keep(s->patch_dropout, (size_t)(c->grid * c->grid));
}

size_t train_parts(const struct train_set *s)
{
    size_t ranks = ranks_size(s->comm), n = 1,
           most = s->parts_most ? s->parts_most : TRAIN_PARTS_MOST;
    most = most < ranks ? ranks : most;
    if (s->batch % s->accumulate)
        return 1;
    if (ranks & (ranks - 1))
        return s->accumulate % ranks ? 1 : ranks;
    while (2 * n <= most && s->accumulate % (2 * n) == 0)
        n *= 2;
    return n;
}

void train_memory(const struct clip_table *t, const struct train_set *s, const struct dev *d,
                  struct train_memory *m)
{
    size_t act_size = d->act_size;
    const struct clip_config *c = &t->cfg;
    size_t piece = train_piece(s), dim = (size_t)c->embed_dim, levels;
    struct losses losses = s->losses;
    struct cluster_set cluster = s->cluster;
    losses.parts = cluster.parts = train_parts(s);
    losses.comm = cluster.comm = s->comm;
    cluster.soft = losses_soft(&s->losses);
    levels = part_sum_levels(train_parts(s) / ranks_size(s->comm));
    size_t rows[2] = {clip_tower_rows(c, CLIP_VISION, piece), clip_tower_rows(c, CLIP_TEXT, piece)};
    size_t keep = train_keep(s, c);
    if (keep && !s->dropout_until) // all steps
        rows[0] = piece * clip_image_positions(c, keep);
    size_t longest = rows[0] > rows[1] ? rows[0] : rows[1];
    memset(m, 0, sizeof *m);
    m->parameters = clip_grad_bytes(t, &s->locks, act_size, d->weight_copies);
    m->parameters += levels * clip_locks_n_grad(&s->locks, t) * sizeof(float);
    size_t share = train_share_most(t, &s->locks, ranks_size(s->comm), d->dot_run);
    m->optimiser = (2 * share + (s->ema > 0 ? t->n_flat : 0)) * sizeof(float);
    for (int i = 0; i < 2; i++) {
        enum clip_tower_id id = (enum clip_tower_id)i;
        if (!train_has_tower(s, i))
            continue;
        m->activations +=
            clip_tape_bytes(c, id, piece, rows[i], i == CLIP_VISION ? keep : 0,
                            clip_locks_lowest(&s->locks, c, id), s->recompute, act_size);
    }
    m->activations += clip_scratch_bytes(c, piece, longest, act_size);
    m->losses = losses_bytes(&losses, s->batch, s->n_label) +
                s->batch * (8 * dim + 2 * s->dim_t + 2) * sizeof(float);
    for (size_t i = 1; i < s->teachers; i++)
        m->losses += s->batch * 2 * s->dim_of[i] * sizeof(float);
    if (s->project)
        m->losses += train_project_bytes(dim, s->dim_t, s->batch) +
                     2 * levels * dim * s->dim_t * sizeof(float);
    if (s->k)
        m->clusters = cluster_head_bytes(&cluster, s->k, s->dim_t, s->batch, s->n_label);
    size_t summed = ranks_bytes_at(s->comm, share),
           clusters = ranks_bytes(s->comm, s->k * s->dim_t);
    m->own = d->own_bytes + (summed > clusters ? summed : clusters);
    if (d->reserve && s->accumulate == 1 &&
        train_has_tower(s, CLIP_VISION)) // the next step's pictures
        m->activations += piece * clip_config_picture_bytes(c);
    if (d->reserve) // what operations take for sums over rows and for attention's statistics
        m->own += longest * (4 * larger(c->vision.heads, c->text.heads) +
                             larger(c->vision.mlp, c->text.mlp) / 16);
    m->losses += train_choose_bytes(s, c);
    m->aside = s->aside;
    m->total =
        m->parameters + m->optimiser + m->activations + m->losses + m->clusters + m->own + m->aside;
}
