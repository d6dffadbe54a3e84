// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval-work.h"
#include "mem.h"

// Captions stand in the order of their pictures, so those of one picture lie side by side.
struct retrieval {
    const struct eval_features *f;
    size_t *first;  // [n + 1] first caption of each row
    size_t *wanted; // room for one row's captions
    struct recall_metrics text, image;
};

static int text_row(void *user, size_t row, const float *scores, struct err *e)
{
    struct retrieval *t = user;
    size_t n = t->first[row + 1] - t->first[row];
    (void)e;
    if (eval_row_failed(t->f, row) || n == 0)
        return 0;
    for (size_t k = 0; k < n; k++)
        t->wanted[k] = t->first[row] + k;
    recall_metrics_add(&t->text, metric_rank(scores, t->f->n_captions, t->wanted, n));
    return 0;
}

static int image_row(void *user, size_t caption, const float *scores, struct err *e)
{
    struct retrieval *t = user;
    size_t row = t->f->caption_row[caption];
    (void)e;
    if (!eval_row_failed(t->f, row))
        recall_metrics_add(&t->image, metric_rank(scores, t->f->n, &row, 1));
    return 0;
}

static void add_recalls(struct eval_result *r, const struct recall_metrics *m, const char *what)
{
    for (int k = 0; k < METRIC_RECALLS; k++) {
        char name[48];
        snprintf(name, sizeof name, "%s_retrieval_recall@%d", what, metric_recall_at[k]);
        eval_add_share(r, name, m->hits[k], m->n);
    }
}

int eval_retrieval(const struct eval_model *m, const struct eval_features *f, struct eval_result *r,
                   struct err *e)
{
    struct retrieval t = {.f = f};
    *r = (struct eval_result){.task = "zeroshot_retrieval", .n = f->n, .failed = f->failed};
    r->captions = f->n_captions;
    t.first = mem_alloc(f->n + 1, sizeof *t.first, e);
    t.wanted = t.first ? mem_alloc(f->n_captions, sizeof *t.wanted, e) : NULL;
    float *text = t.wanted ? mem_alloc(f->n_captions * f->dim, sizeof *text, e) : NULL;
    int rc = -1;
    if (text) {
        for (size_t k = 0; k < f->n_captions; k++)
            t.first[f->caption_row[k] + 1]++;
        for (size_t i = 0; i < f->n; i++)
            t.first[i + 1] += t.first[i];
        rc = eval_embed_texts(m, (const char *const *)f->captions, f->n_captions, text, e);
    }
    struct dev *d = m->clip->dev;
    if (rc == 0)
        rc = eval_scores(d, f->x, f->n, text, f->n_captions, f->dim, 1, text_row, &t, e);
    if (rc == 0)
        rc = eval_scores(d, text, f->n_captions, f->x, f->n, f->dim, 1, image_row, &t, e);
    if (rc == 0) {
        add_recalls(r, &t.image, "image");
        add_recalls(r, &t.text, "text");
    }
    free(text);
    free(t.wanted);
    free(t.first);
    return rc;
}
