// SPDX-License-Identifier: Apache-2.0
// What a step needs on the device, allocated and given back.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "losses/ranks.h"
#include "train/choose.h"
#include "train/groups.h"
#include "train/shares.h"
#include "train/step.h"

// With ranks each steps a share of the student.
static int deal(struct train_core *c, struct err *e)
{
    size_t ranks = ranks_size(c->set.comm);
    c->optim.comm = c->set.comm;
    c->optim.vector = c->model.grad;
    if (ranks == 1)
        return 0;
    if (!(c->cut = mem_alloc(ranks + 1, sizeof *c->cut, e)))
        return -1;
    train_shares(&c->table, &c->set.locks, ranks, c->d->dot_run, c->cut);
    c->optim.cut = c->cut;
    return 0;
}

static int add_slots(struct train_core *c, struct err *e)
{
    if (deal(c, e) || train_groups_slots(c, e))
        return -1;
    if (c->head.d && !c->head.set.frozen) {
        struct cluster_head *h = &c->head;
        struct optim_slot *s =
            optim_add(&c->optim, "centroids", h->k_own * h->dim, h->w, h->dw, true, e);
        if (!s)
            return -1;
        s->cols = h->dim;
        s->rows = h->all ? NULL : h->ids_dev;
        s->begin = h->begin;
        s->parts = h->parts;
        s->part0 = h->part0;
        s->own = h->own;
    }
    size_t n = c->project.dim * c->project.dim_t;
    for (int i = 0; i < 2 && c->project.d; i++)
        if (!optim_add(&c->optim, i ? "project.text" : "project.image", n, c->project.map[i],
                       c->project.grad[i], true, e))
            return -1;
    return 0;
}

static int alloc_rows(struct train_core *c, struct err *e)
{
    struct dev *d = c->d;
    size_t b = c->set.batch, row = b * c->dim * sizeof(float);
    for (int i = 0; i < 2; i++) {
        if (!(c->z[i] = d->op->alloc(d, row, e)) || !(c->u[i] = d->op->alloc(d, row, e)) ||
            !(c->du[i] = d->op->alloc(d, row, e)) ||
            !(c->norm[i] = d->op->alloc(d, b * sizeof(float), e)))
            return -1;
        for (size_t m = 0; m < (c->set.teachers ? c->set.teachers : 1); m++) {
            size_t dim = m ? c->set.dim_of[m] : c->set.dim_t;
            if (dim && !(c->teacher[m][i] = d->op->alloc(d, b * dim * sizeof(float), e)))
                return -1;
        }
    }
    return (c->teacher_norm = d->op->alloc(d, b * sizeof(float), e)) ? 0 : -1;
}

// Allocates the towers' memory for a whole piece of the longest captions, so that no step
// allocates.
static int reserve(struct train_core *c, struct err *e)
{
    const struct clip_config *cfg = &c->table.cfg;
    size_t most = 0;
    for (int i = 0; i < 2; i++) {
        if (!train_has_tower(&c->set, i))
            continue;
        bool drops = i == CLIP_VISION && c->keep, ends = drops && c->set.dropout_until;
        size_t rows = drops && !ends ? c->piece * clip_image_positions(cfg, c->keep)
                                     : clip_tower_rows(cfg, (enum clip_tower_id)i, c->piece);
        most = rows > most ? rows : most;
        if (clip_tape_room(&c->model, &c->tape[i], (enum clip_tower_id)i, c->piece, rows,
                           drops ? c->keep : 0, e) ||
            (ends && clip_tape_room(&c->model, &c->tape[i], CLIP_VISION, c->piece, rows, 0, e)))
            return -1;
    }
    if (c->piece == c->set.batch && !(c->set.select > 0) && train_has_tower(&c->set, CLIP_VISION) &&
        !(c->ahead = c->d->op->alloc(c->d, c->piece * clip_config_picture_bytes(cfg), e)))
        return -1;
    return clip_scratch_room(&c->model, c->piece, most, e);
}

static int open_part_sums(struct train_core *c, struct err *e)
{
    size_t parts = train_parts(&c->set) / ranks_size(c->set.comm),
           map = c->project.dim * c->project.dim_t;
    if (part_sum_open(&c->sum, c->d, c->model.n_grad, parts, e))
        return -1;
    for (int i = 0; i < 2 && c->project.d; i++)
        if (part_sum_open(&c->map_sum[i], c->d, map, parts, e))
            return -1;
    return 0;
}

static int open_choose(struct train_core *c, struct err *e)
{
    if (!(c->set.select > 0))
        return 0;
    c->choose = mem_alloc(1, sizeof *c->choose, e);
    return c->choose ? train_choose_open(c->choose, c, e) : -1;
}

static int open_all(struct train_core *c, const struct clip_config *cfg, const float *centroids,
                    struct err *e)
{
    struct train_set *s = &c->set;
    s->losses.parts = s->cluster.parts = train_parts(s);
    s->losses.comm = s->cluster.comm = s->comm;
    s->cluster.soft = losses_soft(&s->losses);
    if (clip_table_init(&c->table, cfg, e) ||
        clip_grad_init(&c->model, c->d, &c->table, &s->locks, s->recompute, e) ||
        losses_open(&s->losses, c->d, s->batch, s->n_label, e))
        return -1;
    if (s->k && cluster_head_open(&c->head, c->d, &s->cluster, centroids, s->k, s->dim_t, s->batch,
                                  s->n_label, e))
        return -1;
    if (s->project && train_project_open(&c->project, c->d, c->dim, s->dim_t, s->batch, s->seed, e))
        return -1;
    if (s->ema > 0 && train_average_open(&c->average, c->d, c->table.n_flat, s->ema, e))
        return -1;
    size_t patches = (size_t)(cfg->grid * cfg->grid);
    if ((c->keep = train_keep(s, cfg)) &&
        !(c->pick = mem_alloc(c->piece * c->keep + patches, sizeof *c->pick, e)))
        return -1;
    optim_init(&c->optim, c->d, &s->optim);
    return add_slots(c, e) || open_part_sums(c, e) || alloc_rows(c, e) ||
                   (c->d->reserve && reserve(c, e)) || open_choose(c, e)
               ? -1
               : 0;
}

int train_core_dealt(const struct train_set *set, struct err *e)
{
    size_t ranks = ranks_size(set->comm);
    if (ranks > 1 && set->select > 0)
        return err_set(e, "--select is for one rank, not for %zu", ranks);
    if (ranks > 1 && set->accumulate && (set->accumulate % ranks || set->batch % set->accumulate))
        return err_set(e,
                       "a batch of %zu in %zu pieces cannot be dealt to %zu ranks: the ranks must "
                       "divide the pieces, and the pieces the batch",
                       set->batch, set->accumulate, ranks);
    return 0;
}

int train_core_check(const struct train_set *set, size_t dim, struct err *e)
{
    if (train_core_dealt(set, e))
        return -1;
    if (set->dim_t && !set->project && set->dim_t != dim &&
        (losses_needs(&set->losses) & LOSS_WIDTH))
        return err_set(e,
                       "the student's embeddings have %zu columns, the teacher's %zu, and "
                       "--no-project was given",
                       dim, set->dim_t);
    return 0;
}

int train_core_open(struct train_core *c, struct dev *d, const struct clip_config *cfg,
                    const struct train_set *set, const float *centroids, struct err *e)
{
    memset(c, 0, sizeof *c);
    c->d = d;
    c->set = *set;
    c->dim = (size_t)cfg->embed_dim;
    if (!set->accumulate || set->accumulate > set->batch)
        return err_set(e, "a batch of %zu cannot be in %zu pieces", set->batch, set->accumulate);
    if (train_core_check(set, c->dim, e))
        return -1;
    c->piece = train_piece(set);
    c->part = set->batch / train_parts(set);
    c->own = set->batch / ranks_size(set->comm);
    c->first = c->own * ranks_rank(set->comm);
    if (open_all(c, cfg, centroids, e)) {
        train_core_close(c);
        return -1;
    }
    return 0;
}

void train_core_close(struct train_core *c)
{
    if (!c->d)
        return;
    for (int i = 0; i < 2; i++) {
        void *all[] = {c->z[i], c->u[i], c->du[i], c->norm[i]};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            if (all[k])
                c->d->op->free(c->d, all[k]);
        for (size_t m = 0; m < LOSS_TEACHERS_MAX; m++)
            if (c->teacher[m][i])
                c->d->op->free(c->d, c->teacher[m][i]);
        if (c->tape[i].net)
            clip_tape_release(&c->model, &c->tape[i]);
    }
    if (c->teacher_norm)
        c->d->op->free(c->d, c->teacher_norm);
    if (c->ahead)
        c->d->op->free(c->d, c->ahead);
    if (c->optim.d)
        optim_release(&c->optim);
    part_sum_close(&c->sum);
    for (int i = 0; i < 2; i++)
        part_sum_close(&c->map_sum[i]);
    train_project_close(&c->project);
    train_average_close(&c->average);
    free(c->pick);
    if (c->choose)
        train_choose_close(c->choose);
    free(c->choose);
    free(c->cut);
    cluster_head_close(&c->head);
    losses_close(&c->set.losses);
    clip_grad_release(&c->model);
    clip_table_release(&c->table);
    memset(c, 0, sizeof *c);
}
