// SPDX-License-Identifier: Apache-2.0
#include "eval/metrics.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"

const int metric_recall_at[METRIC_RECALLS] = {1, 5, 10};

struct metric_share metric_wilson(uint64_t hits, uint64_t n)
{
    const double z = 1.959963984540054;
    struct metric_share s = {.hits = hits, .n = n};
    if (n == 0)
        return s;
    double p = (double)hits / (double)n, zz = z * z / (double)n;
    double centre = (p + zz / 2) / (1 + zz);
    double half = z / (1 + zz) * sqrt(p * (1 - p) / (double)n + zz / (4 * (double)n));
    s.value = p;
    s.low = centre - half > 0 ? centre - half : 0;
    s.high = centre + half < 1 ? centre + half : 1;
    return s;
}

void metric_top_of(const float *scores, size_t n, struct metric_top *out)
{
    int have = 0;
    for (size_t i = 0; i < n; i++) {
        float s = isnan(scores[i]) ? -INFINITY : scores[i];
        if (have == METRIC_TOP && !(s > out->score[METRIC_TOP - 1]))
            continue;
        int at = have < METRIC_TOP ? have++ : METRIC_TOP - 1;
        for (; at > 0 && s > out->score[at - 1]; at--) {
            out->score[at] = out->score[at - 1];
            out->index[at] = out->index[at - 1];
        }
        out->score[at] = s;
        out->index[at] = (int32_t)i;
    }
    for (; have < METRIC_TOP; have++) {
        out->index[have] = -1;
        out->score[have] = -INFINITY;
    }
}

// ---- classification

int class_metrics_init(struct class_metrics *m, size_t classes, struct err *e)
{
    *m = (struct class_metrics){.classes = classes};
    m->per_class_n = mem_alloc(classes, sizeof *m->per_class_n, e);
    m->per_class_hits = mem_alloc(classes, sizeof *m->per_class_hits, e);
    if (m->per_class_n && m->per_class_hits)
        return 0;
    class_metrics_release(m);
    return -1;
}

void class_metrics_release(struct class_metrics *m)
{
    free(m->per_class_n);
    free(m->per_class_hits);
    free(m->wrong);
    *m = (struct class_metrics){0};
}

int class_metrics_add(struct class_metrics *m, const struct metric_top *top, int32_t label,
                      struct err *e)
{
    if (label < 0 || (size_t)label >= m->classes)
        return err_set(e, "class %d is not below %zu", label, m->classes);
    m->n++;
    m->per_class_n[label]++;
    for (int k = 0; k < METRIC_TOP; k++)
        m->hits5 += top->index[k] == label;
    if (top->index[0] == label) {
        m->hits1++;
        m->per_class_hits[label]++;
        return 0;
    }
    void *p = m->wrong;
    if (mem_grow(&p, &m->cap_wrong, m->n_wrong + 1, sizeof *m->wrong, e))
        return -1;
    m->wrong = p;
    m->wrong[m->n_wrong++] = (struct metric_confusion){label, top->index[0], 1};
    return 0;
}

double class_metrics_recall(const struct class_metrics *m)
{
    double sum = 0;
    size_t present = 0;
    for (size_t c = 0; c < m->classes; c++) {
        if (m->per_class_n[c] == 0)
            continue;
        sum += (double)m->per_class_hits[c] / (double)m->per_class_n[c];
        present++;
    }
    return present ? sum / (double)present : 0;
}

static int by_pair(const void *a, const void *b)
{
    const struct metric_confusion *x = a, *y = b;
    if (x->label != y->label)
        return x->label < y->label ? -1 : 1;
    return (x->predicted > y->predicted) - (x->predicted < y->predicted);
}

static int by_count(const void *a, const void *b)
{
    const struct metric_confusion *x = a, *y = b;
    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    return by_pair(a, b);
}

size_t class_metrics_confusions(struct class_metrics *m)
{
    if (m->n_wrong == 0)
        return 0;
    qsort(m->wrong, m->n_wrong, sizeof *m->wrong, by_pair);
    size_t n = 0;
    for (size_t i = 0; i < m->n_wrong; i++) {
        if (n && by_pair(&m->wrong[n - 1], &m->wrong[i]) == 0)
            m->wrong[n - 1].count += m->wrong[i].count;
        else
            m->wrong[n++] = m->wrong[i];
    }
    m->n_wrong = n;
    qsort(m->wrong, n, sizeof *m->wrong, by_count);
    return n;
}

// ---- several labels a sample

struct scored {
    float score;
    size_t row;
    uint8_t target;
};

static int by_score(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

// Mean of the precision at each positive, best score first; -1: no positive.
static double average_precision(struct scored *rows, size_t n)
{
    qsort(rows, n, sizeof *rows, by_score);
    double sum = 0;
    size_t positives = 0;
    for (size_t i = 0; i < n; i++) {
        if (!rows[i].target)
            continue;
        positives++;
        sum += (double)positives / (double)(i + 1);
    }
    return positives ? sum / (double)positives : -1;
}

int metric_mean_average_precision(const float *scores, const uint8_t *targets, size_t n,
                                  size_t classes, double *out, size_t *counted, struct err *e)
{
    *counted = 0;
    struct scored *rows = mem_alloc(n, sizeof *rows, e);
    if (!rows)
        return -1;
    double sum = 0;
    for (size_t c = 0; c < classes; c++) {
        for (size_t i = 0; i < n; i++) {
            float s = scores[i * classes + c];
            rows[i] = (struct scored){isnan(s) ? -INFINITY : s, i, targets[i * classes + c]};
        }
        double ap = average_precision(rows, n);
        sum += ap < 0 ? 0 : ap;
        *counted += ap >= 0;
    }
    free(rows);
    *out = *counted ? sum / (double)*counted : 0;
    return 0;
}

// ---- retrieval

uint64_t metric_rank(const float *scores, size_t n, const size_t *wanted, size_t n_wanted)
{
    size_t best = wanted[0];
    for (size_t k = 1; k < n_wanted; k++)
        if (scores[wanted[k]] > scores[best] ||
            (scores[wanted[k]] == scores[best] && wanted[k] < best))
            best = wanted[k];
    uint64_t rank = 0;
    for (size_t i = 0; i < n; i++)
        rank += scores[i] > scores[best] || (scores[i] == scores[best] && i < best);
    return rank;
}

void recall_metrics_add(struct recall_metrics *m, uint64_t rank)
{
    m->n++;
    for (int k = 0; k < METRIC_RECALLS; k++)
        m->hits[k] += rank < (uint64_t)metric_recall_at[k];
}
