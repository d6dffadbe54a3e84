// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <string.h>

#include "eval/work.h"
#include "formats/json.h"

double eval_result_figure(const struct eval_result *r, const char *name)
{
    for (int k = 0; k < r->n_figures; k++)
        if (strcmp(r->figure[k].name, name) == 0)
            return r->figure[k].value;
    return NAN;
}

static int add_figures(cJSON *o, const struct eval_result *r, struct err *e)
{
    cJSON *metrics = json_add_object(o, "metrics", e);
    cJSON *intervals = metrics ? json_add_object(o, "intervals", e) : NULL;
    int rc = intervals ? 0 : -1;
    for (int k = 0; rc == 0 && k < r->n_figures; k++) {
        const struct eval_figure *g = &r->figure[k];
        rc = json_add_double(metrics, g->name, g->value, e);
        if (rc == 0 && g->has_interval)
            rc = json_add_doubles(intervals, g->name, (const double[]){g->low, g->high}, 2, e);
    }
    return rc;
}

static int add_counts(cJSON *o, const struct eval_result *r, struct err *e)
{
    if (json_add_u64(o, "n", r->n, e) || json_add_u64(o, "failed", r->failed, e))
        return -1;
    if (r->classes && json_add_u64(o, "classes", r->classes, e))
        return -1;
    if (r->of.classes && json_add_double(o, "chance", 1 / (double)r->classes, e))
        return -1;
    if (r->with_positives && json_add_u64(o, "classes_with_positives", r->with_positives, e))
        return -1;
    if (r->templates && json_add_u64(o, "templates", r->templates, e))
        return -1;
    if (r->captions && json_add_u64(o, "captions", r->captions, e))
        return -1;
    if (r->probe_c > 0 && (json_add_double(o, "C", r->probe_c, e) ||
                           json_add_i64(o, "iterations", r->probe_iterations, e) ||
                           json_add_bool(o, "converged", r->probe_converged, e)))
        return -1;
    return 0;
}

int eval_result_figures(cJSON *o, const struct eval_result *r, struct err *e)
{
    return add_figures(o, r, e) || add_counts(o, r, e) ? -1 : 0;
}

int eval_by_type(const struct eval_model *m, const struct eval_set *s,
                 const struct eval_features *f, struct eval_result *r, struct err *e)
{
    return s->type == EVAL_RETRIEVAL ? eval_retrieval(m, f, r, e) : eval_zeroshot(m, s, f, r, e);
}

static int add_confusions(cJSON *o, struct eval_result *r, const struct eval_set *s, size_t most,
                          struct err *e)
{
    size_t n = class_metrics_confusions(&r->of);
    cJSON *list = json_add_array(o, "confusions", e);
    int rc = list ? 0 : -1;
    for (size_t k = 0; rc == 0 && k < n && k < most; k++) {
        const struct metric_confusion *c = &r->of.wrong[k];
        cJSON *row = json_add_object(list, NULL, e);
        if (!row || json_add_string(row, "label", s->classes.lines[c->label], e) ||
            json_add_string(row, "predicted", s->classes.lines[c->predicted], e) ||
            json_add_u64(row, "count", c->count, e))
            rc = -1;
    }
    return rc;
}

cJSON *eval_result_json(struct eval_result *r, const struct eval_set *s, const char *model_name,
                        const struct eval_model *m, const char *inputs, size_t confusions,
                        struct err *e)
{
    cJSON *o = cJSON_CreateObject();
    if (!o) {
        err_set(e, "out of memory");
        return NULL;
    }
    if (json_add_string(o, "dataset", s->name, e) || json_add_string(o, "model", model_name, e) ||
        json_add_string(o, "pretrained", m->digest, e) || json_add_string(o, "task", r->task, e) ||
        add_figures(o, r, e) || json_add_string(o, "language", "en", e) || add_counts(o, r, e) ||
        (r->of.classes && add_confusions(o, r, s, confusions, e)) ||
        json_add_string(o, "version", CLIPCID_VERSION, e) ||
        json_add_string(o, "inputs", inputs, e)) {
        cJSON_Delete(o);
        return NULL;
    }
    if (r->nearest && cJSON_AddItemToObject(o, "neighbours", r->nearest))
        r->nearest = NULL; // o's now
    return o;
}
