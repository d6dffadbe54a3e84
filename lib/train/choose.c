// SPDX-License-Identifier: Apache-2.0
#include "train/choose.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "device/profile.h"

static size_t tokens_of(const struct clip_config *cfg)
{
    return (size_t)cfg->context;
}

size_t train_choose_bytes(const struct train_set *s, const struct clip_config *cfg)
{
    size_t dim = (size_t)cfg->embed_dim, n = train_reads(s);
    if (!(s->select > 0))
        return 0;
    struct learnable_set l = {n, s->batch, s->select_blocks, {dim, s->dim_t}};
    return learnable_bytes(&l) +
           (n * (2 * dim + 2 * s->dim_t + 2) + train_piece(s) * dim + s->batch) * sizeof(float);
}

uint64_t train_choose_host(const struct train_set *s, const struct clip_config *cfg, size_t dims)
{
    if (!(s->select > 0))
        return 0;
    return s->batch * (clip_config_picture_bytes(cfg) +
                       (tokens_of(cfg) + 2 * dims + s->n_label) * sizeof(float) + sizeof(uint64_t));
}

static int open_device(struct train_choose *s, struct train_core *c, struct err *e)
{
    const struct dev_ops *op = c->d->op;
    size_t n = train_reads(&c->set);
    for (int i = 0; i < 2; i++)
        if (!(s->u[i] = op->alloc(c->d, n * c->dim * sizeof(float), e)) ||
            !(s->norm[i] = op->alloc(c->d, n * sizeof(float), e)) ||
            !(s->teacher[i] = op->alloc(c->d, n * c->set.dim_t * sizeof(float), e)))
            return -1;
    return (s->z = op->alloc(c->d, c->piece * c->dim * sizeof(float), e)) &&
                   (s->index = op->alloc(c->d, c->set.batch * sizeof(int32_t), e))
               ? 0
               : -1;
}

static int open_host(struct train_choose *s, const struct train_core *c, struct err *e)
{
    const struct clip_config *cfg = &c->table.cfg;
    size_t n = c->set.batch, teachers = c->set.teachers ? c->set.teachers : 1;
    for (size_t i = 0; i < 2 * teachers; i++) {
        size_t dim = i < 2 ? c->set.dim_t : c->set.dim_of[i / 2];
        if (!(s->rows[i] = mem_alloc(n, dim * sizeof(float), e)))
            return -1;
    }
    return (s->pixels = mem_alloc(n, clip_config_picture_bytes(cfg), e)) &&
                   (s->tokens = mem_alloc(n, tokens_of(cfg) * sizeof *s->tokens, e)) &&
                   (s->labels = mem_alloc(n, (c->set.n_label + 1) * sizeof *s->labels, e)) &&
                   (s->draw = mem_alloc(n, sizeof *s->draw, e))
               ? 0
               : -1;
}

int train_choose_open(struct train_choose *s, struct train_core *c, struct err *e)
{
    const struct train_set *t = &c->set;
    struct learnable_set l = {train_reads(t), t->batch, t->select_blocks, {c->dim, t->dim_t}};
    *s = (struct train_choose){0};
    if (!(t->select > 0))
        return 0;
    if (learnable_open(&s->l, c->d, &l, e))
        return -1;
    if (!open_device(s, c, e) && !open_host(s, c, e))
        return 0;
    train_choose_close(s);
    return -1;
}

void train_choose_close(struct train_choose *s)
{
    struct dev *d = s->l.d;
    void *dev[] = {s->u[0],       s->u[1],       s->norm[0], s->norm[1],
                   s->teacher[0], s->teacher[1], s->z,       s->index};
    for (size_t i = 0; i < sizeof dev / sizeof *dev; i++)
        if (dev[i])
            d->op->free(d, dev[i]);
    for (size_t i = 0; i < 2 * LOSS_TEACHERS_MAX; i++)
        free(s->rows[i]);
    free(s->pixels);
    free(s->tokens);
    free(s->labels);
    free(s->draw);
    free(s->keys);
    learnable_close(&s->l);
    *s = (struct train_choose){0};
}

// The unit rows of student and teacher.
static int embed_all(struct train_core *c, const struct train_batch *all, struct err *e)
{
    struct train_choose *s = c->choose;
    struct dev *d = c->d;
    size_t dim_t = c->set.dim_t;
    dev_profile_at(d, "choosing", -1, false);
    for (int i = 1; i >= 0; i--) {
        for (size_t at = 0, n; at < all->n; at += n) {
            n = all->n - at < c->piece ? all->n - at : c->piece;
            if (train_core_forward(c, all, i, at, n, s->z, e))
                return -1;
            d->op->unit(d, n, c->dim, s->z, s->u[i] + at * c->dim, s->norm[i] + at);
        }
        d->op->upload(d, s->teacher[i], i ? all->tt : all->tv, all->n * dim_t * sizeof(float));
        d->op->unit(d, all->n, dim_t, s->teacher[i], s->teacher[i], s->l.sum);
    }
    return 0;
}

static void copy_rows(void *to, const void *from, size_t bytes, const int32_t *chosen, size_t n)
{
    for (size_t i = 0; i < n && from; i++)
        memcpy((char *)to + i * bytes, (const char *)from + (size_t)chosen[i] * bytes, bytes);
}

// The lines of the chosen samples.
static int copy_keys(struct train_choose *s, const struct train_batch *all, struct train_batch *b,
                     struct err *e)
{
    void *p = s->keys;
    size_t row = 0, next = 0;
    int rc = mem_grow(&p, &s->cap_keys, all->n_keys + 1, 1, e);
    s->keys = p;
    b->keys = s->keys;
    b->n_keys = 0;
    for (size_t at = 0, n; at < all->n_keys && next < s->l.set.keep && !rc; at += n, row++) {
        const char *end = memchr(all->keys + at, '\n', all->n_keys - at);
        n = end ? (size_t)(end - all->keys) + 1 - at : all->n_keys - at;
        if (row != (size_t)s->l.chosen[next])
            continue;
        memcpy(s->keys + b->n_keys, all->keys + at, n);
        b->n_keys += n;
        next++;
    }
    return rc;
}

static int copy_chosen(struct train_core *c, const struct train_batch *all, struct train_batch *b,
                       struct err *e)
{
    struct train_choose *s = c->choose;
    const struct clip_config *cfg = &c->table.cfg;
    const int32_t *chosen = s->l.chosen;
    size_t n = s->l.set.keep;
    *b = (struct train_batch){.n = n, .pixels = s->pixels, .tokens = s->tokens, .draw = s->draw};
    copy_rows(s->pixels, all->pixels, clip_config_picture_bytes(cfg), chosen, n);
    copy_rows(s->tokens, all->tokens, tokens_of(cfg) * sizeof *s->tokens, chosen, n);
    copy_rows(s->draw, all->draw, sizeof *s->draw, chosen, n);
    copy_rows(s->labels, all->labels, c->set.n_label * sizeof *s->labels, chosen, n);
    b->labels = all->labels ? s->labels : NULL;
    for (size_t i = 0; i < 2 * LOSS_TEACHERS_MAX; i++) {
        const float *from = i > 1 ? all->others[i / 2 - 1][i % 2] : i ? all->tt : all->tv;
        size_t dim = i > 1 ? c->set.dim_of[i / 2] : c->set.dim_t;
        if (!from || !s->rows[i])
            continue;
        copy_rows(s->rows[i], from, dim * sizeof(float), chosen, n);
        if (i > 1)
            b->others[i / 2 - 1][i % 2] = s->rows[i];
    }
    b->tv = s->rows[0];
    b->tt = s->rows[1];
    return copy_keys(s, all, b, e);
}

int train_choose(struct train_core *c, const struct train_batch *all, struct train_batch *b,
                 struct err *e)
{
    struct train_choose *s = c->choose;
    const float *const x[2][2] = {{s->u[0], s->u[1]}, {s->teacher[0], s->teacher[1]}};
    const float scale[2] = {expf(c->logit_scale), c->set.scale_of[0]};
    if (all->n != s->l.set.n || !all->tv || !all->tt || all->first)
        return err_set(e, "a batch of %zu where %zu are chosen from", all->n, s->l.set.n);
    if (embed_all(c, all, e) || learnable_choose(&s->l, x, scale, e) || copy_chosen(c, all, b, e))
        return -1;
    c->d->op->upload(c->d, s->index, s->l.chosen, b->n * sizeof *s->index);
    s->at_hand = true;
    return 0;
}
