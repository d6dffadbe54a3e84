// SPDX-License-Identifier: Apache-2.0
// The parameters of a tower, from any source, and its rotary embedding.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/tower.h"
#include "base/mem.h"

bool clip_net_split(const struct clip_net *n, int layer)
{
    if (layer == n->cfg->layers) // the pool
        return true;
    return layer + 1 == n->cfg->layers && n->cfg->pool == CLIP_POOL_TOKEN && !n->whole;
}

struct opening {
    struct clip_net *net;
    const struct clip_table *t;
    const struct clip_net_source *s;
};

// Queries separately, keys and values together.
static int take_split(struct opening *o, size_t i, struct clip_params *p, struct err *e)
{
    const struct clip_net_source *s = o->s;
    size_t w = (size_t)o->net->cfg->width;
    p->m[CLIP_K_Q_W] = s->matrix(s->user, i, 0, w, w, false, e);
    if (!p->m[CLIP_K_Q_W])
        return -1;
    p->m[CLIP_K_KV_W] = s->matrix(s->user, i, w, 2 * w, w, false, e);
    return p->m[CLIP_K_KV_W] ? 0 : -1;
}

static int take(struct opening *o, size_t i, struct clip_params *p, struct err *e)
{
    const struct clip_tensor *x = &o->t->t[i];
    const struct clip_net_source *s = o->s;
    if (!clip_kind_is_matrix(x->kind)) {
        p->v[x->kind] = s->vector(s->user, i, e);
        return p->v[x->kind] ? 0 : -1;
    }
    if (x->kind == CLIP_K_QKV_W && clip_net_split(o->net, x->layer))
        return take_split(o, i, p, e);
    bool transposed = x->kind == CLIP_K_HEAD;
    size_t out = x->shape[transposed ? 1 : 0];
    p->m[x->kind] = s->matrix(s->user, i, 0, out, x->numel / out, transposed, e);
    return p->m[x->kind] ? 0 : -1;
}

int clip_net_open(struct clip_net *n, const struct clip_table *t, const struct clip_config *c,
                  enum clip_tower_id id, bool whole, const struct clip_net_source *s, struct err *e)
{
    const struct clip_tower *cfg = id == CLIP_VISION ? &c->vision : &c->text;
    struct opening o = {n, t, s};
    *n = (struct clip_net){.model = c, .cfg = cfg, .id = id, .whole = whole};
    if (!(n->blocks = mem_alloc((size_t)clip_tower_blocks(cfg), sizeof *n->blocks, e)))
        return -1;
    for (size_t i = 0; i < t->n; i++) {
        const struct clip_tensor *x = &t->t[i];
        if (x->tower != id || x->kind == CLIP_K_LOGIT_SCALE || x->kind == CLIP_K_LOGIT_BIAS)
            continue;
        if (take(&o, i, x->layer < 0 ? &n->once : &n->blocks[x->layer], e))
            return -1;
    }
    return 0;
}

static void each(struct clip_params *p, struct dev *d, void (*f)(struct dev *, struct dev_weight *))
{
    for (int k = 0; k < CLIP_K_COUNT; k++)
        if (p->m[k])
            f(d, p->m[k]);
}

void clip_net_weights(struct clip_net *n, struct dev *d,
                      void (*f)(struct dev *, struct dev_weight *))
{
    each(&n->once, d, f);
    for (int l = 0; n->blocks && l < clip_tower_blocks(n->cfg); l++)
        each(&n->blocks[l], d, f);
}

static void free_vectors(struct clip_params *p, struct dev *d)
{
    for (int k = 0; k < CLIP_K_COUNT; k++)
        d->op->free(d, p->v[k]);
}

void clip_net_close(struct clip_net *n, struct dev *d, bool vectors)
{
    clip_net_weights(n, d, d->op->weight_free);
    if (vectors) {
        free_vectors(&n->once, d);
        for (int l = 0; n->blocks && l < clip_tower_blocks(n->cfg); l++)
            free_vectors(&n->blocks[l], d);
    }
    free(n->blocks);
    memset(n, 0, sizeof *n);
}

// As timm computes them: places, bands and angles in float32.
static void rope_table(const struct clip_config *c, float *table)
{
    const struct clip_tower *t = &c->vision;
    int width = t->head_width, bands = width / 4, first = !t->no_class;
    for (int i = 0; i < first * width; i += 2) {
        table[i] = 1;
        table[i + 1] = 0;
    }
    table += (size_t)first * (size_t)width;
    for (int p = 0; p < c->grid * c->grid; p++, table += width)
        for (int m = 0; m < 2 * bands; m++) {
            int row = p / c->grid, col = p % c->grid, band = m % bands;
            int at = (m < bands) != t->rope.xy ? row : col;
            float place = (float)((double)at / c->grid * t->rope.grid + t->rope.offset);
            float angle = place * (float)pow(10000, -(double)band / bands);
            table[2 * m] = cosf(angle);
            table[2 * m + 1] = sinf(angle);
        }
}

float *clip_rope_new(struct dev *d, const struct clip_config *c, struct err *e)
{
    size_t n = (size_t)clip_config_positions(c) * (size_t)c->vision.head_width;
    float *host = mem_alloc(n, sizeof *host, e);
    float *to = host ? d->op->alloc(d, n * sizeof *host, e) : NULL;
    if (to) {
        rope_table(c, host);
        d->op->upload(d, to, host, n * sizeof *host);
    }
    free(host);
    return to;
}
