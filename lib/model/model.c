// SPDX-License-Identifier: Apache-2.0
// Batches of any size through the towers, a pass at a time.
#include "model/model.h"

#include <string.h>

static size_t dim_of(const struct clip_model *m, enum clip_tower_id tower)
{
    return tower == CLIP_VISION ? clip_model_image_dim(m) : (size_t)m->cfg.embed_dim;
}

size_t clip_model_image_dim(const struct clip_model *m)
{
    return (size_t)(m->headless ? clip_pool_width(&m->cfg, CLIP_VISION) : m->cfg.embed_dim);
}

// From inputs on the device to embeddings: the same operations for every pass of n pictures.
static void run(struct clip_model *m, enum clip_tower_id tower, bool unit)
{
    struct dev *d = m->dev;
    struct clip_work *w = &m->work[tower];
    clip_tower_forward(d, &w->tape, m->headless && tower == CLIP_VISION, w->emb);
    if (unit)
        d->op->unit(d, w->tape.n, dim_of(m, tower), w->emb, w->emb, NULL);
}

// Embeddings on their way to the host.
static uint64_t fetch(struct clip_model *m, enum clip_tower_id tower, float *out)
{
    const struct clip_work *w = &m->work[tower];
    return m->dev->op->fetch(m->dev, out, w->emb, w->tape.n * dim_of(m, tower) * sizeof *out);
}

// Passes of the largest number of pictures so far (all but the last of a batch) are recorded as a
// graph.
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

static void image_pass(struct clip_model *m, size_t n, const uint8_t *pixels, bool unit, float *out,
                       uint64_t *number)
{
    struct dev *d = m->dev;
    struct clip_work *w = &m->work[CLIP_VISION];
    size_t size = (size_t)m->cfg.image_size;
    struct dev_record **record = record_of(m, n, unit);
    w->tape.n = n;
    clip_tape_images(d, &w->tape);
    d->op->upload(d, w->pixels, pixels, n * size * size * 3);
    if (!record)
        run(m, CLIP_VISION, unit);
    while (record && d->op->record(d, record)) {
        run(m, CLIP_VISION, unit);
        if (!d->op->recorded(d, *record))
            break;
    }
    *number = fetch(m, CLIP_VISION, out);
}

int clip_model_images_start(struct clip_model *m, size_t n, const uint8_t *pixels, bool unit,
                            float *out, uint64_t *number, struct err *e)
{
    size_t size = (size_t)m->cfg.image_size, bytes = size * size * 3;
    (void)e;
    *number = 0;
    for (size_t i = 0, k; i < n; i += k) {
        k = n - i < m->work[CLIP_VISION].seqs ? n - i : m->work[CLIP_VISION].seqs;
        image_pass(m, k, pixels + i * bytes, unit, out + i * clip_model_image_dim(m), number);
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

// The number of texts that fit into one pass.
static size_t text_pass(struct clip_model *m, size_t n, const int32_t *tokens, bool unit,
                        float *out, uint64_t *number)
{
    struct clip_work *w = &m->work[CLIP_TEXT];
    size_t context = (size_t)m->cfg.context, rows = 0, k = 0;
    size_t all = (size_t)clip_config_text_positions(&m->cfg);
    for (; k < n && k < w->seqs; k++) {
        size_t len = m->whole ? all : clip_text_length(&m->cfg, tokens + k * context);
        if (rows + len > w->rows)
            break;
        rows += len;
    }
    w->tape.n = k;
    clip_tape_texts(m->dev, &w->tape, tokens, m->whole);
    run(m, CLIP_TEXT, unit);
    *number = fetch(m, CLIP_TEXT, out);
    return k;
}

int clip_model_texts_start(struct clip_model *m, size_t n, const int32_t *tokens, bool unit,
                           float *out, uint64_t *number, struct err *e)
{
    size_t context = (size_t)m->cfg.context, dim = (size_t)m->cfg.embed_dim;
    *number = 0;
    if (clip_check_tokens(&m->cfg, n, tokens, e))
        return -1;
    for (size_t i = 0; i < n;)
        i += text_pass(m, n - i, tokens + i * context, unit, out + i * dim, number);
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

// Multiplications and additions, counted separately, of the pool over s rows.
static double pool_products(const struct clip_config *c, enum clip_tower_id id, double s)
{
    const struct clip_tower *t = id == CLIP_VISION ? &c->vision : &c->text;
    double w = t->width, f = clip_pool_width(c, id), m = t->pool_mlp;
    if (clip_tower_blocks(t) == t->layers)
        return 0;
    return s * 2 * w * f + 2 * f * f + 2 * s * f + 2 * f * m;
}

double clip_model_flop(const struct clip_config *c, enum clip_tower_id tower, size_t tokens,
                       bool whole)
{
    bool vision = tower == CLIP_VISION;
    const struct clip_tower *t = vision ? &c->vision : &c->text;
    double s = vision ? clip_config_positions(c) : (double)tokens, w = t->width;
    double mlp = (t->swiglu ? 3.0 : 2.0) * t->mlp, f = clip_pool_width(c, tower);
    double matrices = 4 * w * w + w * mlp;
    double scores = vision || t->no_mask ? s * s : s * (s + 1) / 2;
    double block = s * matrices + 2 * scores * w;
    bool all = whole || t->pool != CLIP_POOL_TOKEN;
    double last = all ? block : s * 2 * w * w + (matrices - 2 * w * w) + 2 * s * w;
    double stem = vision ? c->grid * c->grid * 3.0 * c->patch_size * c->patch_size * w : 0;
    double head = t->no_head ? 0 : f * c->embed_dim;
    return 2 * (stem + (t->layers - 1) * block + last + pool_products(c, tower, s) + head);
}
