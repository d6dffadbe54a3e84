// SPDX-License-Identifier: Apache-2.0
// Retrieval as CLIP_benchmark has it: each caption is a query for its picture, each picture for any
// of its captions. A picture that could not be had is no candidate, nor are its captions.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/work.h"
#include "base/mem.h"

// The pictures there are, and their captions. Captions stand in the order of their pictures, so
// those of one picture lie side by side.
struct retrieval {
    float *image; // [n_images, dim]
    float *text;  // [n_texts, dim]
    const char **captions;
    size_t *row;    // [n_texts] its picture
    size_t *first;  // [n_images + 1] first caption of each picture
    size_t *wanted; // room for one picture's captions
    size_t n_images, n_texts;
    struct recall_metrics by_text, by_image;
};

static void release(struct retrieval *t)
{
    free(t->image);
    free(t->text);
    free(t->captions);
    free(t->row);
    free(t->first);
    free(t->wanted);
}

static int init(struct retrieval *t, const struct eval_features *f, struct err *e)
{
    *t = (struct retrieval){0};
    t->image = mem_alloc(f->n * f->dim, sizeof *t->image, e);
    t->captions = t->image ? mem_alloc(f->n_captions, sizeof *t->captions, e) : NULL;
    t->row = t->captions ? mem_alloc(f->n_captions, sizeof *t->row, e) : NULL;
    t->first = t->row ? mem_alloc(f->n + 1, sizeof *t->first, e) : NULL;
    t->wanted = t->first ? mem_alloc(f->n_captions, sizeof *t->wanted, e) : NULL;
    t->text = t->wanted ? mem_alloc(f->n_captions * f->dim, sizeof *t->text, e) : NULL;
    if (!t->text) {
        release(t);
        return -1;
    }
    for (size_t i = 0, k = 0; i < f->n; i++) {
        bool failed = eval_row_failed(f, i);
        for (; k < f->n_captions && f->caption_row[k] == i; k++) {
            if (failed)
                continue;
            t->captions[t->n_texts] = f->captions[k];
            t->row[t->n_texts++] = t->n_images;
        }
        if (failed)
            continue;
        memcpy(t->image + t->n_images * f->dim, f->x + i * f->dim, f->dim * sizeof *f->x);
        t->first[++t->n_images] = t->n_texts;
    }
    return 0;
}

static int image_asks(void *user, size_t i, const float *scores, struct err *e)
{
    struct retrieval *t = user;
    size_t n = t->first[i + 1] - t->first[i];
    (void)e;
    for (size_t k = 0; k < n; k++)
        t->wanted[k] = t->first[i] + k;
    recall_metrics_add(&t->by_image, metric_rank(scores, t->n_texts, t->wanted, n));
    return 0;
}

static int text_asks(void *user, size_t k, const float *scores, struct err *e)
{
    struct retrieval *t = user;
    (void)e;
    recall_metrics_add(&t->by_text, metric_rank(scores, t->n_images, &t->row[k], 1));
    return 0;
}

// Recall at k among fewer than k candidates is 1 whatever the model does; it is left out.
static void add_recalls(struct eval_result *r, const struct recall_metrics *m, const char *what,
                        size_t candidates)
{
    for (int k = 0; k < METRIC_RECALLS && (size_t)metric_recall_at[k] <= candidates; k++) {
        char name[48];
        snprintf(name, sizeof name, "%s_retrieval_recall@%d", what, metric_recall_at[k]);
        eval_add_share(r, name, m->hits[k], m->n);
    }
}

int eval_retrieval(const struct eval_model *m, const struct eval_features *f, struct eval_result *r,
                   struct err *e)
{
    struct retrieval t;
    struct dev *d = m->clip->dev;
    *r = (struct eval_result){.task = "zeroshot_retrieval", .n = f->n, .failed = f->failed};
    r->captions = f->n_captions;
    if (init(&t, f, e))
        return -1;
    int rc = eval_embed_texts(m, t.captions, t.n_texts, t.text, e);
    if (rc == 0 && t.n_images)
        rc = eval_scores(d, t.image, t.n_images, t.text, t.n_texts, f->dim, 1, image_asks, &t, e);
    if (rc == 0 && t.n_images)
        rc = eval_scores(d, t.text, t.n_texts, t.image, t.n_images, f->dim, 1, text_asks, &t, e);
    if (rc == 0) {
        add_recalls(r, &t.by_text, "image", t.n_images);
        add_recalls(r, &t.by_image, "text", t.n_texts);
    }
    release(&t);
    return rc;
}
