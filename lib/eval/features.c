// SPDX-License-Identifier: Apache-2.0
#include "eval/features.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/path.h"
#include "config/crop.h"
#include "base/mem.h"
#include "formats/npy-write.h"
#include "formats/npy.h"

enum { KEY_ROOM = 512 };

// Pictures wait here until a batch is full.
struct collect {
    struct eval_features *f;
    const struct eval_model *m;
    const struct eval_set *set;
    bool embed;      // false: features come from the cache
    uint8_t *pixels; // [batch, size, size, 3]
    size_t *row;     // [batch]: where each one's features go
    float *out;      // [batch, dim]
    size_t waiting, image_bytes;
    size_t total; // samples of the split, where they are embedded and progress is wanted
};

static int grow(void *pointer_to, size_t *cap, size_t need, size_t size, struct err *e)
{
    void *p;
    memcpy(&p, pointer_to, sizeof p);
    int rc = mem_grow(&p, cap, need, size, e);
    memcpy(pointer_to, &p, sizeof p);
    return rc;
}

static int check_finite(const struct eval_features *f, size_t row, struct err *e)
{
    for (size_t j = 0; j < f->dim; j++)
        if (!isfinite(f->x[row * f->dim + j]))
            return err_set(e, "the features of '%s' are not finite", f->names[row]);
    return 0;
}

int eval_go_on(const struct eval_model *m, struct err *e)
{
    return m->stop && m->stop() ? err_set(e, "the evaluation was stopped") : 0;
}

static int embed_waiting(struct collect *c, struct err *e)
{
    struct eval_features *f = c->f;
    if (c->waiting == 0)
        return 0;
    if (eval_go_on(c->m, e) ||
        clip_model_images(c->m->clip, c->waiting, c->pixels, true, c->out, e))
        return -1;
    for (size_t i = 0; i < c->waiting; i++) {
        memcpy(f->x + c->row[i] * f->dim, c->out + i * f->dim, f->dim * sizeof *f->x);
        if (check_finite(f, c->row[i], e))
            return -1;
    }
    c->waiting = 0;
    eval_progress(c->m, "samples", f->n, c->total);
    return 0;
}

static int add_captions(struct eval_features *f, const struct eval_sample *s, struct err *e)
{
    for (size_t k = 0; k < s->n_captions; k++) {
        size_t n = f->n_captions;
        if (grow(&f->captions, &f->cap_captions, n + 1, sizeof *f->captions, e) ||
            grow(&f->caption_row, &f->cap_caption_row, n + 1, sizeof *f->caption_row, e) ||
            !(f->captions[n] = mem_strdup(s->captions[k], e)))
            return -1;
        f->caption_row[n] = f->n;
        f->n_captions++;
    }
    return 0;
}

static int add_row(struct collect *c, const struct eval_sample *s, struct err *e)
{
    struct eval_features *f = c->f;
    size_t n = f->n, classes = c->set->classes.n;
    size_t room = strlen(s->shard_name) + strlen(s->key) + 2;
    if (grow(&f->names, &f->cap_names, n + 1, sizeof *f->names, e) ||
        grow(&f->label, &f->cap_label, n + 1, sizeof *f->label, e) ||
        !(f->names[n] = mem_alloc(room, 1, e)))
        return -1;
    snprintf(f->names[n], room, "%s/%s", s->shard_name, s->key);
    f->label[n] = s->label;
    if (s->targets) {
        if (grow(&f->targets, &f->cap_targets, (n + 1) * classes, 1, e)) {
            free(f->names[n]);
            return -1;
        }
        memcpy(f->targets + n * classes, s->targets, classes);
    }
    int rc = add_captions(f, s, e);
    f->n++;
    return rc;
}

static int on_sample(void *user, const struct eval_sample *s, struct err *e)
{
    struct collect *c = user;
    struct eval_features *f = c->f;
    size_t row = f->n;
    if (add_row(c, s, e))
        return -1;
    if (!c->embed)
        return 0;
    size_t cells;
    if (!mem_mul(row + 1, f->dim, &cells))
        return err_set(e, "too many features");
    if (grow(&f->x, &f->cap_x, cells, sizeof *f->x, e))
        return -1;
    memset(f->x + row * f->dim, 0, f->dim * sizeof *f->x);
    if (!s->pixels) {
        if (f->failed++ == 0)
            snprintf(f->first_failure, sizeof f->first_failure, "%s: %s", f->names[row], s->reason);
        return 0;
    }
    memcpy(c->pixels + c->waiting * c->image_bytes, s->pixels, c->image_bytes);
    c->row[c->waiting++] = row;
    return c->waiting == c->m->batch ? embed_waiting(c, e) : 0;
}

static void picture_of(struct read_picture *p, const struct clip_config *cfg)
{
    *p = (struct read_picture){.max_pixels = image_limits_default.max_pixels};
    clip_crop(cfg, &p->crop);
}

static int read_all(struct collect *c, const char *split, struct err *e)
{
    struct read_picture picture;
    picture_of(&picture, &c->m->clip->cfg);
    size_t side = (size_t)c->m->clip->cfg.image_size;
    c->image_bytes = side * side * 3;
    if (c->embed) {
        c->pixels = mem_alloc(c->m->batch, c->image_bytes, e);
        c->row = mem_alloc(c->m->batch, sizeof *c->row, e);
        c->out = mem_alloc(c->m->batch * c->f->dim, sizeof *c->out, e);
    }
    int rc = -1;
    if (!c->embed || (c->pixels && c->row && c->out))
        rc = eval_set_read(c->set, split, c->embed ? &picture : NULL, c->m->threads, on_sample, c,
                           e);
    if (rc == 0 && c->embed)
        rc = embed_waiting(c, e);
    free(c->pixels);
    free(c->row);
    free(c->out);
    return rc;
}

// ---- the cache

int eval_features_key(char *text, size_t room, const struct eval_model *m, struct err *e)
{
    const struct clip_config *c = &m->clip->cfg;
    const struct clip_preprocess *p = &c->preprocess;
    int n = snprintf(text, room, "%s %s %s %s %s %d %d %s %s %d", CLIPCID_VERSION, m->digest,
                     m->variant, m->clip->dev->name, m->clip->whole ? "whole" : "", c->image_size,
                     p->fill, clip_resample_name(p->resample), clip_fit_name(p->fit),
                     (int)m->clip->headless);
    return n < 0 || (size_t)n >= room ? err_set(e, "name of the cache is too long") : 0;
}

// The name of a split's features: a digest of all they depend on, this program's version too.
static int cache_path(char path[PATH_BYTES], const struct eval_model *m, const struct eval_set *s,
                      const char *split, struct err *e)
{
    char set[DIGEST_HEX], hex[DIGEST_HEX], text[KEY_ROOM];
    if (eval_features_key(text, sizeof text, m, e) || eval_set_digest(s, split, set, e))
        return -1;
    size_t n = strlen(text);
    if (n + DIGEST_HEX >= sizeof text)
        return err_set(e, "name of the cache is too long");
    snprintf(text + n, sizeof text - n, " %s", set);
    digest_bytes(text, strlen(text), hex);
    return path_format(path, e, "%s/%s.npy", m->cache, hex);
}

static int load_cached(struct eval_features *f, const char *path, struct err *e)
{
    struct npy a = {0};
    int rc = npy_open_as(&a, path, NPY_F4, 2, e);
    if (rc == 0 && (a.h.rows != f->n || a.h.dim != f->dim))
        rc = err_set(e, "'%s' does not fit the set it is for", path);
    if (rc == 0) {
        f->x = mem_alloc(f->n * f->dim, sizeof *f->x, e);
        rc = f->x ? npy_rows_f32(&a, 0, f->n, f->x, e) : -1;
    }
    npy_close(&a);
    for (size_t i = 0; rc == 0 && i < f->n; i++) {
        rc = check_finite(f, i, e);
        bool zero = true;
        for (size_t j = 0; zero && j < f->dim; j++)
            zero = f->x[i * f->dim + j] == 0;
        if (zero && f->failed++ == 0)
            snprintf(f->first_failure, sizeof f->first_failure, "%s", f->names[i]);
    }
    return rc;
}

static int store(const struct eval_features *f, const char *path, struct err *e)
{
    struct npy_writer w;
    if (npy_create(&w, path, NPY_F4, 1, (uint64_t[]){f->dim}, f->n, e))
        return -1;
    if (npy_write_f32(&w, f->x, f->n, e) || npy_commit(&w, e)) {
        npy_abort(&w);
        return -1;
    }
    return 0;
}

int eval_features_get(struct eval_features *f, const struct eval_model *m, const struct eval_set *s,
                      const char *split, struct err *e)
{
    char path[PATH_BYTES] = "";
    *f = (struct eval_features){.dim = clip_model_image_dim(m->clip)};
    struct collect c = {.f = f, .m = m, .set = s};
    if (m->cache && cache_path(path, m, s, split, e))
        return -1;
    bool cached = m->cache && access(path, F_OK) == 0;
    c.embed = !cached;
    if (c.embed && m->progress) {
        c.total = eval_set_count(s, split);
        eval_progress(m, "samples", 0, c.total);
    }
    int rc = read_all(&c, split, e);
    if (rc == 0 && cached)
        rc = load_cached(f, path, e);
    else if (rc == 0 && m->cache)
        rc = store(f, path, e);
    if (rc == 0 && f->n == 0)
        rc = err_set(e, "'%s' has no samples in '%s'", s->folder, split);
    if (rc)
        eval_features_release(f);
    return rc;
}

void eval_features_release(struct eval_features *f)
{
    for (size_t i = 0; i < f->n; i++)
        free(f->names[i]);
    for (size_t i = 0; i < f->n_captions; i++)
        free(f->captions[i]);
    free(f->x);
    free(f->label);
    free(f->targets);
    free(f->names);
    free(f->captions);
    free(f->caption_row);
    *f = (struct eval_features){0};
}
