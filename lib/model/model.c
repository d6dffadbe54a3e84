// SPDX-License-Identifier: Apache-2.0
// The forward pass. Both towers share `transform`: rows in m->work[t].x in, embeddings out.
#include "model/model.h"

#include <stdlib.h>
#include <string.h>

#include "model/model-work.h"
#include "base/mem.h"

// Sequences of one pass: where they start (host copies) and which row each is read at.
struct pass {
    struct clip_model *m;
    enum clip_tower_id tower;
    size_t rows;
    struct dev_ragged seq;
};

static enum dev_act act_of(enum clip_act a)
{
    return a == CLIP_GELU ? DEV_ACT_GELU : DEV_ACT_QUICK_GELU;
}

static void layer_norm(struct pass *p, size_t rows, const float *x, const float *w, const float *b,
                       void *y, bool y_f32)
{
    struct dev *d = p->m->dev;
    const struct clip_tower *t = &p->m->tower[p->tower].cfg;
    size_t width = (size_t)t->width;
    d->op->layer_norm(d, rows, width, x, width, w, b, (float)t->eps, y, y_f32, NULL, NULL);
}

static void linear_add(struct pass *p, size_t rows, const void *x, size_t in,
                       const struct dev_weight *w, const float *bias, const float *gamma,
                       float *residual)
{
    struct dev *d = p->m->dev;
    struct dev_epilogue ep = {.bias = bias, .gamma = gamma, .residual = residual};
    d->op->linear(d, rows, x, in, w, &ep, NULL, false);
}

static void mlp(struct pass *p, const struct clip_block *b, size_t rows, float *x, void *y)
{
    struct dev *d = p->m->dev;
    const struct clip_tower *t = &p->m->tower[p->tower].cfg;
    void *h = p->m->work[p->tower].h;
    struct dev_epilogue ep = {.bias = b->fc_b, .act = act_of(t->act)};
    layer_norm(p, rows, x, b->ln2_w, b->ln2_b, y, false);
    d->op->linear(d, rows, y, (size_t)t->width, b->fc, &ep, h, false);
    linear_add(p, rows, h, (size_t)t->mlp, b->proj, b->proj_b, b->ls2, x);
}

static struct dev_attention attention_of(const struct pass *p)
{
    const struct clip_tower *t = &p->m->tower[p->tower].cfg;
    return (struct dev_attention){.heads = (size_t)t->heads,
                                  .head_dim = (size_t)t->head_width,
                                  .causal = p->tower == CLIP_TEXT,
                                  .kv = p->seq,
                                  .out_ld = (size_t)t->width};
}

static void whole_block(struct pass *p, const struct clip_block *b)
{
    struct dev *d = p->m->dev;
    struct clip_work *w = &p->m->work[p->tower];
    size_t width = (size_t)p->m->tower[p->tower].cfg.width;
    struct dev_epilogue ep = {.bias = b->qkv_b};
    layer_norm(p, p->rows, w->x, b->ln1_w, b->ln1_b, w->y, false);
    d->op->linear(d, p->rows, w->y, width, b->qkv, &ep, w->h, false);
    struct dev_attention a = attention_of(p);
    a.q = w->h;
    a.k = (char *)w->h + width * d->act_size;
    a.v = (char *)w->h + 2 * width * d->act_size;
    a.q_ld = a.kv_ld = 3 * width;
    a.out = w->y;
    d->op->attention(d, &a);
    linear_add(p, p->rows, w->y, width, b->out, b->out_b, b->ls1, w->x);
    mlp(p, b, p->rows, w->x, w->y);
}

// Keys and values of all rows, the rest for the rows that are read; these end in x_read.
static void last_block(struct pass *p, const struct clip_block *b)
{
    struct dev *d = p->m->dev;
    struct clip_work *w = &p->m->work[p->tower];
    size_t width = (size_t)p->m->tower[p->tower].cfg.width, n = p->seq.n;
    struct dev_epilogue q_ep = {.bias = b->qkv_b}, kv_ep = {.bias = b->qkv_b + width};
    layer_norm(p, p->rows, w->x, b->ln1_w, b->ln1_b, w->y, false);
    d->op->linear(d, p->rows, w->y, width, b->kv, &kv_ep, w->h, false);
    d->op->gather_act(d, n, width, w->y, width, w->read, w->y_read);
    d->op->linear(d, n, w->y_read, width, b->q, &q_ep, w->q, false);
    struct dev_attention a = attention_of(p);
    a.last_only = true;
    a.q_row = w->last;
    a.q = w->q;
    a.k = w->h;
    a.v = (char *)w->h + width * d->act_size;
    a.q_ld = width;
    a.kv_ld = 2 * width;
    a.out = w->o;
    d->op->attention(d, &a);
    d->op->gather(d, n, width, w->x, width, w->read, w->x_read);
    linear_add(p, n, w->o, width, b->out, b->out_b, b->ls1, w->x_read);
    mlp(p, b, n, w->x_read, w->y_read);
}

static void transform(struct pass *p)
{
    struct clip_model *m = p->m;
    struct dev *d = m->dev;
    struct clip_tower_model *t = &m->tower[p->tower];
    struct clip_work *w = &m->work[p->tower];
    size_t width = (size_t)t->cfg.width, n = p->seq.n;
    int whole = m->whole ? t->cfg.layers : t->cfg.layers - 1;
    for (int i = 0; i < whole; i++)
        whole_block(p, &t->blocks[i]);
    if (m->whole)
        d->op->gather(d, n, width, w->x, width, w->read, w->x_read);
    else
        last_block(p, &t->blocks[t->cfg.layers - 1]);
    if (m->headless && p->tower == CLIP_VISION) {
        layer_norm(p, n, w->x_read, t->ln_final_w, t->ln_final_b, w->emb, true);
        return;
    }
    layer_norm(p, n, w->x_read, t->ln_final_w, t->ln_final_b, w->y_read, false);
    d->op->linear(d, n, w->y_read, width, t->head, NULL, w->emb, true);
}

size_t clip_model_image_dim(const struct clip_model *m)
{
    return (size_t)(m->headless ? m->tower[CLIP_VISION].cfg.width : m->cfg.embed_dim);
}

// Raw or unit embeddings on their way to the host.
static uint64_t fetch(struct pass *p, float *out)
{
    struct dev *d = p->m->dev;
    size_t dim = p->tower == CLIP_VISION ? clip_model_image_dim(p->m) : (size_t)p->m->cfg.embed_dim;
    return d->op->fetch(d, out, p->m->work[p->tower].emb, p->seq.n * dim * sizeof *out);
}

static void make_unit(struct pass *p)
{
    struct dev *d = p->m->dev;
    float *emb = p->m->work[p->tower].emb;
    size_t dim = p->tower == CLIP_VISION ? clip_model_image_dim(p->m) : (size_t)p->m->cfg.embed_dim;
    d->op->unit(d, p->seq.n, dim, emb, emb, NULL);
}

// Uploads starts, rows to read and positions; host index rows come in p->m->host: start [n + 1],
// read [n], last [n].
static void upload_index(struct pass *p, const int32_t *start, const int32_t *read,
                         const int32_t *last)
{
    struct dev *d = p->m->dev;
    struct clip_work *w = &p->m->work[p->tower];
    d->op->upload(d, w->start, start, (p->seq.n + 1) * sizeof *start);
    d->op->upload(d, w->read, read, p->seq.n * sizeof *read);
    d->op->upload(d, w->last, last, p->seq.n * sizeof *last);
}

struct index_rows {
    int32_t *start, *read, *last, *token;
};

// Room for a pass of either tower, from the first pass on.
static int index_room(struct clip_model *m, const struct clip_work *w, struct index_rows *i,
                      struct err *e)
{
    size_t seqs = m->work[0].seqs > m->work[1].seqs ? m->work[0].seqs : m->work[1].seqs;
    if (!m->host &&
        !(m->host = mem_alloc(3 * seqs + 1 + m->work[CLIP_TEXT].rows, sizeof *m->host, e)))
        return -1;
    i->start = m->host;
    i->read = i->start + w->seqs + 1;
    i->last = i->read + w->seqs;
    i->token = i->last + w->seqs;
    return 0;
}

// Where the pictures of a pass start is the same whenever there are as many.
static int image_index(struct pass *p, struct err *e)
{
    struct clip_model *m = p->m;
    struct clip_work *w = &m->work[CLIP_VISION];
    struct index_rows i;
    size_t n = p->seq.n;
    if (w->indexed == n)
        return 0;
    if (index_room(m, w, &i, e))
        return -1;
    for (size_t k = 0; k <= n; k++)
        i.start[k] = (int32_t)(k * p->seq.max_len);
    memcpy(i.read, i.start, n * sizeof *i.read);
    memset(i.last, 0, n * sizeof *i.last);
    upload_index(p, i.start, i.read, i.last);
    w->indexed = n;
    return 0;
}

// From pixels on the device to embeddings: the same operations for every pass of n pictures.
static void image_tower(struct pass *p, bool unit)
{
    struct clip_model *m = p->m;
    struct dev *d = m->dev;
    const struct clip_config *c = &m->cfg;
    struct clip_tower_model *t = &m->tower[CLIP_VISION];
    struct clip_work *w = &m->work[CLIP_VISION];
    size_t size = (size_t)c->image_size, patches = (size_t)(c->grid * c->grid), n = p->seq.n;
    size_t width = (size_t)t->cfg.width, patch = (size_t)c->patch_size;
    float mean[3], std[3];
    for (int i = 0; i < 3; i++) {
        mean[i] = (float)c->preprocess.mean[i];
        std[i] = (float)c->preprocess.std[i];
    }
    d->op->patchify(d, n, size, patch, w->pixels, mean, std, w->h);
    d->op->linear(d, n * patches, w->h, 3 * patch * patch, t->patch, NULL, w->patch, true);
    d->op->assemble(d, n, patches, width, w->patch, t->cls, t->pos, w->x);
    layer_norm(p, p->rows, w->x, t->ln_pre_w, t->ln_pre_b, w->x, true);
    transform(p);
    if (unit)
        make_unit(p);
}

// Passes of the largest number so far, all but the last of a batch, are recorded.
static struct dev_record **record_of(struct clip_model *m, size_t n, bool unit)
{
    struct clip_work *w = &m->work[CLIP_VISION];
    if (n < w->recorded || (n == w->recorded && unit != w->recorded_unit))
        return NULL;
    if (n > w->recorded && w->record) {
        m->dev->op->record_free(m->dev, w->record);
        w->record = NULL;
    }
    w->recorded = n;
    w->recorded_unit = unit;
    return &w->record;
}

static int image_pass(struct clip_model *m, size_t n, const uint8_t *pixels, bool unit, float *out,
                      uint64_t *number, struct err *e)
{
    struct dev *d = m->dev;
    struct clip_work *w = &m->work[CLIP_VISION];
    size_t size = (size_t)m->cfg.image_size, positions = (size_t)clip_config_positions(&m->cfg);
    struct pass p = {m, CLIP_VISION, n * positions, {n, positions, w->start}};
    struct dev_record **record = record_of(m, n, unit);
    if (image_index(&p, e))
        return -1;
    d->op->upload(d, w->pixels, pixels, n * size * size * 3);
    if (!record)
        image_tower(&p, unit);
    while (record && d->op->record(d, record)) {
        image_tower(&p, unit);
        if (!d->op->recorded(d, *record))
            break;
    }
    *number = fetch(&p, out);
    return 0;
}

int clip_model_images_start(struct clip_model *m, size_t n, const uint8_t *pixels, bool unit,
                            float *out, uint64_t *number, struct err *e)
{
    size_t size = (size_t)m->cfg.image_size, bytes = size * size * 3;
    *number = 0;
    for (size_t i = 0, k; i < n; i += k) {
        k = n - i < m->work[CLIP_VISION].seqs ? n - i : m->work[CLIP_VISION].seqs;
        if (image_pass(m, k, pixels + i * bytes, unit, out + i * clip_model_image_dim(m), number,
                       e))
            return -1;
    }
    return 0;
}

int clip_model_wait(struct clip_model *m, uint64_t number, struct err *e)
{
    return m->dev->op->fetched(m->dev, number, e);
}

int clip_model_images(struct clip_model *m, size_t n, const uint8_t *pixels, bool unit, float *out,
                      struct err *e)
{
    uint64_t number;
    return clip_model_images_start(m, n, pixels, unit, out, &number, e) ||
                   clip_model_wait(m, number, e)
               ? -1
               : 0;
}

int clip_text_read_position(const struct clip_config *c, const int32_t *tokens)
{
    int best = 0;
    for (int i = 0; i < c->context; i++) {
        if (c->eos_id >= 0 && tokens[i] == c->eos_id)
            return i;
        if (c->eos_id < 0 && tokens[i] > tokens[best])
            best = i;
    }
    return best;
}

static int check_tokens(const struct clip_config *c, const int32_t *tokens, struct err *e)
{
    for (int i = 0; i < c->context; i++)
        if (tokens[i] < 0 || tokens[i] >= c->vocab)
            return err_set(e, "token %d is not in the model's vocabulary of %d", (int)tokens[i],
                           c->vocab);
    return 0;
}

// As many texts as fit into one pass; their number, or 0 with e set.
static size_t text_pass(struct clip_model *m, size_t n, const int32_t *tokens, bool unit,
                        float *out, uint64_t *number, struct err *e)
{
    struct dev *d = m->dev;
    const struct clip_config *c = &m->cfg;
    struct clip_tower_model *t = &m->tower[CLIP_TEXT];
    struct clip_work *w = &m->work[CLIP_TEXT];
    size_t context = (size_t)c->context;
    struct pass p = {m, CLIP_TEXT, 0, {0, 0, w->start}};
    struct index_rows index;
    if (index_room(m, w, &index, e))
        return 0;
    for (size_t i = 0; i < n && i < w->seqs; i++) {
        const int32_t *row = tokens + i * context;
        if (check_tokens(c, row, e))
            return 0;
        int at = clip_text_read_position(c, row);
        size_t len = m->whole ? context : (size_t)at + 1;
        if (p.rows + len > w->rows)
            break;
        index.start[i] = (int32_t)p.rows;
        index.read[i] = (int32_t)p.rows + at;
        index.last[i] = at;
        memcpy(index.token + p.rows, row, len * sizeof *row);
        p.rows += len;
        p.seq.n = i + 1;
        p.seq.max_len = len > p.seq.max_len ? len : p.seq.max_len;
    }
    index.start[p.seq.n] = (int32_t)p.rows;
    upload_index(&p, index.start, index.read, index.last);
    d->op->upload(d, w->token, index.token, p.rows * sizeof *index.token);
    d->op->embed(d, &p.seq, (size_t)t->cfg.width, w->token, t->token, t->pos, w->x);
    transform(&p);
    if (unit)
        make_unit(&p);
    *number = fetch(&p, out);
    return p.seq.n;
}

int clip_model_texts_start(struct clip_model *m, size_t n, const int32_t *tokens, bool unit,
                           float *out, uint64_t *number, struct err *e)
{
    size_t context = (size_t)m->cfg.context, dim = (size_t)m->cfg.embed_dim;
    *number = 0;
    for (size_t i = 0, k; i < n; i += k) {
        k = text_pass(m, n - i, tokens + i * context, unit, out + i * dim, number, e);
        if (!k)
            return -1;
    }
    return 0;
}

int clip_model_texts(struct clip_model *m, size_t n, const int32_t *tokens, bool unit, float *out,
                     struct err *e)
{
    uint64_t number;
    return clip_model_texts_start(m, n, tokens, unit, out, &number, e) ||
                   clip_model_wait(m, number, e)
               ? -1
               : 0;
}

double clip_model_flop(const struct clip_config *c, enum clip_tower_id tower, size_t tokens,
                       bool whole)
{
    bool vision = tower == CLIP_VISION;
    const struct clip_tower *t = vision ? &c->vision : &c->text;
    double s = vision ? clip_config_positions(c) : (double)tokens, w = t->width, mlp_w = t->mlp;
    double matrices = 4 * w * w + 2 * w * mlp_w, scores = vision ? s * s : s * (s + 1) / 2;
    double block = s * matrices + 2 * scores * w;
    double last = whole ? block : s * 2 * w * w + (matrices - 2 * w * w) + 2 * s * w;
    double stem = vision ? (s - 1) * 3 * c->patch_size * c->patch_size * w : 0;
    return 2 * (stem + (t->layers - 1) * block + last + w * c->embed_dim);
}
