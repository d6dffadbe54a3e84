// SPDX-License-Identifier: Apache-2.0
// The way through a whole tower.
#include "device/profile.h"
#include "model/text-class.h"

#include <string.h>

int clip_text_read_position(const struct clip_config *c, const int32_t *tokens)
{
    int best = 0;
    if (c->text.read == CLIP_READ_LAST)
        return c->context - 1;
    for (int i = 0; i < c->context && c->text.read == CLIP_READ_END; i++) {
        if (c->eos_id >= 0 && tokens[i] == c->eos_id)
            return i;
        // Hugging Face's argmax over (token == eos) is 0 where there is none.
        if (c->eos_id < 0 && tokens[i] > tokens[best])
            best = i;
    }
    return best;
}

size_t clip_text_length(const struct clip_config *c, const int32_t *tokens)
{
    if (c->text.class_last)
        return clip_class_tokens(c, tokens) + 1;
    return c->text.no_mask ? (size_t)c->context : (size_t)clip_text_read_position(c, tokens) + 1;
}

int clip_check_tokens(const struct clip_config *c, size_t n, const int32_t *tokens, struct err *e)
{
    for (size_t i = 0; i < n * (size_t)c->context; i++)
        if (tokens[i] < 0 || tokens[i] >= c->vocab)
            return err_set(e, "token %d is not in the model's vocabulary of %d", (int)tokens[i],
                           c->vocab);
    return 0;
}

static void upload_rows(struct dev *d, struct clip_tape *t, const int32_t *start,
                        const int32_t *q_row, const int32_t *sel)
{
    d->op->upload(d, t->start, start, (t->n + 1) * sizeof *start);
    d->op->upload(d, t->q_row, q_row, t->n * sizeof *q_row);
    d->op->upload(d, t->sel, sel, t->n * sizeof *sel);
}

// The same for every batch with as many pictures.
void clip_tape_images(struct dev *d, struct clip_tape *t)
{
    size_t n = t->n;
    int32_t *start = t->host, *q_row = start + n + 1, *sel = q_row + n;
    t->max_len = clip_image_positions(t->net->model, t->drop.keep);
    t->rows = n * t->max_len;
    if (t->indexed == n && t->indexed_len == t->max_len)
        return;
    for (size_t i = 0; i <= n; i++)
        start[i] = (int32_t)(i * t->max_len);
    memset(q_row, 0, n * sizeof *q_row);
    memcpy(sel, start, n * sizeof *sel);
    upload_rows(d, t, start, q_row, sel);
    t->indexed = n;
    t->indexed_len = t->max_len;
}

void clip_tape_pick(struct dev *d, struct clip_tape *t, const int32_t *patch)
{
    const struct clip_config *c = t->net->model;
    size_t keep = t->drop.keep, patches = (size_t)(c->grid * c->grid);
    int32_t first = !c->vision.no_class, *patch_at = t->host + 3 * t->n + 1;
    int32_t *pos_at = patch_at + t->n * keep, *to = pos_at;
    for (size_t i = 0; i < t->n; i++) {
        if (first)
            *to++ = 0;
        for (size_t k = 0; k < keep; k++) {
            patch_at[i * keep + k] = (int32_t)(i * patches) + patch[i * keep + k];
            *to++ = first + patch[i * keep + k];
        }
    }
    d->op->upload(d, t->drop.patch_at, patch_at, t->n * keep * sizeof *patch_at);
    d->op->upload(d, t->drop.pos_at, pos_at, t->rows * sizeof *pos_at);
    if (t->rope)
        d->op->gather(d, t->rows, (size_t)c->vision.head_width, t->rope,
                      (size_t)c->vision.head_width, t->drop.pos_at, t->drop.rope);
}

// The patches that go on as the tower's rows, without positions: all, or those kept.
static const void *stem_patches(struct dev *d, const struct clip_tape *t, size_t values)
{
    if (!t->drop.keep)
        return t->patches;
    d->op->gather_act(d, t->n * t->drop.keep, values, t->patches, values, t->drop.patch_at,
                      t->drop.patches);
    return t->drop.patches;
}

// x: [rows, W]. v + 0 + position is what v + position is.
static void add_positions(struct dev *d, const struct clip_tape *t, size_t patches, size_t W,
                          float *x)
{
    const struct clip_params *p = &t->net->once;
    const float *pos = p->v[CLIP_K_POS], *zero = t->drop.zero;
    d->op->assemble(d, t->n, patches, W, t->patch_rows, p->v[CLIP_K_CLASS],
                    t->drop.keep ? zero : pos, x);
    if (!t->drop.keep)
        return;
    d->op->gather(d, t->rows, W, pos, W, t->drop.pos_at, t->drop.pos);
    d->op->axpy(d, t->rows * W, 1, t->drop.pos, x);
}

void clip_tape_texts(struct dev *d, struct clip_tape *t, const int32_t *tokens, bool whole)
{
    const struct clip_config *c = t->net->model;
    size_t n = t->n, context = (size_t)c->context, at = 0;
    if (c->text.class_last) {
        clip_class_texts(d, t, tokens, whole);
        return;
    }
    int32_t *start = t->host, *q_row = start + n + 1, *sel = q_row + n, *flat = sel + n;
    t->max_len = 1;
    for (size_t i = 0; i < n; i++) {
        const int32_t *row = tokens + i * context;
        int read = clip_text_read_position(c, row);
        size_t len = whole ? context : clip_text_length(c, row);
        start[i] = (int32_t)at;
        q_row[i] = read;
        sel[i] = (int32_t)at + read;
        memcpy(flat + at, row, len * sizeof *flat);
        at += len;
        t->max_len = len > t->max_len ? len : t->max_len;
    }
    start[n] = (int32_t)at;
    t->rows = at;
    upload_rows(d, t, start, q_row, sel);
    d->op->upload(d, t->token, flat, at * sizeof *flat);
}

const char *clip_tower_name(enum clip_tower_id id)
{
    return id == CLIP_VISION ? "image" : "text";
}

const char *clip_stem_name(enum clip_tower_id id)
{
    return id == CLIP_VISION ? "image stem" : "text stem";
}

const char *clip_head_name(enum clip_tower_id id)
{
    return id == CLIP_VISION ? "image head" : "text head";
}

static void image_stem(struct dev *d, struct clip_tape *t)
{
    const struct clip_config *c = t->net->model;
    const struct clip_params *p = &t->net->once;
    size_t patch = (size_t)c->patch_size, values = 3 * patch * patch;
    size_t patches = t->drop.keep ? t->drop.keep : (size_t)(c->grid * c->grid);
    size_t W = (size_t)c->vision.width;
    float mean[3], std[3];
    for (int i = 0; i < 3; i++) {
        mean[i] = (float)c->preprocess.mean[i];
        std[i] = (float)c->preprocess.std[i];
    }
    d->op->patchify(d, t->n, (size_t)c->image_size, patch, t->pixels, mean, std, t->patches);
    struct dev_epilogue bias = {.bias = p->v[CLIP_K_PATCH_B]};
    d->op->linear(d, t->n * patches, stem_patches(d, t, values), values, p->m[CLIP_K_PATCH], &bias,
                  t->patch_rows, true);
    add_positions(d, t, patches, W, c->vision.no_norm_pre ? t->x[0] : t->stem);
    if (!c->vision.no_norm_pre)
        d->op->layer_norm(d, t->rows, W, t->stem, W, p->v[CLIP_K_LN_PRE_W], p->v[CLIP_K_LN_PRE_B],
                          (float)c->vision.eps, t->x[0], true, t->mean0, t->rstd0);
}

static void text_stem(struct dev *d, struct clip_tape *t)
{
    const struct clip_params *p = &t->net->once;
    struct dev_ragged r = {t->n, t->max_len, t->start};
    if (t->net->cfg->class_last)
        clip_class_embed(d, t);
    d->op->embed(d, &r, (size_t)t->net->cfg->width, t->token, p->v[CLIP_K_TOKEN], p->v[CLIP_K_POS],
                 t->x[0]);
}

static void final_norm(struct dev *d, struct clip_tape *t, size_t rows, size_t cols, const float *x,
                       void *y, bool y_f32)
{
    const struct clip_params *p = &t->net->once;
    d->op->layer_norm(d, rows, cols, x, cols, p->v[CLIP_K_LN_FINAL_W], p->v[CLIP_K_LN_FINAL_B],
                      (float)t->net->cfg->eps, y, y_f32, t->mean_f, t->rstd_f);
}

static void project(struct dev *d, struct clip_tape *t, size_t width, float *z)
{
    const struct clip_params *p = &t->net->once;
    struct dev_epilogue bias = {.bias = p->v[CLIP_K_HEAD_B]};
    d->op->linear(d, t->n, t->hf, width, p->m[CLIP_K_HEAD], &bias, z, true);
}

// From t->y to z.
static void head(struct dev *d, struct clip_tape *t, bool headless, float *z)
{
    const struct clip_tower *c = t->net->cfg;
    size_t F = (size_t)clip_pool_width(t->net->model, t->net->id);
    bool end = headless || c->no_head;
    if (!clip_tower_norm_last(c)) {
        if (end)
            d->op->copy(d, z, t->y, t->n * F * sizeof *z);
        else
            d->op->to_act(d, t->n, F, t->y, F, NULL, t->hf);
    } else {
        final_norm(d, t, t->n, F, t->y, end ? (void *)z : t->hf, end);
    }
    if (!end)
        project(d, t, F, z);
}

// Gathers one row a sample from those that the last block returned.
static void pool_rows(struct dev *d, struct clip_tape *t, float *x)
{
    const struct clip_tower *c = t->net->cfg;
    size_t W = (size_t)c->width;
    if (c->pool == CLIP_POOL_TOKEN) {
        d->op->gather(d, t->n, W, x, W, t->sel, t->y);
        return;
    }
    if (c->norm_first)
        final_norm(d, t, t->rows, W, x, t->normed, true);
    d->op->mean_rows(d, t->n, t->max_len, !c->no_class, W, c->norm_first ? t->normed : x, t->y);
}

void clip_tower_forward(struct dev *d, struct clip_tape *t, bool headless, float *z)
{
    int blocks = clip_tower_blocks(t->net->cfg);
    dev_profile_at(d, clip_stem_name(t->net->id), -1, false);
    if (t->net->id == CLIP_VISION)
        image_stem(d, t);
    else
        text_stem(d, t);
    for (int l = 0; l + 1 < blocks; l++)
        clip_block_forward(d, t, l, t->x[l + 1]);
    if (clip_net_split(t->net, blocks - 1)) {
        clip_block_forward(d, t, blocks - 1, t->y);
    } else {
        clip_block_forward(d, t, blocks - 1, t->end);
        pool_rows(d, t, t->end);
    }
    dev_profile_at(d, clip_head_name(t->net->id), -1, false);
    head(d, t, headless, z);
}
