// SPDX-License-Identifier: Apache-2.0
#include "runs/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/weights.h"
#include "system/io.h"
#include "base/mem.h"
#include "losses/ranks.h"
#include "model/folder.h"
#include "base/path.h"
#include "runs/checkpoint-dir.h"

enum { CHUNK = 1 << 20 }; // floats written at once

// -- weights

int train_get_trained(void *user, size_t i, float *dst, struct err *e)
{
    struct train_core *c = user;
    const struct clip_tensor *t = &c->table.t[i];
    return c->d->op->download(c->d, dst, c->model.flat + t->offset, t->numel * sizeof *dst, e);
}

// The average of a locked tensor is the tensor itself, without rounding.
int train_get_averaged(void *user, size_t i, float *dst, struct err *e)
{
    struct train_core *c = user;
    const struct clip_tensor *t = &c->table.t[i];
    if (clip_locked(&c->set.locks, &c->table, i))
        return train_get_trained(user, i, dst, e);
    return c->d->op->download(c->d, dst, c->average.flat + t->offset, t->numel * sizeof *dst, e);
}

static int write_layouts(const char *out, struct train_core *c, model_get_fn *get,
                         const char *tokenizer, const struct model_layouts *l, struct err *e)
{
    struct model_source s = {&c->table, get, c, tokenizer, ST_F32};
    if (l->open_clip && model_folder_write(out, MODEL_OPEN_CLIP, &s, e))
        return -1;
    return l->hf ? model_folder_write(out, MODEL_HF, &s, e) : 0;
}

int train_export(const char *out, struct train_core *c, const char *tokenizer, bool hf,
                 struct err *e)
{
    struct model_layouts l;
    char average[PATH_MAX];
    if (model_layouts_of(&c->table.cfg, hf, &l, e))
        return -1;
    if (c->average.d && (path_join(average, out, "ema", e) ||
                         write_layouts(average, c, train_get_averaged, tokenizer, &l, e)))
        return -1;
    return write_layouts(out, c, train_get_trained, tokenizer, &l, e);
}

// A checkpoint's model is for inspection: one layout is enough.
static int write_model(const char *dir, struct train_core *c, const char *tokenizer, struct err *e)
{
    struct model_layouts l;
    if (model_layouts_of(&c->table.cfg, false, &l, e))
        return -1;
    l.hf = !l.open_clip;
    return write_layouts(dir, c, train_get_trained, tokenizer, &l, e);
}

// -- optimizer.safetensors

enum { PART_M, PART_V, PART_VALUE, PART_AVERAGE, N_PARTS };
static const char *const prefix[N_PARTS] = {"m.", "v.", "", "ema."};

// NULL: the file has no such tensor. The value is stored if the model's own file does not hold it,
// the average if it does.
static float *part_of(const struct train_core *c, const struct optim_slot *s, int part)
{
    int i = clip_table_find_name(&c->table, s->name);
    if (part == PART_VALUE)
        return i < 0 ? s->param : NULL;
    if (part == PART_AVERAGE)
        return i < 0 || !c->average.d ? NULL : c->average.flat + c->table.t[i].offset;
    return part == PART_M ? s->m : s->v;
}

struct state_piece {
    char name[OPTIM_NAME_MAX + 4];
    float *at;
    size_t n, first, whole; // values: here, before them on ranks below, of all ranks
    bool dealt;             // ranks have a share each
    const struct optim_slot *slot;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct state_piece *)a)->name, ((const struct state_piece *)b)->name);
}

// In the order of the file, so that all ranks visit the tensors in the same order.
static size_t list_pieces(const struct train_core *c, struct state_piece *p)
{
    size_t n = 0;
    for (size_t i = 0; i < c->optim.n; i++)
        for (int part = 0; part < N_PARTS; part++) {
            const struct optim_slot *s = &c->optim.slots[i];
            if (!(p[n].at = part_of(c, s, part)))
                continue;
            snprintf(p[n].name, sizeof p[n].name, "%s%s", prefix[part], s->name);
            p[n].n = p[n].whole = s->n;
            p[n].first = 0;
            p[n].slot = s;
            if ((p[n].dealt = s->begin && ranks_size(c->set.comm) > 1)) {
                p[n].first = c->head.k0 * c->head.dim;
                p[n].whole = c->head.k * c->head.dim;
            } else if (s->dealt && part != PART_AVERAGE) {
                p[n].dealt = true;
                p[n].first = s->first;
                p[n].n = s->count;
            }
            n++;
        }
    qsort(p, n, sizeof *p, by_name);
    return n;
}

// The values that rank r has of a tensor that the ranks share.
static void share_of(const struct train_core *c, const struct state_piece *p, size_t r, size_t *at,
                     size_t *n)
{
    const struct cluster_head *h = &c->head;
    if (p->slot->dealt) {
        optim_share(&c->optim, p->slot, r, at, n);
        return;
    }
    *at = cluster_head_class(h, h->own * r) * h->dim;
    *n = cluster_head_class(h, h->own * (r + 1)) * h->dim - *at;
}

// Receives on rank 0 the next values of a tensor that the ranks share; they come from rank `from`.
static int next_share(struct train_core *c, const struct state_piece *p, int from, size_t at,
                      size_t n, float *buf, struct err *e)
{
    struct comm *comm = c->set.comm;
    size_t bytes = n * sizeof *buf;
    if (from == comm->rank && c->d->op->download(c->d, buf, p->at + at - p->first, bytes, e))
        return -1;
    if (from == 0)
        return 0;
    if (comm->rank == 0)
        return comm_exchange(comm, p->name, from, NULL, 0, buf, bytes, e);
    return from == comm->rank ? comm_exchange(comm, p->name, 0, buf, bytes, NULL, 0, e) : 0;
}

// All ranks call it. w: on rank 0; NULL: received values are dropped, because there was a failure
// before.
static int put_dealt(struct st_writer *w, struct train_core *c, const struct state_piece *p,
                     float *buf, struct err *e)
{
    struct err ignored;
    int rc = 0;
    for (size_t r = 0; r < ranks_size(c->set.comm); r++) {
        size_t at, n;
        share_of(c, p, r, &at, &n);
        for (size_t end = at + n; at < end; at += n) {
            n = end - at < CHUNK ? end - at : CHUNK;
            if (next_share(c, p, (int)r, at, n, buf, rc ? &ignored : e) ||
                (w && !rc && st_writer_put(w, buf, n * sizeof *buf, e)))
                rc = -1;
        }
    }
    return rc;
}

static int put_piece(struct st_writer *w, struct train_core *c, const struct state_piece *p,
                     float *buf, struct err *e)
{
    for (size_t at = 0; at < p->n; at += CHUNK) {
        size_t n = p->n - at < CHUNK ? p->n - at : CHUNK;
        if (c->d->op->download(c->d, buf, p->at + at, n * sizeof *buf, e) ||
            st_writer_put(w, buf, n * sizeof *buf, e))
            return -1;
    }
    return 0;
}

// With rc not 0 nothing is written, but the values that other ranks send are received.
static int write_pieces(const char *path, struct train_core *c, struct state_piece *p, size_t n,
                        struct st_spec *specs, float *buf, int rc, struct err *e)
{
    struct out o = {0};
    struct st_writer w;
    struct err ignored;
    for (size_t i = 0; i < n; i++)
        specs[i] = (struct st_spec){p[i].name, ST_F32, 1, {p[i].whole}, &p[i]};
    bool opened = !rc && !(rc = out_open(&o, path, e));
    if (!rc)
        rc = st_writer_begin(&w, &o, specs, n, NULL, 0, e);
    for (size_t i = 0; i < n; i++) {
        const struct state_piece *q = specs[i].user;
        if (q->dealt && put_dealt(rc ? NULL : &w, c, q, buf, rc ? &ignored : e))
            rc = -1;
        if (!q->dealt && !rc)
            rc = put_piece(&w, c, q, buf, e);
    }
    if (!rc)
        rc = st_writer_end(&w, e);
    if (!rc)
        rc = out_commit(&o, e);
    if (opened)
        out_abort(&o);
    return rc;
}

static int write_optimizer(const char *path, struct train_core *c, int rc, struct err *e)
{
    struct err ignored;
    struct err *why = rc ? &ignored : e;
    size_t most = N_PARTS * c->optim.n;
    struct state_piece *p = mem_alloc(most, sizeof *p, why);
    struct st_spec *specs = p ? mem_alloc(most, sizeof *specs, why) : NULL;
    float *buf = specs ? mem_alloc(CHUNK, sizeof *buf, why) : NULL;
    rc = buf ? write_pieces(path, c, p, list_pieces(c, p), specs, buf, rc, why) : -1;
    free(buf);
    free(specs);
    free(p);
    return rc;
}

// The part of the ranks above 0 in a checkpoint: they send what rank 0 does not have, in its order.
static int send_shares(struct train_core *c, struct err *e)
{
    struct state_piece *p = mem_alloc(N_PARTS * c->optim.n, sizeof *p, e);
    float *buf = p ? mem_alloc(CHUNK, sizeof *buf, e) : NULL;
    int rc = buf ? 0 : -1;
    size_t n = buf ? list_pieces(c, p) : 0;
    for (size_t i = 0; i < n && !rc; i++)
        rc = p[i].dealt ? put_dealt(NULL, c, &p[i], buf, e) : 0;
    free(buf);
    free(p);
    return rc;
}

static int read_piece(const struct safetensors *s, struct train_core *c,
                      const struct state_piece *p, float *buf, struct err *e)
{
    const struct st_tensor *t = st_find(s, p->name);
    if (!t || t->numel != p->whole)
        return err_set(e, "optimizer.safetensors: '%s' %s", p->name,
                       t ? "has another size" : "is missing");
    for (size_t at = 0; at < p->n; at += CHUNK) {
        size_t n = p->n - at < CHUNK ? p->n - at : CHUNK;
        if (st_read_f32(t, p->first + at, n, buf, e))
            return -1;
        c->d->op->upload(c->d, p->at + at, buf, n * sizeof *buf);
        if (c->d->op->sync(c->d, e))
            return -1;
    }
    return 0;
}

static int read_optimizer(const char *path, struct train_core *c, struct err *e)
{
    struct safetensors s;
    struct state_piece *p = mem_alloc(N_PARTS * c->optim.n, sizeof *p, e);
    float *buf = p ? mem_alloc(CHUNK, sizeof *buf, e) : NULL;
    int rc = buf ? st_open(&s, path, e) : -1;
    if (!rc) {
        size_t n = list_pieces(c, p);
        if (s.n_tensors != n)
            rc = err_set(e, "%s: has %zu tensors, not %zu", path, s.n_tensors, n);
        for (size_t i = 0; i < n && !rc; i++)
            rc = read_piece(&s, c, &p[i], buf, e);
        st_close(&s);
    }
    free(buf);
    free(p);
    return rc;
}

// -- whole checkpoints

// rc: what happened before.
static int fill_dir(const char *dir, struct train_core *c, const struct train_state *s,
                    const char *tokenizer, int rc, struct err *e)
{
    char path[PATH_MAX] = "";
    if (!rc)
        rc = write_model(dir, c, tokenizer, e) || path_join(path, dir, "optimizer.safetensors", e);
    return write_optimizer(path, c, rc, e) || train_state_write(dir, s, e) ? -1 : 0;
}

static int write_here(const char *out, struct train_core *c, const struct train_state *s,
                      const char *tokenizer, const struct checkpoint_keep *keep,
                      char path[PATH_MAX], struct err *e)
{
    char tmp[PATH_MAX];
    int begun = checkpoint_dir_begin(out, s->step, tmp, e);
    if (fill_dir(tmp, c, s, tokenizer, begun, e)) {
        if (!begun)
            checkpoint_remove(tmp);
        return -1;
    }
    return checkpoint_dir_commit(out, s->step, tmp, path, e) ||
                   checkpoint_dir_prune(out, s->step, keep, e)
               ? -1
               : 0;
}

int train_checkpoint_write(const char *out, struct train_core *c, const struct train_state *s,
                           const char *tokenizer, const struct checkpoint_keep *keep,
                           char path[PATH_MAX], struct err *e)
{
    struct comm *comm = c->set.comm;
    int rc = ranks_rank(comm) ? send_shares(c, e) : write_here(out, c, s, tokenizer, keep, path, e);
    if (ranks_size(comm) == 1)
        return rc;
    return comm_agree(comm, rc, e) || comm_broadcast(comm, "name", 0, path, PATH_MAX, e) ? -1 : 0;
}

int train_checkpoint_load(const char *path, struct train_core *c, const struct train_state *s,
                          struct err *e)
{
    char file[PATH_MAX];
    float *flat = mem_alloc(c->table.n_flat, sizeof *flat, e);
    if (!flat)
        return -1;
    int rc = clip_weights_load_into(path, &c->table, flat, e) ||
             path_join(file, path, "optimizer.safetensors", e) || train_core_load(c, flat, e) ||
             read_optimizer(file, c, e);
    free(flat);
    c->optim.step = s->taken;
    return rc ? -1 : 0;
}
