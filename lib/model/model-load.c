// SPDX-License-Identifier: Apache-2.0
// From a model folder's tensors, or a caller's, to a device's memory.
#include <stdlib.h>
#include <string.h>

#include "model/model-work.h"
#include "model/model.h"
#include "base/mem.h"

enum { PIECE = 1 << 20 }; // values converted at a time

struct loader {
    struct clip_model *m;
    const struct clip_table *t;
    const struct clip_weights *w; // NULL: tensors come from `get`
    model_get_fn *get;
    void *user;
    float *host; // the largest matrix; of `get` the largest tensor
    size_t n_host;
};

// Takes a whole tensor from the caller, by way of l->host.
static float *load_got(struct loader *l, size_t i, struct err *e)
{
    struct dev *d = l->m->dev;
    const struct clip_tensor *t = &l->t->t[i];
    if (l->get(l->user, i, l->host, e))
        return NULL;
    float *to = d->op->alloc(d, t->numel * sizeof *to, e);
    if (to)
        d->op->upload(d, to, l->host, t->numel * sizeof *to);
    return to;
}

// Loads a tensor as float32 onto the device.
static float *load_f32(void *user, size_t i, struct err *e)
{
    struct loader *l = user;
    struct dev *d = l->m->dev;
    const struct clip_tensor *t = &l->t->t[i];
    if (!l->w)
        return load_got(l, i, e);
    size_t rows = t->rank ? t->shape[0] : 1, cols = t->numel / rows;
    size_t step = cols < PIECE ? PIECE / cols : 1, bytes;
    if (!mem_mul(t->numel, sizeof(float), &bytes)) {
        err_set(e, "tensor %s is too large", t->name);
        return NULL;
    }
    float *to = d->op->alloc(d, bytes, e);
    for (size_t r = 0; to && r < rows; r += step) {
        size_t n = rows - r < step ? rows - r : step;
        clip_weights_rows(l->w, i, r, n, l->host);
        d->op->upload(d, to + r * cols, l->host, n * cols * sizeof *to);
    }
    clip_weights_drop(l->w, i);
    return to;
}

// Returns the values of a matrix in the mapped file if they can be used from there, else puts them
// into l->host. NULL with e set.
static const void *matrix_values(struct loader *l, size_t i, enum dev_type *type, struct err *e)
{
    enum st_dtype dtype;
    *type = DEV_F32;
    if (!l->w)
        return l->get(l->user, i, l->host, e) ? NULL : l->host;
    const void *raw = clip_weights_raw(l->w, i, &dtype);
    if (raw && (dtype == ST_F32 || dtype == ST_BF16) && (size_t)raw % st_dtype_size(dtype) == 0) {
        *type = dtype == ST_F32 ? DEV_F32 : DEV_BF16;
        return raw;
    }
    clip_weights_get(l->w, i, l->host);
    return l->host;
}

static struct dev_weight *load_matrix(void *user, size_t i, size_t first, size_t out, size_t in,
                                      bool transposed, struct err *e)
{
    struct loader *l = user;
    struct dev *d = l->m->dev;
    enum dev_type type;
    const char *v = matrix_values(l, i, &type, e);
    if (!v)
        return NULL;
    v += first * in * (type == DEV_BF16 ? 2 : 4);
    struct dev_weight *w = d->op->weight_new(d, v, type, out, in, transposed, e);
    if (!w)
        err_wrap(e, "tensor %s", l->t->t[i].name);
    if (l->w && (first + out == l->t->t[i].shape[0] || transposed))
        clip_weights_drop(l->w, i);
    return w;
}

// Allocates for the largest matrix, and for the pieces of load_f32.
static int host_room(struct loader *l, struct err *e)
{
    const struct clip_table *t = l->t;
    l->n_host = PIECE;
    for (size_t i = 0; i < t->n; i++) {
        size_t need = t->t[i].numel;
        if (l->w && (t->t[i].kind == CLIP_K_TOKEN || t->t[i].kind == CLIP_K_POS))
            need = t->t[i].shape[1];
        if (need > l->n_host)
            l->n_host = need;
    }
    l->host = mem_alloc(l->n_host, sizeof *l->host, e);
    return l->host ? 0 : -1;
}

static int load(struct loader *l, struct dev *d, const struct clip_model_options *o, struct err *e)
{
    struct clip_model *m = l->m;
    *m =
        (struct clip_model){.dev = d, .cfg = l->t->cfg, .whole = o->whole, .headless = o->headless};
    const struct clip_net_source source = {load_f32, load_matrix, l};
    int rc = host_room(l, e);
    for (int i = 0; !rc && i < 2; i++) {
        enum clip_tower_id tower = i == 0 ? CLIP_VISION : CLIP_TEXT;
        if (tower == CLIP_VISION ? o->vision : o->text)
            rc = clip_net_open(&m->net[tower], l->t, &m->cfg, tower, o->whole, &source, e) ||
                 clip_work_init(m, tower, e);
    }
    free(l->host);
    if (rc)
        clip_model_release(m);
    return rc ? -1 : 0;
}

int clip_model_load(struct clip_model *m, struct dev *d, const struct clip_weights *w,
                    const struct clip_model_options *o, struct err *e)
{
    struct loader l = {.m = m, .t = &w->table, .w = w};
    return load(&l, d, o, e);
}

int clip_model_take(struct clip_model *m, struct dev *d, const struct clip_table *t,
                    model_get_fn *get, void *user, const struct clip_model_options *o,
                    struct err *e)
{
    struct loader l = {.m = m, .t = t, .get = get, .user = user};
    return load(&l, d, o, e);
}

void clip_model_release(struct clip_model *m)
{
    if (!m->dev)
        return;
    for (int i = 0; i < 2; i++)
        if (m->net[i].cfg) {
            clip_net_close(&m->net[i], m->dev, true);
            clip_work_release(m, i == 0 ? CLIP_VISION : CLIP_TEXT);
        }
    memset(m, 0, sizeof *m);
}
