// SPDX-License-Identifier: Apache-2.0
// The page's part about evaluation: results by set, confusions, floors.
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "system/io.h"
#include "formats/json.h"
#include "base/mem.h"
#include "page/plot.h"
#include "report/parts.h"

enum { CONFUSIONS = 8 };

struct result {
    cJSON *line;
    char *model; // owned
};
struct results {
    struct result *result;
    size_t n, cap;
};

static void results_free(struct results *r)
{
    for (size_t i = 0; i < r->n; i++) {
        cJSON_Delete(r->result[i].line);
        free(r->result[i].model);
    }
    free(r->result);
}

static int add_result(struct results *r, const char *text, size_t n, const char *model,
                      struct err *e)
{
    void *p = r->result;
    int rc = mem_grow(&p, &r->cap, r->n + 1, sizeof *r->result, e);
    r->result = p;
    if (rc)
        return -1;
    struct result *one = &r->result[r->n];
    *one = (struct result){.model = mem_strdup(model, e)};
    if (one->model)
        one->line = json_parse(text, n, NULL, e);
    if (!one->line) {
        free(one->model);
        return -1;
    }
    r->n++;
    return 0;
}

// The lines of WORK/eval/MODEL.json.
static int read_results(struct results *r, const char *path, const char *model, struct err *e)
{
    struct map m;
    if (map_open(&m, path, e))
        return -1;
    const char *p = (const char *)m.data, *end = p + m.n, *stop;
    int rc = 0;
    for (size_t line = 1; rc == 0 && p < end; p = stop + 1, line++) {
        stop = memchr(p, '\n', (size_t)(end - p));
        if (!stop)
            break;
        rc = add_result(r, p, (size_t)(stop - p), model, e);
        if (rc)
            err_wrap(e, "%s: line %zu", path, line);
    }
    map_close(&m);
    return rc;
}

static void put_figure(struct html *h, const cJSON *line, const cJSON *figure)
{
    const cJSON *both = cJSON_GetObjectItemCaseSensitive(
        cJSON_GetObjectItemCaseSensitive(line, "intervals"), figure->string);
    html_text(h, figure->string);
    html_put(h, " <b>%.1f</b>", 100 * figure->valuedouble);
    if (cJSON_GetArraySize(both) == 2)
        html_put(h, " (%.1f&ndash;%.1f)", 100 * cJSON_GetArrayItem(both, 0)->valuedouble,
                 100 * cJSON_GetArrayItem(both, 1)->valuedouble);
    html_raw(h, "<br>");
}

static void put_result(struct html *h, const char *model, const cJSON *line)
{
    const char *dataset = "?", *task = "?";
    double n = 0, chance = NAN;
    struct err e;
    const cJSON *figure, *metrics = cJSON_GetObjectItemCaseSensitive(line, "metrics");
    json_string(line, "dataset", JSON_OPTIONAL, &dataset, &e);
    json_string(line, "task", JSON_OPTIONAL, &task, &e);
    json_double(line, "n", JSON_OPTIONAL, &n, &e);
    json_double(line, "chance", JSON_OPTIONAL, &chance, &e);
    html_raw(h, "<tr><td>");
    html_text(h, dataset);
    html_raw(h, "<br><small>");
    html_text(h, task);
    html_raw(h, "</small></td><td>");
    html_text(h, model);
    html_put(h, "</td><td>%.0f</td><td>", n);
    cJSON_ArrayForEach(figure, metrics) put_figure(h, line, figure);
    html_raw(h, "</td><td>");
    if (isfinite(chance))
        html_put(h, "%.2f", 100 * chance);
    html_raw(h, "</td></tr>\n");
}

// The names and the number of a pair that was met at least twice. A pair that was met once says
// nothing about the model.
static bool pair_of(const cJSON *pair, const char **label, const char **predicted, double *count)
{
    struct err e;
    *count = 0;
    return json_string(pair, "label", JSON_REQUIRED, label, &e) > 0 &&
           json_string(pair, "predicted", JSON_REQUIRED, predicted, &e) > 0 &&
           json_double(pair, "count", JSON_OPTIONAL, count, &e) >= 0 && *count >= 2;
}

// The most frequent pairs, the first one with pictures of both classes.
static int put_confusions(struct html *h, const char *work, const struct result *r, struct err *e)
{
    const cJSON *pair, *list = cJSON_GetObjectItemCaseSensitive(r->line, "confusions");
    const char *dataset = "?", *label, *predicted, *first[2] = {NULL, NULL};
    double count;
    struct err ignored;
    int n = 0;
    json_string(r->line, "dataset", JSON_OPTIONAL, &dataset, &ignored);
    cJSON_ArrayForEach(pair, list)
    {
        if (n == CONFUSIONS || !pair_of(pair, &label, &predicted, &count))
            break;
        if (n++ == 0) {
            first[0] = label;
            first[1] = predicted;
            html_raw(h, "<p><b>");
            html_text(h, dataset);
            html_raw(h, ", ");
            html_text(h, r->model);
            html_raw(h, "</b>, taken for: ");
        } else {
            html_raw(h, "; ");
        }
        html_text(h, label);
        html_raw(h, " &rarr; ");
        html_text(h, predicted);
        html_put(h, " (%.0f)", count);
    }
    if (!n)
        return 0;
    html_raw(h, "</p>\n");
    return report_put_confused(h, work, dataset, first[0], first[1], e);
}

// The first figure of each model on one set, with its interval; n results from `first` on.
static void put_spans(struct html *h, const struct results *r, size_t first, size_t n)
{
    enum { MOST = 64 };
    struct plot_span s[MOST];
    char title[300];
    const char *dataset = "?";
    double chance = NAN;
    size_t k = 0;
    struct err e;
    for (size_t i = first; i < first + n && k < MOST; i++) {
        const cJSON *line = r->result[i].line;
        const cJSON *metrics = cJSON_GetObjectItemCaseSensitive(line, "metrics");
        const cJSON *figure = metrics ? metrics->child : NULL;
        if (!figure || !cJSON_IsNumber(figure))
            continue;
        const cJSON *both = cJSON_GetObjectItemCaseSensitive(
            cJSON_GetObjectItemCaseSensitive(line, "intervals"), figure->string);
        bool has = cJSON_GetArraySize(both) == 2;
        json_string(line, "dataset", JSON_OPTIONAL, &dataset, &e);
        if (!strcmp(figure->string, "acc1"))
            json_double(line, "chance", JSON_OPTIONAL, &chance, &e);
        snprintf(title, sizeof title, "%.200s: %.60s", dataset, figure->string);
        s[k++] = (struct plot_span){r->result[i].model, 100 * figure->valuedouble,
                                    has ? 100 * cJSON_GetArrayItem(both, 0)->valuedouble : NAN,
                                    has ? 100 * cJSON_GetArrayItem(both, 1)->valuedouble : NAN};
    }
    if (k < 2)
        return;
    html_raw(h, "<div><small>");
    html_text(h, title);
    html_raw(h, isfinite(chance) ? ", per cent; the dashed line is chance</small><br>"
                                 : ", per cent</small><br>");
    const struct plot p = {.title = title, .x_name = "%", .width = 620};
    plot_spans(h, &p, s, k, 100 * chance);
    html_raw(h, "</div>\n");
}

static bool same_set(const struct result *a, const struct result *b)
{
    const char *x = "", *y = "";
    struct err e;
    json_string(a->line, "dataset", JSON_OPTIONAL, &x, &e);
    json_string(b->line, "dataset", JSON_OPTIONAL, &y, &e);
    return strcmp(x, y) == 0;
}

// Rows of one set stand together, the models in the order of their names, theirs as they came.
static int by_dataset(const void *a, const void *b)
{
    const struct result *p = a, *q = b;
    const char *x = "", *y = "";
    struct err e;
    json_string(p->line, "dataset", JSON_OPTIONAL, &x, &e);
    json_string(q->line, "dataset", JSON_OPTIONAL, &y, &e);
    int order = strcmp(x, y);
    return order ? order : strcmp(p->model, q->model);
}

// prefix: stands before the names of the models; NULL: nothing does.
static int read_all(struct results *r, const char *work, const char *prefix, struct err *e)
{
    char folder[PATH_BYTES], path[PATH_BYTES], name[PATH_BYTES];
    struct path_names l = {0};
    int rc = path_format(folder, e, "%s/eval", work);
    rc = rc ? rc : path_names_of(&l, folder, ".json", e);
    rc = rc ? rc : path_names_of(&l, folder, ".jsonl", e);
    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        rc = path_format(path, e, "%s/%s", folder, l.names[i]);
        l.names[i][strlen(l.names[i]) - (strrchr(l.names[i], '.')[5] ? 6 : 5)] = '\0';
        rc = rc ? rc
                : path_format(name, e, "%s%s%s", prefix ? prefix : "", prefix ? ": " : "",
                              l.names[i]);
        rc = rc ? rc : read_results(r, path, name, e);
    }
    path_names_free(&l);
    return rc;
}

// Floors and other figures that a run adds: work/floors.tsv, lines "set TAB what TAB figure".
static int put_floors(struct html *h, const char *work, struct err *e)
{
    char path[PATH_BYTES], line[512];
    if (path_format(path, e, "%s/floors.tsv", work))
        return -1;
    FILE *f = fopen(path, "rb");
    if (!f)
        return errno == ENOENT ? 0 : err_errno(e, "cannot read '%s'", path);
    html_raw(h, "<h3>Floors</h3><table><tr><th>set</th><th>what</th><th>figure</th></tr>\n");
    while (fgets(line, sizeof line, f)) {
        char *what = strchr(line, '\t'), *figure = what ? strchr(what + 1, '\t') : NULL;
        if (!figure)
            continue;
        *what++ = *figure++ = '\0';
        figure[strcspn(figure, "\n")] = '\0';
        html_raw(h, "<tr><td>");
        html_text(h, line);
        html_raw(h, "</td><td>");
        html_text(h, what);
        html_raw(h, "</td><td>");
        html_text(h, figure);
        html_raw(h, "</td></tr>\n");
    }
    fclose(f);
    html_raw(h, "</table>\n");
    return 0;
}

int report_put_evaluation(struct html *h, const char *const *works, const char *const *prefixes,
                          size_t n_works, struct err *e)
{
    struct results r = {.n = 0};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n_works; i++)
        rc = read_all(&r, works[i], prefixes ? prefixes[i] : NULL, e);
    if (rc == 0 && r.n) {
        qsort(r.result, r.n, sizeof *r.result, by_dataset);
        html_raw(h, "<h2 id='evaluation'>Evaluation</h2>\n<p>Per cent, with 95 % intervals.</p>"
                    "<table><tr><th>set</th><th>model</th><th>samples</th><th>figures</th>"
                    "<th>chance</th></tr>\n");
        for (size_t i = 0; i < r.n; i++)
            put_result(h, r.result[i].model, r.result[i].line);
        html_raw(h, "</table>\n");
        for (size_t i = 0, n; i < r.n; i += n) {
            for (n = 1; i + n < r.n && same_set(&r.result[i], &r.result[i + n]); n++)
                ;
            put_spans(h, &r, i, n);
        }
        for (size_t i = 0; i < r.n && n_works == 1 && rc == 0; i++)
            rc = put_confusions(h, works[0], &r.result[i], e);
        for (size_t i = 0; i < r.n && n_works == 1 && rc == 0; i++)
            rc = report_put_near(h, works[0], r.result[i].model, r.result[i].line, e);
    }
    results_free(&r);
    return rc ? rc : put_floors(h, works[0], e);
}
