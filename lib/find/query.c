// SPDX-License-Identifier: Apache-2.0
#include "find/query.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "config/crop.h"
#include "device/dev.h"
#include "image/picture.h"
#include "model/digest.h"
#include "model/model.h"
#include "model/tokenizer-check.h"
#include "system/io.h"

static int embed_text(const struct find_query *o, struct clip_model *m, float *q, struct err *e)
{
    size_t context = (size_t)m->cfg.context, used;
    struct tokenizer *t = clip_tokenizer_open(o->tokenizer ? o->tokenizer : o->model, &m->cfg, e);
    int32_t *tokens = t ? mem_alloc(context, sizeof *tokens, e) : NULL;
    int rc = tokens ? 0 : -1;
    if (!rc && tokenizer_encode(t, o->text, strlen(o->text), context, tokens, &used, e) != TEXT_OK)
        rc = err_wrap(e, "'%s'", o->text);
    rc = rc || clip_model_texts(m, 1, tokens, true, q, e) ? -1 : 0;
    free(tokens);
    tokenizer_free(t);
    return rc;
}

static int embed_image(const struct find_query *o, struct clip_model *m, float *q, struct err *e)
{
    struct read_picture p = {.max_pixels = image_limits_default.max_pixels};
    struct read_scratch scratch = {0};
    struct rng rng;
    struct map file;
    uint32_t width, height;
    clip_crop(&m->cfg, &p.crop);
    size_t side = (size_t)p.crop.size;
    rng_init(&rng, 0, 0);
    if (map_open(&file, o->image, e))
        return -1;
    uint8_t *pixels = mem_alloc(side * side, 3, e);
    int rc = pixels ? 0 : -1;
    if (!rc &&
        read_picture_decode(&p, &scratch, file.data, file.n, &rng, pixels, &width, &height, e))
        rc = err_wrap(e, "%s", o->image);
    rc = rc || clip_model_images(m, 1, pixels, true, q, e) ? -1 : 0;
    free(pixels);
    read_scratch_release(&scratch);
    map_close(&file);
    return rc;
}

// Refuses another model than the embeddings'.
static int check_model(const struct find_query *o, const struct find_set *set,
                       const struct clip_weights *w, struct err *e)
{
    char hex[DIGEST_HEX];
    const struct sidecar *s = set->files.sidecars;
    if ((size_t)w->table.cfg.embed_dim != set->files.set.dim)
        return err_set(e, "the embeddings of '%s' have %d columns, those of '%s' %zu", o->model,
                       w->table.cfg.embed_dim, set->work, set->files.set.dim);
    if (!s[0].model[0])
        return 0;
    if (model_digest(w, hex, e))
        return -1;
    return strcmp(hex, s[0].model)
               ? err_set(e, "'%s' is not the model that made the embeddings of '%s'", o->model,
                         set->work)
               : 0;
}

int find_query(const struct find_query *o, const struct find_set *set, float *q, struct err *e)
{
    struct clip_weights w;
    struct dev d;
    struct clip_model m = {0};
    const struct clip_model_options parts = {.vision = o->text == NULL, .text = o->text != NULL};
    if (clip_weights_open(&w, o->model, e))
        return -1;
    int rc = check_model(o, set, &w, e);
    if (!rc)
        rc = dev_open(&d, o->device, DEV_F32, o->threads, false, e);
    if (!rc) {
        rc = clip_model_load(&m, &d, &w, &parts, e) ||
                     (o->text ? embed_text(o, &m, q, e) : embed_image(o, &m, q, e))
                 ? -1
                 : 0;
        clip_model_release(&m);
        dev_close(&d);
    }
    clip_weights_close(&w);
    return rc;
}
