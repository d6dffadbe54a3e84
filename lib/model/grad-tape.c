// SPDX-License-Identifier: Apache-2.0
// Room for what forward keeps.
#include <stdlib.h>
#include <string.h>

#include "model/grad.h"
#include "base/mem.h"

// One function walks over the buffers of a tape to count, allocate and free them.
struct walk {
    enum { COUNT, ALLOC, FREE } what;
    struct dev *d;
    size_t act; // bytes of an activation
    size_t total;
    bool bad;
    struct err *e;
};

static void *buffer(struct walk *w, void *old, size_t bytes)
{
    if (old)
        w->d->op->free(w->d, old);
    if (w->what == FREE || w->bad)
        return NULL;
    void *p = w->d->op->alloc(w->d, bytes ? bytes : 1, w->e);
    w->bad = !p;
    return p;
}

#define BUFFER(w, p, bytes)                                                                        \
    do {                                                                                           \
        if ((w)->what == COUNT)                                                                    \
            (w)->total += (bytes);                                                                 \
        else                                                                                       \
            (p) = buffer(w, p, bytes);                                                             \
    } while (0)

// Sizes of a block: rows, rows that go on, the widths of input and output, of keys and values or
// all three, and of the MLP.
struct sizes {
    size_t rows, q_rows, W, F, qkv, M, heads;
};

static void walk_inner(struct walk *w, struct clip_room *b, const struct sizes *s)
{
    size_t f = sizeof(float);
    BUFFER(w, b->att32, s->q_rows * s->W * f);
    BUFFER(w, b->mean_a, s->q_rows * f);
    BUFFER(w, b->rstd_a, s->q_rows * f);
    BUFFER(w, b->att_n, s->q_rows * s->W * w->act);
    BUFFER(w, b->mid32, s->q_rows * s->M * f);
    BUFFER(w, b->mean_m, s->q_rows * f);
    BUFFER(w, b->rstd_m, s->q_rows * f);
    BUFFER(w, b->mid_n, s->q_rows * s->M * w->act);
}

static void walk_block(struct walk *w, struct clip_room *b, const struct clip_tower *c,
                       const struct sizes *s, bool pool)
{
    size_t f = sizeof(float), rows = s->rows, q_rows = s->q_rows;
    BUFFER(w, b->mean1, rows * f);
    BUFFER(w, b->rstd1, rows * f);
    BUFFER(w, b->h1, rows * s->W * w->act);
    BUFFER(w, b->qkv, rows * s->qkv * w->act);
    BUFFER(w, b->lse, q_rows * s->heads * f);
    BUFFER(w, b->att, q_rows * s->F * w->act);
    BUFFER(w, b->x1, q_rows * s->F * f);
    BUFFER(w, b->mean2, q_rows * f);
    BUFFER(w, b->rstd2, q_rows * f);
    BUFFER(w, b->h2, q_rows * s->F * w->act);
    BUFFER(w, b->pre, q_rows * s->M * (c->swiglu && !pool ? 2 : 1) * w->act);
    BUFFER(w, b->mid, q_rows * s->M * w->act);
    if (pool)
        return;
    if (c->ls_init > 0) {
        BUFFER(w, b->br1, q_rows * s->W * w->act);
        BUFFER(w, b->br2, q_rows * s->W * w->act);
    }
    if (c->inner_norm)
        walk_inner(w, b, s);
    if (c->post_norm) {
        BUFFER(w, b->post1, q_rows * s->W * f);
        BUFFER(w, b->post2, q_rows * s->W * f);
    }
}

static void walk_drop(struct walk *w, struct clip_drop *d, const struct clip_config *c, size_t n,
                      size_t rows)
{
    size_t P = (size_t)c->patch_size, W = (size_t)c->vision.width, f = sizeof(float);
    size_t kept = n * d->max_keep;
    BUFFER(w, d->patches, kept * 3 * P * P * w->act);
    BUFFER(w, d->pos, rows * W * f);
    BUFFER(w, d->zero, (1 + d->max_keep) * W * f);
    BUFFER(w, d->sum, (1 + d->max_keep) * W * f);
    BUFFER(w, d->patch_at, kept * sizeof(int32_t));
    BUFFER(w, d->pos_at, rows * sizeof(int32_t));
    if (c->vision.rope.grid > 0)
        BUFFER(w, d->rope, rows * (size_t)c->vision.head_width * f);
}

static void walk_stem(struct walk *w, struct clip_tape *t, const struct clip_config *c,
                      enum clip_tower_id id, size_t n, size_t rows)
{
    size_t W = (size_t)c->vision.width, P = (size_t)c->patch_size, f = sizeof(float);
    size_t size = (size_t)c->image_size, patches = n * (size_t)(c->grid * c->grid);
    if (id == CLIP_TEXT) {
        BUFFER(w, t->token, rows * sizeof(int32_t));
        return;
    }
    BUFFER(w, t->pixels, n * size * size * 3);
    BUFFER(w, t->patches, patches * 3 * P * P * w->act);
    BUFFER(w, t->stem, rows * W * f);
    if (t->drop.max_keep || w->what == FREE)
        walk_drop(w, &t->drop, c, n, rows);
    if (c->vision.no_norm_pre)
        return;
    BUFFER(w, t->mean0, rows * f);
    BUFFER(w, t->rstd0, rows * f);
}

// Buffers for all blocks but the last: those below `lowest` share one (clip_tape_room_of).
static size_t rooms(size_t blocks, int lowest, bool recompute)
{
    size_t shared = lowest > 0 ? (size_t)lowest - 1 : 0, others = blocks - 1;
    if (recompute && others)
        return 1;
    return others > shared ? others - shared : others > 0;
}

static void walk_blocks(struct walk *w, struct clip_tape *t, const struct clip_tower *c, size_t F,
                        size_t n, size_t rows, bool recompute)
{
    size_t W = (size_t)c->width, blocks = (size_t)clip_tower_blocks(c);
    size_t kept = rooms(blocks, t->lowest, recompute);
    struct clip_room none = {0};
    struct sizes s = {rows, rows, W, W, 3 * W, (size_t)c->mlp, (size_t)c->heads};
    bool pool = blocks > (size_t)c->layers;
    for (size_t l = 0; l < kept; l++)
        walk_block(w, w->what == COUNT ? &none : &t->blocks[l], c, &s, false);
    if (pool)
        s = (struct sizes){rows, n, W, F, 2 * F, (size_t)c->pool_mlp, (size_t)c->pool_heads};
    else if (c->pool == CLIP_POOL_TOKEN)
        s.q_rows = n, s.qkv = 2 * W;
    walk_block(w, &t->last, c, &s, pool);
}

static void walk_tape(struct walk *w, struct clip_tape *t, const struct clip_config *c,
                      enum clip_tower_id id, size_t n, size_t rows, bool recompute)
{
    const struct clip_tower *tc = id == CLIP_VISION ? &c->vision : &c->text;
    size_t W = (size_t)tc->width, F = (size_t)clip_pool_width(c, id), f = sizeof(float);
    walk_stem(w, t, c, id, n, rows);
    int blocks = clip_tower_blocks(tc), first = t->lowest < blocks ? t->lowest : blocks - 1;
    first = first > 0 ? first : 0;
    for (int l = first; l < blocks; l++)
        BUFFER(w, t->x[l], rows * W * f);
    for (int l = 0; l < first && w->what != COUNT; l++) // nothing below is kept
        t->x[l] = t->x[first];
    walk_blocks(w, t, tc, F, n, rows, recompute);
    BUFFER(w, t->start, (n + 1) * sizeof(int32_t));
    BUFFER(w, t->q_row, n * sizeof(int32_t));
    BUFFER(w, t->sel, n * sizeof(int32_t));
    BUFFER(w, t->h1s, n * F * w->act);
    BUFFER(w, t->q, n * F * w->act);
    BUFFER(w, t->hf, n * F * w->act);
    BUFFER(w, t->x0s, n * F * f);
    BUFFER(w, t->y, n * F * f);
    BUFFER(w, t->mean1s, n * f);
    BUFFER(w, t->rstd1s, n * f);
    BUFFER(w, t->mean_f, (tc->norm_first ? rows : n) * f);
    BUFFER(w, t->rstd_f, (tc->norm_first ? rows : n) * f);
    if (tc->pool == CLIP_POOL_MEAN)
        BUFFER(w, t->end, rows * W * f);
    if (tc->norm_first)
        BUFFER(w, t->normed, rows * W * f);
    if (tc->post_norm)
        BUFFER(w, t->tmp, rows * W * f);
}

size_t clip_tower_rows(const struct clip_config *c, enum clip_tower_id tower, size_t n)
{
    return n * (size_t)(tower == CLIP_VISION ? clip_config_positions(c)
                                             : clip_config_text_positions(c));
}

size_t clip_tape_bytes(const struct clip_config *c, enum clip_tower_id tower, size_t n, size_t rows,
                       size_t keep, int lowest, bool recompute, size_t act_size)
{
    struct walk w = {.what = COUNT, .act = act_size};
    struct clip_tape none = {.lowest = lowest, .drop.max_keep = keep};
    walk_tape(&w, &none, c, tower, n, rows, recompute);
    return w.total;
}

void clip_tape_release(struct clip_grad *g, struct clip_tape *t)
{
    struct walk w = {.what = FREE, .d = g->d, .act = g->d ? g->d->act_size : 0};
    if (t->net)
        walk_tape(&w, t, &g->table->cfg, t->net->id, 0, 0, t->recompute);
    if (t->rope)
        g->d->op->free(g->d, t->rope);
    free(t->x);
    free(t->blocks);
    free(t->host);
    memset(t, 0, sizeof *t);
}

static int first_use(struct clip_grad *g, struct clip_tape *t, enum clip_tower_id id, struct err *e)
{
    size_t blocks = (size_t)clip_tower_blocks(g->net[id].cfg);
    bool rope = g->net[id].cfg->rope.grid > 0;
    if (!(t->x = mem_alloc(blocks, sizeof *t->x, e)) ||
        !(t->blocks = mem_alloc(blocks, sizeof *t->blocks, e)) ||
        (rope && !(t->rope = clip_rope_new(g->d, &g->table->cfg, e)))) {
        free(t->x);
        free(t->blocks);
        t->x = NULL;
        t->blocks = NULL;
        return -1;
    }
    t->net = &g->net[id];
    t->recompute = g->recompute;
    t->lowest = g->lowest[id];
    return 0;
}

int clip_tape_room(struct clip_grad *g, struct clip_tape *t, enum clip_tower_id tower, size_t n,
                   size_t rows, size_t keep, struct err *e)
{
    const struct clip_config *c = &g->table->cfg;
    if (tower == CLIP_VISION)
        rows = n * clip_image_positions(c, keep);
    if (n > INT32_MAX || rows > INT32_MAX)
        return err_set(e, "a batch of %zu is too large", n);
    if (!t->net && first_use(g, t, tower, e))
        return -1;
    if (t->net->id != tower)
        return err_set(e, "a tape serves one tower");
    if (n <= t->max_n && rows <= t->max_rows && keep <= t->drop.max_keep)
        return 0;
    t->drop.max_keep = keep > t->drop.max_keep ? keep : t->drop.max_keep;
    n = n > t->max_n ? n : t->max_n;
    rows = rows > t->max_rows ? rows : t->max_rows;
    struct walk w = {.what = ALLOC, .d = g->d, .act = g->d->act_size, .e = e};
    walk_tape(&w, t, c, tower, n, rows, t->recompute);
    void *host = t->host;
    if (w.bad || mem_grow(&host, &t->host_cap, 3 * n + 1 + rows + n * t->drop.max_keep,
                          sizeof *t->host, e)) {
        t->host = host;
        clip_tape_release(g, t);
        return -1;
    }
    t->host = host;
    if (t->drop.max_keep)
        g->d->op->zero(g->d, t->drop.zero,
                       (1 + t->drop.max_keep) * (size_t)c->vision.width * sizeof(float));
    // A buffer that is filled later: by ln_pre, or not at all if there is none.
    t->patch_rows = g->table->cfg.vision.no_norm_pre ? t->stem : t->x[0];
    t->max_n = n;
    t->indexed = 0;
    t->max_rows = rows;
    return 0;
}

size_t clip_grad_bytes(const struct clip_table *t, const struct clip_locks *locks, size_t act_size,
                       int copies)
{
    size_t packed = 0;
    for (size_t i = 0; i < t->n; i++)
        if (clip_kind_is_matrix(t->t[i].kind))
            packed += t->t[i].numel;
    return (t->n_flat + clip_locks_n_grad(locks, t)) * sizeof(float) +
           (size_t)copies * packed * act_size;
}
