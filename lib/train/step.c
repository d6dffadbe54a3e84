// SPDX-License-Identifier: Apache-2.0
#include "train/step.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "device/profile.h"
#include "losses/ranks.h"
#include "train/choose.h"
#include "train/drop.h"
#include "train/groups.h"

static const double SCALE_MAX = 100; // exp(logit_scale) stays in [1, SCALE_MAX], as open_clip's
static const float BIAS_START = -10; // SigLIP's b, where the model has none to train

static float *scalar(const struct train_core *c, enum clip_kind kind)
{
    int i = clip_table_find(&c->table, CLIP_TEXT, kind, -1);
    return i < 0 ? NULL : c->model.flat + c->table.t[i].offset;
}

// Brings logit_scale (clamped) and logit_bias to the host, once the device has been waited for.
static void fetch_scalars(struct train_core *c)
{
    const struct dev_ops *op = c->d->op;
    float *scale = scalar(c, CLIP_K_LOGIT_SCALE);
    float *bias = scalar(c, CLIP_K_LOGIT_BIAS);
    double most = c->set.scale_max > 0 ? c->set.scale_max : SCALE_MAX;
    op->clamp(c->d, 1, 0, (float)log(most), scale);
    op->fetch(c->d, &c->logit_scale, scale, sizeof *scale);
    c->logit_bias = BIAS_START;
    if (bias)
        op->fetch(c->d, &c->logit_bias, bias, sizeof *bias);
}

int train_core_load(struct train_core *c, const float *flat, struct err *e)
{
    if (clip_grad_upload(&c->model, flat, e))
        return -1;
    train_average_start(&c->average, c->model.flat);
    fetch_scalars(c);
    return c->d->op->sync(c->d, e);
}

// Patches of each picture in this step, drawn for n of the batch from row `at` on; 0: all.
static size_t draw_patches(struct train_core *c, const struct train_batch *b, size_t at, size_t n)
{
    const struct clip_config *cfg = &c->table.cfg;
    size_t patches = (size_t)(cfg->grid * cfg->grid), keep = c->keep;
    uint64_t until = c->set.dropout_until;
    if (!keep || c->whole || (until && c->optim.step >= until))
        return 0;
    for (size_t i = 0; i < n; i++)
        train_drop_pick(b->draw[at - b->first + i], patches, keep, c->pick + i * keep,
                        c->pick + c->piece * keep);
    return keep;
}

int train_core_forward(struct train_core *c, const struct train_batch *b, int tower, size_t at,
                       size_t n, float *z, struct err *e)
{
    const struct clip_config *cfg = &c->table.cfg;
    if (tower == CLIP_TEXT)
        return clip_grad_texts(&c->model, n, b->tokens + (at - b->first) * (size_t)cfg->context,
                               &c->tape[tower], z, e);
    const uint8_t *pixels = b->pixels + (at - b->first) * clip_config_picture_bytes(cfg);
    size_t keep = draw_patches(c, b, at, n);
    if (c->has_ahead) { // they came during the last step
        uint8_t *here = c->ahead;
        c->ahead = c->tape[tower].pixels;
        c->tape[tower].pixels = here;
        c->has_ahead = false;
        pixels = NULL;
    }
    return clip_grad_images(&c->model, n, pixels, keep, c->pick, &c->tape[tower], z, e);
}

// Rows of the piece that begins at row `at`.
static size_t piece_rows(const struct train_core *c, const struct train_batch *b, size_t at)
{
    return b->n - at < c->piece ? b->n - at : c->piece;
}

// The end of this rank's rows.
static size_t rows_end(const struct train_core *c, const struct train_batch *b)
{
    return b->n < c->first + c->own ? b->n : c->first + c->own;
}

// Runs a piece through one tower.
static int forward(struct train_core *c, const struct train_batch *b, int tower, size_t at,
                   size_t n, struct err *e)
{
    return train_core_forward(c, b, tower, at, n, c->z[tower] + at * c->dim, e);
}

// The unit embeddings of one tower for this rank's rows. Where the batch was chosen and its pieces
// run again for their gradients, those that it was chosen by.
static int embed_tower(struct train_core *c, const struct train_batch *b, int i, struct err *e)
{
    struct dev *d = c->d;
    size_t end = rows_end(c, b), n = end - c->first, first = c->first * c->dim;
    struct train_choose *s = c->choose;
    if (s && s->at_hand && b->n > c->piece) {
        d->op->gather(d, b->n, c->dim, s->u[i], c->dim, s->index, c->u[i]);
        d->op->gather(d, b->n, 1, s->norm[i], 1, s->index, c->norm[i]);
        return 0;
    }
    for (size_t at = c->first; at < end; at += c->piece)
        if (forward(c, b, i, at, piece_rows(c, b, at), e))
            return -1;
    d->op->unit(d, n, c->dim, c->z[i] + first, c->u[i] + first, c->norm[i] + c->first);
    return 0;
}

// Computes the unit embeddings of this rank's rows, then gathers those of the whole batch. Texts
// come first: the device computes them while the pictures are uploaded.
static int embed(struct train_core *c, const struct train_batch *b, struct err *e)
{
    size_t end = rows_end(c, b), n = end - c->first, first = c->first * c->dim;
    for (int i = 1; i >= 0; i--) {
        if (!train_has_tower(&c->set, i))
            continue;
        if (embed_tower(c, b, i, e))
            return -1;
        c->d->op->zero(c->d, c->du[i] + first, n * c->dim * sizeof(float));
        if (ranks_gather(c->d, c->set.comm, i ? "texts" : "images", c->u[i],
                         n * c->dim * sizeof(float), e))
            return -1;
    }
    return 0;
}

// Normalised again: after storage as float16 the length is off by up to 2e-4.
static void upload_teacher(struct train_core *c, const struct train_batch *b)
{
    struct dev *d = c->d;
    for (size_t i = 0; i < 2 * LOSS_TEACHERS_MAX; i++) {
        size_t m = i / 2, dim = m ? c->set.dim_of[m] : c->set.dim_t;
        const float *rows = m ? b->others[m - 1][i % 2] : i ? b->tt : b->tv;
        float *to = c->teacher[m][i % 2];
        if (!rows || !to)
            continue;
        d->op->upload(d, to, rows, b->n * dim * sizeof *rows);
        d->op->unit(d, b->n, dim, to, to, c->teacher_norm);
    }
}

// What the affinity term takes.
static size_t teachers_of(const struct train_core *c, struct loss_teacher to[LOSS_TEACHERS_MAX])
{
    size_t n = c->set.teachers ? c->set.teachers : 1;
    for (size_t i = 0; i < n; i++)
        to[i] = (struct loss_teacher){i ? c->set.dim_of[i] : c->set.dim_t, c->teacher[i][0],
                                      c->teacher[i][1], c->set.scale_of[i]};
    return n;
}

// Computes the losses of the batch, and the gradients by the unit embeddings in c->du.
static int queue_losses(struct train_core *c, const struct train_batch *b, struct loss_grads *g,
                        struct err *e)
{
    struct train_project *p = c->project.d ? &c->project : NULL;
    struct loss_teacher teacher[LOSS_TEACHERS_MAX];
    struct loss_batch l = {.n = b->n, .part = c->part, .dim = c->dim, .dim_t = c->set.dim_t};
    l.v = l.pv = train_has_tower(&c->set, CLIP_VISION) ? c->u[0] : NULL;
    l.t = l.pt = train_has_tower(&c->set, CLIP_TEXT) ? c->u[1] : NULL;
    l.tv = b->tv ? c->teacher[0][0] : NULL;
    l.tt = b->tt ? c->teacher[0][1] : NULL;
    l.n_teacher = teachers_of(c, teacher);
    l.teacher = teacher;
    l.label = b->labels;
    l.n_label = c->set.n_label;
    l.scale = expf(c->logit_scale);
    l.bias = c->logit_bias;
    l.seed = c->set.seed;
    l.step = c->optim.step;
    l.w = c->head.d ? &c->head : NULL;
    *g = (struct loss_grads){.dv = c->du[0], .dt = c->du[1], .dpv = c->du[0], .dpt = c->du[1]};
    dev_profile_at(c->d, "losses", -1, false);
    upload_teacher(c, b);
    for (int i = 0; i < 2 && p; i++) {
        for (size_t at = c->first; at < rows_end(c, b); at += c->piece)
            train_project_forward(p, i, at, piece_rows(c, b, at), c->u[i]);
        if (ranks_gather(c->d, c->set.comm, "projected rows", p->unit[i],
                         c->own * c->set.dim_t * sizeof(float), e))
            return -1;
    }
    if (p) {
        l.pv = p->unit[0];
        l.pt = p->unit[1];
        g->dpv = p->dunit[0];
        g->dpt = p->dunit[1];
    }
    return losses_queue(&c->set.losses, &l, g, e);
}

// Adds the parameters' gradients from the rows of a piece to those of its part.
static int piece_back(struct train_core *c, const struct train_batch *b, size_t at, struct err *e)
{
    struct dev *d = c->d;
    size_t n = piece_rows(c, b, at), first = at * c->dim;
    bool again = b->n > c->piece, begins = at % c->part == 0;
    if (begins) {
        d->op->zero(d, c->model.grad, c->model.n_grad * sizeof(float));
        losses_scalars(&c->set.losses, at / c->part,
                       clip_param_grad(&c->model, CLIP_TEXT, CLIP_K_LOGIT_SCALE, -1),
                       clip_param_grad(&c->model, CLIP_TEXT, CLIP_K_LOGIT_BIAS, -1));
    }
    for (int i = 0; i < 2; i++) {
        if (c->project.d)
            train_project_back(&c->project, i, begins, at, n, c->u[i], c->du[i]);
        if (!train_has_tower(&c->set, i) || !clip_grad_goes(&c->model, (enum clip_tower_id)i))
            continue;
        d->op->unit_bwd(d, n, c->dim, c->u[i] + first, c->norm[i] + at, c->du[i] + first,
                        c->du[i] + first);
        if ((again && forward(c, b, i, at, n, e)) ||
            clip_grad_back(&c->model, &c->tape[i], c->du[i] + first, e))
            return -1;
    }
    return 0;
}

// Of the student's gradients each rank gets the sum of its own share, of the maps' all.
static int sum_ranks(struct train_core *c, struct err *e)
{
    struct comm *comm = c->set.comm;
    size_t map = c->project.dim * c->project.dim_t;
    dev_profile_at(c->d, "sums", -1, false);
    if (c->cut && ranks_sum_at(c->d, comm, "gradients", c->model.grad, c->cut, e))
        return -1;
    for (int i = 0; i < 2 && c->project.d; i++)
        if (ranks_sum(c->d, comm, "gradients of maps", c->project.grad[i], map, false, e))
            return -1;
    return 0;
}

static int queue_gradient(struct train_core *c, const struct train_batch *b, struct loss_grads *g,
                          struct err *e)
{
    if (!b->n || b->n > c->set.batch)
        return err_set(e, "a batch of %zu where %zu is the most", b->n, c->set.batch);
    if (b->n != c->set.batch && ranks_size(c->set.comm) > 1)
        return err_set(e, "a batch of %zu where ranks have %zu", b->n, c->set.batch);
    if (c->keep && !b->draw)
        return err_set(e, "patch dropout needs a draw for each sample");
    if (embed(c, b, e) || queue_losses(c, b, g, e))
        return -1;
    if (c->choose)
        c->choose->at_hand = false;
    for (size_t at = c->first, end = rows_end(c, b); at < end; at += c->piece) {
        bool last = end - at <= c->piece;
        if (piece_back(c, b, at, e))
            return -1;
        if (!last && (at + c->piece) % c->part)
            continue;
        part_sum_take(&c->sum, c->model.grad, last);
        for (int i = 0; i < 2 && c->project.d; i++)
            part_sum_take(&c->map_sum[i], c->project.grad[i], last);
    }
    return sum_ranks(c, e);
}

static int queue_update(struct train_core *c, struct err *e)
{
    dev_profile_at(c->d, "update", -1, false);
    struct optim_slot *s = c->head.d ? optim_find(&c->optim, "centroids") : NULL;
    const double *check;
    size_t n_check = losses_checks(&c->set.losses, &check);
    if (s)
        s->n_rows = c->head.s;
    if (optim_queue(&c->optim, n_check, check, e))
        return -1;
    fetch_scalars(c);
    clip_grad_refresh(&c->model);
    return 0;
}

// Waits for the queued work, also after a failure: otherwise it could still write into memory that
// is freed.
static int wait_for(struct train_core *c, int rc, struct err *e)
{
    struct err ignored;
    return c->d->op->sync(c->d, rc ? &ignored : e) || rc ? -1 : 0;
}

static void counted(struct train_core *c, double *norm)
{
    bool taken = optim_taken(&c->optim);
    if (taken)
        train_average_take(&c->average, c->model.flat);
    *norm = taken || !isfinite(c->optim.found.norm) ? c->optim.found.norm : (double)NAN;
}

int train_core_gradient(struct train_core *c, const struct train_batch *b, double *loss,
                        struct err *e)
{
    struct loss_grads g;
    if (wait_for(c, queue_gradient(c, b, &g, e), e))
        return -1;
    *loss = losses_values(&c->set.losses, &g);
    return 0;
}

// Pictures that came ahead are the next step's.
int train_core_losses(struct train_core *c, const struct train_batch *b, double *loss,
                      struct err *e)
{
    struct loss_grads g;
    bool ahead = c->has_ahead;
    c->has_ahead = false;
    c->whole = true;
    if (c->choose)
        c->choose->at_hand = false;
    int rc = wait_for(c, embed(c, b, e) || queue_losses(c, b, &g, e) ? -1 : 0, e);
    c->has_ahead = ahead;
    c->whole = false;
    if (!rc)
        *loss = losses_values(&c->set.losses, &g);
    return rc;
}

int train_core_swap(struct train_core *c, struct err *e)
{
    if (train_average_swap(&c->average, c->model.flat, &c->table, &c->set.locks, e))
        return -1;
    clip_grad_refresh(&c->model);
    fetch_scalars(c);
    return wait_for(c, 0, e);
}

int train_core_update(struct train_core *c, double *norm, struct err *e)
{
    if (wait_for(c, queue_update(c, e), e))
        return -1;
    counted(c, norm);
    return 0;
}

// Whether the loss of what is queued is above the limit, which only the host can tell: it waits.
static int compare(struct train_core *c, struct err *e)
{
    struct loss_grads g = c->grads;
    c->over = false;
    if (!(c->limit > 0))
        return 0;
    if (wait_for(c, 0, e))
        return -1;
    c->over = losses_values(&c->set.losses, &g) > c->limit;
    return 0;
}

int train_core_begin(struct train_core *c, const struct train_batch *b, struct err *e)
{
    int rc =
        queue_gradient(c, b, &c->grads, e) || compare(c, e) || (!c->over && queue_update(c, e));
    return rc ? wait_for(c, rc, e) : 0;
}

void train_core_ahead(struct train_core *c, const struct train_batch *next)
{
    if (!c->ahead || !next->n || next->n > c->piece)
        return;
    c->d->op->upload_ahead(c->d, c->ahead, next->pixels,
                           next->n * clip_config_picture_bytes(&c->table.cfg));
    c->has_ahead = true;
}

int train_core_end(struct train_core *c, double *loss, double *norm, struct err *e)
{
    if (wait_for(c, 0, e))
        return -1;
    *loss = losses_values(&c->set.losses, &c->grads);
    if (!c->over)
        counted(c, norm);
    if (c->over || !isfinite(*loss))
        *norm = (double)NAN;
    return 0;
}

int train_core_step(struct train_core *c, const struct train_batch *b, double *loss, double *norm,
                    struct err *e)
{
    return train_core_begin(c, b, e) || train_core_end(c, loss, norm, e) ? -1 : 0;
}
