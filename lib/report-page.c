// SPDX-License-Identifier: Apache-2.0
#include <glob.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "html.h"
#include "json.h"
#include "report-log.h"
#include "report.h"

enum { PATH_ROOM = 4096, SETS = 8, EACH = 10, CONFUSIONS = 8, RESULTS_MAX = 64 };

static const char head[] =
    "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
    "<meta name='viewport' content='width=device-width'><style>"
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 "
    "1em;color:#222}"
    "h1{font-size:1.6em}h2{margin-top:2em;border-bottom:1px solid #ccc;font-size:1.2em}"
    "table{border-collapse:collapse;margin:.5em 0}td,th{padding:.2em .8em;text-align:right;"
    "border-bottom:1px solid #e4e4e4}td:first-child,th:first-child{text-align:left}"
    "th{font-weight:600}.flow{margin:.3em 0}.flow b{display:inline-block;height:1.3em;"
    "vertical-align:middle;background:#3b7dd8}.flow i{display:inline-block;height:1.3em;"
    "vertical-align:middle;background:#d98a3d}.flow span{margin-left:.6em}"
    ".set{margin:.6em 0}.set img{width:56px;height:56px;object-fit:contain;background:#fff;"
    "border:1px solid #ddd;margin:1px}.set small{color:#666;display:block}"
    ".warn{background:#fff3df;padding:.5em 1em;border-left:4px solid #d98a3d}"
    "svg .grid{stroke:#e4e4e4}svg text{font-size:11px;fill:#555}svg .y{text-anchor:end}"
    "svg .x{text-anchor:middle}svg polyline{fill:none;stroke-width:1.5}"
    ".c0{stroke:#3b7dd8}.c1{stroke:#d98a3d}.c2{stroke:#4a9a58}.c3{stroke:#b1486a}.c4{stroke:#"
    "7a5bb5}"
    ".c5{stroke:#6b6b6b}.c6{stroke:#2aa6a6}.c7{stroke:#a3a021}"
    "svg .t0{fill:#3b7dd8}svg .t1{fill:#d98a3d}svg .t2{fill:#4a9a58}svg .t3{fill:#b1486a}"
    "svg .t4{fill:#7a5bb5}svg .t5{fill:#6b6b6b}svg .t6{fill:#2aa6a6}svg .t7{fill:#a3a021}"
    "</style>";

// ---- what happened to the samples

static void flow_row(struct html *h, const struct ledger_row *r, uint64_t all)
{
    double width = all ? 600.0 / (double)all : 0;
    html_put(h, "<div class='flow'><b style='width:%.1fpx'></b><i style='width:%.1fpx'></i><span>",
             (double)r->out * width, (double)(r->in - r->out) * width);
    html_text(h, r->stage);
    html_put(h, ": %" PRIu64 " of %" PRIu64, r->out, r->in);
    for (size_t i = 0; i < r->n_reasons; i++) {
        html_put(h, "%s %" PRIu64 " ", i ? "," : "; dropped:", r->reasons[i].count);
        html_text(h, r->reasons[i].name);
    }
    html_raw(h, "</span></div>\n");
}

static int put_ledger(struct html *h, const struct ledger *l, struct err *e)
{
    uint64_t all = 0;
    html_raw(h, "<h2>Samples</h2>\n");
    for (size_t k = 0; report_stages[k]; k++) {
        struct ledger_row sum;
        int rc = ledger_sum(l, report_stages[k], &sum, e);
        if (rc < 0)
            return -1;
        if (rc == 0)
            continue;
        if (k == 0)
            all = sum.in;
        flow_row(h, &sum, all);
        ledger_row_release(&sum);
    }
    html_raw(h, "<p>Counted again from the index, mask and label files: at each stage in = out + "
                "dropped.</p>\n");
    return 0;
}

static void put_damage(struct html *h, const char *work)
{
    static const char *const marks[] = {"missing", "damaged"};
    for (size_t k = 0; k < 2; k++) {
        char pattern[PATH_ROOM];
        glob_t g;
        snprintf(pattern, sizeof pattern, "%s/index/*.%s", work, marks[k]);
        if (glob(pattern, 0, NULL, &g) == 0)
            for (size_t i = 0; i < g.gl_pathc; i++) {
                char line[300] = "";
                FILE *f = fopen(g.gl_pathv[i], "rb");
                if (f && !fgets(line, sizeof line, f))
                    line[0] = '\0';
                if (f)
                    fclose(f);
                line[strcspn(line, "\n")] = '\0';
                html_raw(h, "<p class='warn'>");
                html_text(h, strrchr(g.gl_pathv[i], '/') + 1);
                html_raw(h, ": ");
                html_text(h, line);
                html_raw(h, "</p>\n");
            }
        globfree(&g);
    }
}

// ---- pictures

static void put_picks(struct html *h, const char *title, const char *what,
                      const struct report_picks *p)
{
    if (p->n == 0)
        return;
    html_put(h, "<h2>%s</h2>\n", title);
    for (size_t i = 0; i < p->n;) {
        int set = p->pick[i].set;
        html_put(h, "<div class='set'><small>%" PRIu64 " %s: ", p->set_size[set], what);
        html_text(h, p->pick[i].caption);
        html_raw(h, "</small>");
        for (; i < p->n && p->pick[i].set == set; i++) {
            if (!p->pick[i].data)
                continue;
            html_raw(h, "<img alt='' title='");
            html_text(h, p->pick[i].caption);
            html_raw(h, "' src='data:");
            html_raw(h, p->pick[i].data);
            html_raw(h, "'>");
        }
        html_raw(h, "</div>\n");
    }
}

typedef int pick_fn(const char *, const struct report_names *, size_t, size_t,
                    struct report_picks *, struct err *);

static int put_pictures(struct html *h, const char *work, const char *shards,
                        const struct report_names *names, pick_fn *fn, const char *title,
                        const char *what, struct err *e)
{
    struct report_picks p;
    if (fn(work, names, SETS, EACH, &p, e))
        return -1;
    int rc = shards ? report_pick_load(shards, names, &p, e) : 0;
    if (rc == 0)
        put_picks(h, title, what, &p);
    report_picks_free(&p);
    return rc;
}

// ---- training

static void put_curves(struct html *h, const char *name, const struct report_training *t)
{
    struct html_series s[REPORT_TERMS_MAX];
    for (size_t k = 0; k < t->n_terms; k++)
        s[k] = (struct html_series){t->term[k], t->step, t->value[k], t->n};
    html_raw(h, "<h3>");
    html_text(h, name);
    html_raw(h, "</h3>\n");
    html_curves(h, s, t->n_terms, "step");
}

static int put_training(struct html *h, const char *work, struct err *e)
{
    char pattern[PATH_ROOM];
    glob_t g;
    int rc = 0;
    snprintf(pattern, sizeof pattern, "%s/*.jsonl", work);
    if (glob(pattern, 0, NULL, &g) == 0 && g.gl_pathc)
        html_raw(h, "<h2>Training</h2>\n");
    for (size_t i = 0; rc == 0 && i < g.gl_pathc; i++) {
        struct report_training t;
        char name[256];
        snprintf(name, sizeof name, "%s", strrchr(g.gl_pathv[i], '/') + 1);
        name[strcspn(name, ".")] = '\0';
        rc = report_training_read(&t, g.gl_pathv[i], e);
        if (rc == 0 && t.n)
            put_curves(h, name, &t);
        if (rc == 0)
            report_training_free(&t);
    }
    globfree(&g);
    return rc;
}

// ---- evaluation

struct results {
    cJSON *line[RESULTS_MAX];
    char model[RESULTS_MAX][64];
    size_t n;
};

static int read_results(struct results *r, const char *path, struct err *e)
{
    struct map m;
    if (map_open(&m, path, e))
        return -1;
    const char *p = (const char *)m.data, *end = p + m.n, *stop;
    int rc = 0;
    for (; rc == 0 && p < end && r->n < RESULTS_MAX; p = stop + 1) {
        stop = memchr(p, '\n', (size_t)(end - p));
        if (!stop)
            break;
        snprintf(r->model[r->n], sizeof r->model[0], "%s", strrchr(path, '/') + 1);
        r->model[r->n][strcspn(r->model[r->n], ".")] = '\0';
        r->line[r->n] = json_parse(p, (size_t)(stop - p), NULL, e);
        if (r->line[r->n])
            r->n++;
        else
            rc = err_wrap(e, "%s", path);
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

static void put_confusions(struct html *h, const char *model, const cJSON *line)
{
    const cJSON *pair, *list = cJSON_GetObjectItemCaseSensitive(line, "confusions");
    const char *dataset = "?", *label, *predicted;
    struct err e;
    int n = 0;
    json_string(line, "dataset", JSON_OPTIONAL, &dataset, &e);
    if (cJSON_GetArraySize(list) == 0)
        return;
    html_raw(h, "<p><b>");
    html_text(h, dataset);
    html_raw(h, ", ");
    html_text(h, model);
    html_raw(h, "</b>, taken for: ");
    cJSON_ArrayForEach(pair, list)
    {
        double count = 0;
        if (n == CONFUSIONS || json_string(pair, "label", JSON_REQUIRED, &label, &e) < 1 ||
            json_string(pair, "predicted", JSON_REQUIRED, &predicted, &e) < 1)
            break;
        json_double(pair, "count", JSON_OPTIONAL, &count, &e);
        html_raw(h, n++ ? "; " : "");
        html_text(h, label);
        html_raw(h, " &rarr; ");
        html_text(h, predicted);
        html_put(h, " (%.0f)", count);
    }
    html_raw(h, "</p>\n");
}

static int by_dataset(const cJSON *a, const cJSON *b)
{
    const char *x = "", *y = "";
    struct err e;
    json_string(a, "dataset", JSON_OPTIONAL, &x, &e);
    json_string(b, "dataset", JSON_OPTIONAL, &y, &e);
    return strcmp(x, y);
}

// Rows of one set stand together, the models in the order of their files.
static void sort_results(struct results *r)
{
    for (size_t i = 1; i < r->n; i++)
        for (size_t j = i; j > 0 && by_dataset(r->line[j - 1], r->line[j]) > 0; j--) {
            cJSON *line = r->line[j];
            char model[64];
            memcpy(model, r->model[j], sizeof model);
            r->line[j] = r->line[j - 1];
            memcpy(r->model[j], r->model[j - 1], sizeof model);
            r->line[j - 1] = line;
            memcpy(r->model[j - 1], model, sizeof model);
        }
}

static int put_evaluation(struct html *h, const char *work, struct err *e)
{
    char pattern[PATH_ROOM];
    struct results r = {.n = 0};
    glob_t g;
    int rc = 0;
    snprintf(pattern, sizeof pattern, "%s/eval/*.json", work);
    if (glob(pattern, 0, NULL, &g) == 0)
        for (size_t i = 0; rc == 0 && i < g.gl_pathc; i++)
            rc = read_results(&r, g.gl_pathv[i], e);
    globfree(&g);
    sort_results(&r);
    if (rc == 0 && r.n) {
        html_raw(h, "<h2>Evaluation</h2>\n<p>Per cent, with 95 % intervals.</p><table><tr><th>set"
                    "</th><th>model</th><th>samples</th><th>figures</th><th>chance</th></tr>\n");
        for (size_t i = 0; i < r.n; i++)
            put_result(h, r.model[i], r.line[i]);
        html_raw(h, "</table>\n");
        for (size_t i = 0; i < r.n; i++)
            put_confusions(h, r.model[i], r.line[i]);
    }
    for (size_t i = 0; i < r.n; i++)
        cJSON_Delete(r.line[i]);
    return rc;
}

// Floors and other figures that a run adds: work/floors.tsv, lines "set TAB what TAB figure".
static void put_floors(struct html *h, const char *work)
{
    char path[PATH_ROOM], line[512];
    snprintf(path, sizeof path, "%s/floors.tsv", work);
    FILE *f = fopen(path, "rb");
    if (!f)
        return;
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
}

// ---- cost

static int put_costs(struct html *h, const char *work, struct err *e)
{
    struct report_cost cost[REPORT_STAGES_MAX];
    size_t n;
    if (report_costs(work, cost, &n, e))
        return -1;
    if (n == 0)
        return 0;
    html_raw(h, "<h2>Time and memory</h2>\n<table><tr><th>stage</th><th>runs</th><th>failed</th>"
                "<th>seconds</th><th>peak MB</th></tr>\n");
    for (size_t i = 0; i < n; i++) {
        html_raw(h, "<tr><td>");
        html_text(h, cost[i].stage);
        html_put(h, "</td><td>%" PRIu64 "</td><td>%" PRIu64 "</td><td>%.1f</td><td>", cost[i].runs,
                 cost[i].failed, cost[i].seconds);
        if (cost[i].memory_mb > 0)
            html_put(h, "%.0f", cost[i].memory_mb);
        html_raw(h, "</td></tr>\n");
    }
    html_raw(h, "</table>\n");
    return 0;
}

int report_write(struct out *o, const char *work, const char *shards, const char *title,
                 struct err *e)
{
    struct html h = {.o = o, .e = e};
    struct report_names names;
    struct ledger ledger;
    if (report_names_get(&names, work, e))
        return -1;
    if (report_ledger(work, &names, &ledger, e)) {
        report_names_free(&names);
        return -1;
    }
    html_raw(&h, head);
    html_raw(&h, "<title>");
    html_text(&h, title);
    html_raw(&h, "</title></head><body><h1>clip-cid: ");
    html_text(&h, title);
    html_put(&h, "</h1>\n<p>%zu shards, clip-cid %s.</p>\n", names.n, CLIPCID_VERSION);
    put_damage(&h, work);
    int rc = put_ledger(&h, &ledger, e);
    rc = rc ? rc : put_evaluation(&h, work, e);
    if (rc == 0)
        put_floors(&h, work);
    rc = rc ? rc : put_training(&h, work, e);
    rc = rc ? rc
            : put_pictures(&h, work, shards, &names, report_pick_groups,
                           "The largest groups of near duplicates", "alike, one kept", e);
    rc = rc ? rc
            : put_pictures(&h, work, shards, &names, report_pick_clusters,
                           "Some clusters, from the largest to the smallest", "in a cluster", e);
    rc = rc ? rc : put_costs(&h, work, e);
    html_raw(&h, "</body></html>\n");
    ledger_release(&ledger);
    report_names_free(&names);
    return rc ? rc : html_done(&h);
}
