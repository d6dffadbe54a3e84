// SPDX-License-Identifier: Apache-2.0
// Texts of an evaluation through the model: captions, and the prompts that stand for classes.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/features.h"
#include "base/mem.h"

// Texts [before, before + n) of `total`.
static int embed_texts(const struct eval_model *m, const char *const *texts, size_t n, float *out,
                       size_t before, size_t total, struct err *e)
{
    size_t context = (size_t)m->clip->cfg.context, dim = (size_t)m->clip->cfg.embed_dim, used;
    int32_t *tokens = mem_alloc(m->batch * context, sizeof *tokens, e);
    int rc = tokens ? 0 : -1;
    for (size_t at = 0; rc == 0 && at < n; at += m->batch) {
        size_t rows = n - at < m->batch ? n - at : m->batch;
        rc = eval_go_on(m, e);
        for (size_t i = 0; rc == 0 && i < rows; i++)
            if (tokenizer_encode(m->tokenizer, texts[at + i], strlen(texts[at + i]), context,
                                 tokens + i * context, &used, e) != TEXT_OK)
                rc = err_wrap(e, "text '%s'", texts[at + i]);
        if (rc == 0)
            rc = clip_model_texts(m->clip, rows, tokens, true, out + at * dim, e);
        for (size_t i = at * dim; rc == 0 && i < (at + rows) * dim; i++)
            if (!isfinite(out[i]))
                rc = err_set(e, "the embedding of '%s' is not finite", texts[i / dim]);
        eval_progress(m, "texts", before + at + rows, total);
    }
    free(tokens);
    return rc;
}

int eval_embed_texts(const struct eval_model *m, const char *const *texts, size_t n, float *out,
                     struct err *e)
{
    return embed_texts(m, texts, n, out, 0, n, e);
}

static void unit(float *x, size_t n)
{
    double square = 0;
    for (size_t i = 0; i < n; i++)
        square += (double)x[i] * x[i];
    for (size_t i = 0; i < n && square > 0; i++)
        x[i] = (float)(x[i] / sqrt(square));
}

// All prompts of as many classes as fill a few batches, so that few classes with many templates and
// many classes with few both run in full batches.
static int weights_of(const struct eval_model *m, const struct eval_set *s, size_t first,
                      size_t count, float *prompts, const char **texts, float *out, struct err *e)
{
    size_t templates = s->templates.n, dim = (size_t)m->clip->cfg.embed_dim, n = 0;
    int rc = 0;
    for (size_t c = 0; rc == 0 && c < count; c++)
        for (size_t t = 0; rc == 0 && t < templates; t++) {
            texts[n] = eval_fill_template(s->templates.lines[t], s->classes.lines[first + c], e);
            rc = texts[n] ? 0 : -1;
            n += rc == 0;
        }
    if (rc == 0)
        rc = embed_texts(m, texts, n, prompts, first * templates, s->classes.n * templates, e);
    for (size_t i = 0; i < n; i++)
        free((char *)(uintptr_t)texts[i]);
    for (size_t c = 0; rc == 0 && c < count; c++) {
        float *w = out + (first + c) * dim;
        memset(w, 0, dim * sizeof *w);
        for (size_t t = 0; t < templates; t++)
            for (size_t j = 0; j < dim; j++)
                w[j] += prompts[(c * templates + t) * dim + j];
        unit(w, dim);
    }
    return rc;
}

int eval_class_weights(const struct eval_model *m, const struct eval_set *s, float *out,
                       struct err *e)
{
    size_t templates = s->templates.n, classes = s->classes.n;
    size_t dim = (size_t)m->clip->cfg.embed_dim;
    size_t step = 4 * m->batch / templates;
    step = step < 1 ? 1 : step > classes ? classes : step;
    float *prompts = mem_alloc(step * templates * dim, sizeof *prompts, e);
    const char **texts = prompts ? mem_alloc(step * templates, sizeof *texts, e) : NULL;
    int rc = texts ? 0 : -1;
    for (size_t c = 0; rc == 0 && c < classes; c += step)
        rc = weights_of(m, s, c, classes - c < step ? classes - c : step, prompts, texts, out, e);
    free(texts);
    free(prompts);
    return rc;
}
