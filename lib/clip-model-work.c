// SPDX-License-Identifier: Apache-2.0
#include "clip-model-work.h"

#include <stdlib.h>
#include <string.h>

#include "mem.h"

static size_t max2(size_t a, size_t b)
{
    return a > b ? a : b;
}

struct want {
    void **to;
    size_t n, each, item;
};

static int take(struct dev *d, const struct want *w, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        size_t values, bytes;
        if (!mem_mul(w[i].n, w[i].each, &values) || !mem_mul(values, w[i].item, &bytes))
            return err_set(e, "the model is too large");
        *w[i].to = bytes ? d->op->alloc(d, bytes, e) : NULL;
        if (bytes && !*w[i].to)
            return -1;
    }
    return 0;
}

int clip_work_init(struct clip_model *m, enum clip_tower_id tower, struct err *e)
{
    struct dev *d = m->dev;
    const struct clip_config *c = &m->cfg;
    const struct clip_tower *t = &m->tower[tower].cfg;
    struct clip_work *w = &m->work[tower];
    bool vision = tower == CLIP_VISION;
    size_t longest = (size_t)(vision ? clip_config_positions(c) : c->context);
    size_t width = (size_t)t->width, act = d->act_size;
    size_t patch = vision ? 3 * (size_t)c->patch_size * (size_t)c->patch_size : 0;
    size_t wide = max2(max2(3 * width, (size_t)t->mlp), patch);
    size_t image = vision ? 3 * (size_t)c->image_size * (size_t)c->image_size : 0;
    // A text has one row at least, a picture all its positions.
    size_t pass = d->pass_rows ? d->pass_rows : CLIP_WORK_ROWS;
    w->seqs = vision ? max2(pass / longest, 1) : pass;
    w->rows = vision ? w->seqs * longest : max2(pass, longest);
    const struct want wants[] = {
        {(void **)&w->x, w->rows, width, 4},
        {(void **)&w->patch, vision ? w->rows : 0, width, 4},
        {(void **)&w->x_read, w->seqs, width, 4},
        {(void **)&w->emb, w->seqs, (size_t)(c->embed_dim > t->width ? c->embed_dim : t->width), 4},
        {&w->y, w->rows, width, act},
        {&w->h, w->rows, wide, act},
        {&w->y_read, w->seqs, width, act},
        {&w->q, w->seqs, width, act},
        {&w->o, w->seqs, width, act},
        {(void **)&w->start, w->seqs + 1, 1, 4},
        {(void **)&w->read, w->seqs, 1, 4},
        {(void **)&w->last, w->seqs, 1, 4},
        {(void **)&w->token, vision ? 0 : w->rows, 1, 4},
        {(void **)&w->pixels, w->seqs, image, 1},
    };
    return take(d, wants, sizeof wants / sizeof *wants, e);
}

void clip_work_release(struct clip_model *m, enum clip_tower_id tower)
{
    struct dev *d = m->dev;
    struct clip_work *w = &m->work[tower];
    void *all[] = {w->x, w->patch, w->x_read, w->emb,  w->y,    w->h,     w->y_read,
                   w->q, w->o,     w->start,  w->read, w->last, w->token, w->pixels};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        d->op->free(d, all[i]);
    memset(w, 0, sizeof *w);
}
