// SPDX-License-Identifier: Apache-2.0
// metrics: against values worked out by hand.
#include <math.h>

#include "eval/metrics.h"
#include "unit/tap.h"

static struct err e;

static void test_top(void)
{
    struct metric_top t;
    const float s[] = {1, 3, 3, NAN, 2, 3, 0, -1};
    metric_top_of(s, 8, &t);
    ok(t.index[0] == 1 && t.index[1] == 2 && t.index[2] == 5 && t.index[3] == 4 && t.index[4] == 0,
       "best first, ties to the lowest");
    metric_top_of(s, 2, &t);
    ok(t.index[0] == 1 && t.index[1] == 0 && t.index[2] == -1, "fewer classes than places");
}

static void test_wilson(void)
{
    struct metric_share s = metric_wilson(8, 10);
    ok(fabs(s.low - 0.490162) < 1e-5 && fabs(s.high - 0.943318) < 1e-5, "8 of 10: %f %f", s.low,
       s.high);
    s = metric_wilson(0, 10);
    ok(s.low == 0 && fabs(s.high - 0.277533) < 1e-5, "0 of 10: %f", s.high);
    s = metric_wilson(0, 0);
    ok(s.n == 0 && s.value == 0, "nothing of nothing");
}

static void add(struct class_metrics *m, int32_t label, const float scores[3])
{
    struct metric_top t;
    metric_top_of(scores, 3, &t);
    ok(class_metrics_add(m, &t, label, &e) == 0, "add");
}

static void test_classes(void)
{
    struct class_metrics m;
    ok(class_metrics_init(&m, 4, &e) == 0, "init");
    add(&m, 0, (float[]){3, 2, 1});
    add(&m, 0, (float[]){1, 2, 3});
    add(&m, 0, (float[]){1, 2, 3});
    add(&m, 1, (float[]){1, 2, 3});
    add(&m, 2, (float[]){1, 2, 3});
    ok(m.n == 5 && m.hits1 == 2 && m.hits5 == 5, "hits");
    ok(fabs(class_metrics_recall(&m) - (1.0 / 3 + 0 + 1) / 3) < 1e-12,
       "the class that does not occur is left out");
    ok(class_metrics_confusions(&m) == 2 && m.wrong[0].label == 0 && m.wrong[0].predicted == 2 &&
           m.wrong[0].count == 2 && m.wrong[1].label == 1,
       "confusions");
    struct metric_top t;
    metric_top_of((float[]){1}, 1, &t);
    ok(class_metrics_add(&m, &t, 4, &e) == -1 && class_metrics_add(&m, &t, -1, &e) == -1,
       "labels out of range: %s", e.text);
    class_metrics_release(&m);
}

static void test_average_precision(void)
{
    // class 0: order 2,0,1; positives 2 and 1: (1 + 2/3) / 2. class 1: no positives, no figure.
    const float scores[] = {2, 1, 1, 1, 3, 1};
    const uint8_t targets[] = {0, 0, 1, 0, 1, 0};
    const uint8_t none[6] = {0};
    double map;
    size_t counted;
    ok(metric_mean_average_precision(scores, targets, 3, 2, &map, &counted, &e) == 0 &&
           fabs(map - (1 + 2.0 / 3) / 2) < 1e-12 && counted == 1,
       "mean average precision %f of %zu classes", map, counted);
    ok(metric_mean_average_precision(scores, none, 3, 2, &map, &counted, &e) == 0 && counted == 0,
       "no positives at all");
}

static void test_recall(void)
{
    const float s[] = {5, 7, 7, 1, 9};
    ok(metric_rank(s, 5, (size_t[]){2}, 1) == 2, "a tie before it counts");
    ok(metric_rank(s, 5, (size_t[]){1}, 1) == 1, "a tie after it does not");
    ok(metric_rank(s, 5, (size_t[]){3, 4}, 2) == 0, "any of several");
    struct recall_metrics m = {0};
    recall_metrics_add(&m, 0);
    recall_metrics_add(&m, 4);
    recall_metrics_add(&m, 5);
    recall_metrics_add(&m, 10);
    ok(m.n == 4 && m.hits[0] == 1 && m.hits[1] == 2 && m.hits[2] == 3, "recall at 1, 5, 10");
}

int main(void)
{
    test_top();
    test_wilson();
    test_classes();
    test_average_precision();
    test_recall();
    return tap_done();
}
