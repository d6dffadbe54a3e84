// SPDX-License-Identifier: Apache-2.0
// The tasks of zs-eval (method.md 5): features in, figures out.
#ifndef EVAL_TASKS_H
#define EVAL_TASKS_H

#include <cjson/cJSON.h>

#include "eval/features.h"
#include "eval/metrics.h"

enum eval_task { EVAL_AUTO, EVAL_ZEROSHOT, EVAL_RECALL, EVAL_PROBE };

// One named figure.
enum { EVAL_FIGURES = 8 };
struct eval_figure {
    char name[48]; // CLIP_benchmark's key
    double value;
    bool has_interval;
    double low, high; // 95 %
};

struct eval_result {
    const char *task; // CLIP_benchmark's name
    struct eval_figure figure[EVAL_FIGURES];
    int n_figures;
    uint64_t n, failed;      // samples; those without a picture, which are left out of the figures
    size_t classes;          // 0 for retrieval
    size_t with_positives;   // multilabel: classes with a positive sample
    size_t templates;        // of a zero-shot task
    size_t captions;         // of retrieval
    struct class_metrics of; // classification only: confusions
    struct metric_top *top;  // classification: [n] predictions; owned
    cJSON *nearest;          // eval_neighbours: examples; owned
    double probe_c;          // of the linear probe
    int probe_iterations;
    bool probe_converged;
};
void eval_result_release(struct eval_result *r);

// Zero-shot classification: scores 100 cos against the class weights; for a multilabel set mean
// average precision. 0 or -1.
int eval_zeroshot(const struct eval_model *m, const struct eval_set *s,
                  const struct eval_features *f, struct eval_result *r, struct err *e);
// Retrieval both ways; a picture's hit is any of its captions.
int eval_retrieval(const struct eval_model *m, const struct eval_features *f, struct eval_result *r,
                   struct err *e);
// The one of both that the set's type asks for.
int eval_by_type(const struct eval_model *m, const struct eval_set *s,
                 const struct eval_features *f, struct eval_result *r, struct err *e);
// Linear probe: C from a sweep on one fifth of the training split (or `c` when > 0), then fitted on
// all of it. max_iterations of L-BFGS. `seed` chooses the fifth.
int eval_linear_probe(const struct eval_model *m, const struct eval_set *s,
                      const struct eval_features *train, const struct eval_features *test, double c,
                      int max_iterations, uint64_t seed, struct eval_result *r, struct err *e);

// The teacher's rows of a split, DIR/STEM.npy for shard STEM.tar: *rows [*n, *dim], the caller's to
// free, after -1 too. 0 or -1.
int eval_teacher_rows(const struct eval_set *s, const char *split, const char *dir, float **rows,
                      size_t *n, size_t *dim, struct err *e);
// Adds to r "neighbours@1", "@10" and "@100", shares of the teacher's nearest pictures that are the
// model's too, as far as there are so many, and "mean_cosine" where the widths agree; and examples,
// {"of", "common", "teacher": [...], "student": [...]} with the names of pictures ("0.tar/KEY").
// `rows` are used up. Rows of zeros on either side are left out. 0 or -1.
int eval_neighbours(const struct eval_model *m, const struct eval_features *f, float *rows,
                    size_t n, size_t dim, struct eval_result *r, struct err *e);
// Instance retrieval: each picture asks for the others of its group (the set's class numbers): mAP
// and recall@1, 5, 10. One alone in its group is no query. 0 or -1.
int eval_instance(const struct eval_model *m, const struct eval_features *f, struct eval_result *r,
                  struct err *e);
// Of a ranking, best first; 0 without positives.
double eval_average_precision(const bool *positive, size_t n);

// Value of a figure by its name; NaN when there is none.
double eval_result_figure(const struct eval_result *r, const char *name);
// The figures as "metrics" and "intervals", and the counts, into `o`. 0 or -1.
int eval_result_figures(cJSON *o, const struct eval_result *r, struct err *e);
// The JSON object: CLIP_benchmark's keys, intervals, counts, the `confusions` most frequent pairs,
// and `inputs`, the digest of what the result depends on.
// The caller frees it; NULL with e set.
cJSON *eval_result_json(struct eval_result *r, const struct eval_set *s, const char *model_name,
                        const struct eval_model *m, const char *inputs, size_t confusions,
                        struct err *e);

#endif
