// SPDX-License-Identifier: Apache-2.0
#include "model/model-work.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

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

enum { WANTS = 23 };

// The buffers of a tower: the members of *w, w->rows and w->seqs.
static void wants_of(const struct clip_config *c, enum clip_tower_id tower, const struct dev *d,
                     struct clip_work *w, struct want wants[WANTS])
{
    bool vision = tower == CLIP_VISION;
    const struct clip_tower *t = vision ? &c->vision : &c->text;
    size_t longest = (size_t)(vision ? clip_config_positions(c) : clip_config_text_positions(c));
    size_t width = (size_t)t->width, act = d->act_size, mlp = (size_t)t->mlp;
    size_t f = max2(width, (size_t)clip_pool_width(c, tower)), pool = (size_t)t->pool_mlp;
    size_t patch = vision ? 3 * (size_t)c->patch_size * (size_t)c->patch_size : 0;
    size_t wide = max2(max2(3 * width, t->swiglu ? 2 * mlp : mlp), max2(patch, max2(2 * f, pool)));
    size_t image = vision ? 3 * (size_t)c->image_size * (size_t)c->image_size : 0;
    bool cls = !vision && t->class_last;
    // A text has at least one row, a picture all its positions.
    size_t pass = d->pass_rows ? d->pass_rows : CLIP_WORK_ROWS;
    w->seqs = vision ? max2(pass / longest, 1) : pass;
    w->rows = vision ? w->seqs * longest : max2(pass, longest);
    const struct want all[WANTS] = {
        {(void **)&w->x, w->rows, width, 4},
        {(void **)&w->patch, vision ? w->rows : 0, width, 4},
        {(void **)&w->x_read, w->seqs, f, 4},
        {(void **)&w->emb, w->seqs, max2((size_t)c->embed_dim, f), 4},
        {&w->y, w->rows, width, act},
        {&w->h, w->rows, wide, act},
        {&w->y_read, w->seqs, f, act},
        {&w->q, w->seqs, f, act},
        {&w->o, w->seqs, f, act},
        {(void **)&w->start, w->seqs + 1, 1, 4},
        {(void **)&w->read, w->seqs, 1, 4},
        {(void **)&w->last, w->seqs, 1, 4},
        {(void **)&w->token, vision ? 0 : w->rows, 1, 4},
        {(void **)&w->pixels, w->seqs, image, 1},
        {&w->mid, t->swiglu ? w->rows : 0, max2(mlp, pool), act},
        {(void **)&w->f32, t->inner_norm ? w->rows : 0, max2(width, mlp), 4},
        {&w->normed, t->inner_norm ? w->rows : 0, max2(width, mlp), act},
        {(void **)&w->branch, t->post_norm ? w->rows : 0, width, 4},
        {(void **)&w->all, t->norm_first ? w->rows : 0, width, 4},
        {(void **)&w->tape.cls.start, cls ? w->seqs + 1 : 0, 1, 4},
        {(void **)&w->tape.cls.one_each, cls ? w->seqs + 1 : 0, 1, 4},
        {(void **)&w->tape.cls.key, cls ? w->rows : 0, 1, 4},
        {&w->tape.cls.kv, cls ? w->rows : 0, 2 * width, act},
    };
    memcpy(wants, all, sizeof all);
}

// What the rows of a block and those that go on in a split one share.
static struct clip_room room_of(const struct clip_work *w, void *y, float *x)
{
    return (struct clip_room){.h1 = y,
                              .qkv = w->h,
                              .att = y,
                              .x1 = x,
                              .h2 = y,
                              .pre = w->mid ? w->h : NULL,
                              .mid = w->mid ? w->mid : w->h,
                              .att32 = w->f32,
                              .mid32 = w->f32,
                              .att_n = w->normed,
                              .mid_n = w->normed,
                              .post1 = w->branch,
                              .post2 = w->branch};
}

static void lay_out(struct clip_work *w, struct clip_net *net)
{
    struct clip_tape *t = &w->tape;
    int blocks = clip_tower_blocks(net->cfg);
    t->net = net;
    t->recompute = true; // one room for all blocks
    for (int l = 0; l < blocks; l++)
        t->x[l] = w->x;
    w->room = room_of(w, w->y, w->x);
    t->blocks = &w->room;
    t->last = w->room;
    if (clip_net_split(net, blocks - 1)) {
        t->last = room_of(w, w->y_read, w->x_read);
        t->last.h1 = w->y;
        t->last.att = w->o;
    }
    t->pixels = w->pixels;
    t->patches = w->h;
    t->patch_rows = w->patch;
    t->stem = t->end = w->x;
    t->normed = w->all;
    t->tmp = w->branch;
    t->token = w->token;
    t->start = w->start;
    t->q_row = w->last;
    t->sel = w->read;
    t->h1s = t->hf = w->y_read;
    t->q = w->q;
    t->x0s = t->y = w->x_read;
}

int clip_work_init(struct clip_model *m, enum clip_tower_id tower, struct err *e)
{
    struct want wants[WANTS];
    struct clip_work *w = &m->work[tower];
    const struct clip_tower *c = m->net[tower].cfg;
    wants_of(&m->cfg, tower, m->dev, w, wants);
    if (take(m->dev, wants, WANTS, e) ||
        !(w->tape.x = mem_alloc((size_t)clip_tower_blocks(c), sizeof *w->tape.x, e)) ||
        !(w->tape.host = mem_alloc(6 * w->seqs + 3 + 2 * w->rows, sizeof *w->tape.host, e)) ||
        (c->rope.grid > 0 && !(w->tape.rope = clip_rope_new(m->dev, &m->cfg, e))))
        return -1;
    lay_out(w, &m->net[tower]);
    return 0;
}

// A layer whose result is scaled, or whose activation no product applies, goes through float32 rows
// that the device keeps (linear's epilogue in dev.h; the tanh GELU of bfloat16 is part of the
// product).
static size_t linear_rows(const struct clip_tower *t, const struct dev *d, size_t rows)
{
    size_t cols = t->ls_init > 0 ? (size_t)t->width : 0;
    if (d->act == DEV_BF16 && t->act != CLIP_GELU)
        cols = max2(cols, (size_t)t->mlp);
    return d->reserve ? rows * cols * 4 : 0;
}

static size_t weight_bytes(const struct clip_table *t, enum clip_tower_id tower, size_t act)
{
    size_t sum = 0;
    for (size_t i = 0; i < t->n; i++) {
        const struct clip_tensor *x = &t->t[i];
        bool matrix = clip_kind_is_matrix(x->kind);
        if (x->tower == tower)
            sum += x->numel * (matrix ? act : 4);
    }
    return sum;
}

int clip_model_memory(const struct clip_table *t, const struct dev *d,
                      const struct clip_model_options *o, struct clip_model_memory *m,
                      struct err *e)
{
    size_t own = 0;
    *m = (struct clip_model_memory){0};
    for (int i = 0; i < 2; i++) {
        enum clip_tower_id tower = i == 0 ? CLIP_VISION : CLIP_TEXT;
        struct clip_work w = {0};
        struct want wants[WANTS];
        if (tower == CLIP_VISION ? !o->vision : !o->text)
            continue;
        wants_of(&t->cfg, tower, d, &w, wants);
        for (size_t k = 0; k < WANTS; k++) {
            size_t bytes;
            if (!mem_mul(wants[k].n, wants[k].each, &bytes) ||
                !mem_mul(bytes, wants[k].item, &bytes) || !mem_add(m->work, bytes, &m->work))
                return err_set(e, "the model is too large");
        }
        m->weights += weight_bytes(t, tower, d->act_size);
        own =
            max2(own, linear_rows(tower == CLIP_VISION ? &t->cfg.vision : &t->cfg.text, d, w.rows));
    }
    m->own = d->own_bytes + own;
    m->total = m->weights + m->work + m->own;
    return 0;
}

void clip_work_release(struct clip_model *m, enum clip_tower_id tower)
{
    struct dev *d = m->dev;
    struct clip_work *w = &m->work[tower];
    if (w->record)
        d->op->record_free(d, w->record);
    void *all[] = {w->x,
                   w->patch,
                   w->x_read,
                   w->emb,
                   w->y,
                   w->h,
                   w->y_read,
                   w->q,
                   w->o,
                   w->start,
                   w->read,
                   w->last,
                   w->token,
                   w->pixels,
                   w->mid,
                   w->f32,
                   w->normed,
                   w->branch,
                   w->all,
                   w->tape.rope,
                   w->tape.cls.start,
                   w->tape.cls.one_each,
                   w->tape.cls.key,
                   w->tape.cls.kv};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        d->op->free(d, all[i]);
    free(w->tape.x);
    free(w->tape.host);
    memset(w, 0, sizeof *w);
}
