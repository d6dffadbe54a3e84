// SPDX-License-Identifier: Apache-2.0
// Evaluation figures (method.md 5), fed a row of scores at a time; no input or output here. A tie
// goes to the lowest index throughout, so a figure does not depend on how a sort was written.
#ifndef EVAL_METRICS_H
#define EVAL_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

// A share with its 95 % interval (Wilson's score interval).
struct metric_share {
    double value, low, high;
    uint64_t hits, n;
};
struct metric_share metric_wilson(uint64_t hits, uint64_t n);

// ---- classification

enum { METRIC_TOP = 5 };

struct metric_top {
    int32_t index[METRIC_TOP]; // best first; -1 where there are fewer classes
    float score[METRIC_TOP];
};
// The METRIC_TOP best of n scores. NaN counts as lowest.
void metric_top_of(const float *scores, size_t n, struct metric_top *out);

struct metric_confusion {
    int32_t label, predicted;
    uint64_t count;
};

struct class_metrics {
    size_t classes;
    uint64_t n, hits1, hits5;
    uint64_t *per_class_n, *per_class_hits; // [classes]
    struct metric_confusion *wrong;         // one a wrong row, until class_metrics_confusions
    size_t n_wrong, cap_wrong;
};
int class_metrics_init(struct class_metrics *m, size_t classes, struct err *e);
void class_metrics_release(struct class_metrics *m);
// One sample: label in [0, classes). 0 or -1.
int class_metrics_add(struct class_metrics *m, const struct metric_top *top, int32_t label,
                      struct err *e);
// Mean over the classes that occur of the share of their samples predicted right.
double class_metrics_recall(const struct class_metrics *m);
// Merges equal pairs: most frequent first, then by label and predicted. Returns their number; they
// stand in m->wrong.
size_t class_metrics_confusions(struct class_metrics *m);

// ---- several labels a sample (CLIP_benchmark's multilabel sets)

// Mean of average precision over the classes with a positive sample, as mean_per_class_recall is
// over the classes that occur: a class without one has no average precision (CLIP_benchmark counts
// it as 0). scores and targets (0 or 1) are [n, classes]; *counted: those classes. With none, *out
// is 0. 0 or -1.
int metric_mean_average_precision(const float *scores, const uint8_t *targets, size_t n,
                                  size_t classes, double *out, size_t *counted, struct err *e);

// ---- retrieval

enum { METRIC_RECALLS = 3 };
extern const int metric_recall_at[METRIC_RECALLS]; // 1, 5, 10

struct recall_metrics {
    uint64_t n, hits[METRIC_RECALLS];
};
// Place of the best of the wanted candidates among all n scores, 0 = first.
uint64_t metric_rank(const float *scores, size_t n, const size_t *wanted, size_t n_wanted);
void recall_metrics_add(struct recall_metrics *m, uint64_t rank);

#endif
