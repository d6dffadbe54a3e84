// SPDX-License-Identifier: Apache-2.0
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report/log.h"
#include "report/parts.h"
#include "find/set.h"
#include "report/report.h"

enum { LINE_BYTES = 300 };

// ---- what happened to the samples

static void flow_row(struct html *h, const struct ledger_row *r, uint64_t all)
{
    double width = all ? 440.0 / (double)all : 0;
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
    html_raw(h, "<h2 id='samples'>Samples</h2>\n");
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

// The first line of a small text file, "" when it cannot be had.
static void first_line(char line[LINE_BYTES], const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f || !fgets(line, LINE_BYTES, f))
        line[0] = '\0';
    if (f)
        fclose(f);
    line[strcspn(line, "\n")] = '\0';
}

static int put_damage(struct html *h, const char *work, struct err *e)
{
    static const char *const marks[] = {".missing", ".damaged"};
    char folder[PATH_BYTES], path[PATH_BYTES], line[LINE_BYTES];
    struct path_names l = {0};
    int rc = path_format(folder, e, "%s/index", work);
    for (size_t k = 0; rc == 0 && k < 2; k++)
        rc = path_names_of(&l, folder, marks[k], e);
    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        rc = path_format(path, e, "%s/%s", folder, l.names[i]);
        if (rc)
            break;
        first_line(line, path);
        html_raw(h, "<p class='warn'>");
        html_text(h, l.names[i]);
        html_raw(h, ": ");
        html_text(h, line);
        html_raw(h, "</p>\n");
    }
    path_names_free(&l);
    return rc;
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
    html_raw(h, "<h3>Time and memory</h3>\n<table><tr><th>stage</th><th>runs</th><th>failed</th>"
                "<th>cut off</th><th>seconds</th><th>with other settings</th><th>peak MB</th>"
                "</tr>\n");
    for (size_t i = 0; i < n; i++) {
        const struct report_cost *c = &cost[i];
        html_raw(h, "<tr><td>");
        html_text(h, c->stage);
        html_put(
            h, "</td><td>%" PRIu64 "</td><td>%" PRIu64 "</td><td>%" PRIu64 "</td><td>%.1f</td><td>",
            c->runs, c->failed, c->cut_off, c->seconds);
        if (c->earlier_seconds > 0)
            html_put(h, "%.1f", c->earlier_seconds);
        html_raw(h, "</td><td>");
        if (c->memory_mb > 0)
            html_put(h, "%.0f", c->memory_mb);
        html_raw(h, "</td></tr>\n");
    }
    html_raw(h,
             "</table>\n<p>Failed runs and runs that were cut off (no end in the log; their time "
             "is not known) are among the runs. Seconds are of runs with the last command of "
             "their log; those with other commands stand apart.</p>\n");
    return 0;
}

// ---- the page

// Links to the sections that the folder has something for.
static int put_contents(struct html *h, const char *work, struct err *e)
{
    static const struct {
        const char *id, *name, *path;
    } sections[] = {{"samples", "Samples", "index"},      {"balance", "Balance", "balance.json"},
                    {"clusters", "Clusters", "labels"},   {"training", "Training", NULL},
                    {"evaluation", "Evaluation", "eval"}, {"provenance", "Provenance", ""}};
    struct path_names models = {0}, logs = {0};
    char path[PATH_BYTES];
    int rc = report_models(&models, work, e) || path_names_of(&logs, work, ".jsonl", e) ? -1 : 0;
    html_raw(h, "<nav aria-label='Sections'>");
    for (size_t i = 0; rc == 0 && i < sizeof sections / sizeof *sections; i++) {
        bool there = models.n + logs.n > 0;
        if (sections[i].path) {
            rc = path_format(path, e, "%s/%s", work, sections[i].path);
            there = rc == 0 && access(path, F_OK) == 0;
        }
        if (there)
            html_put(h, "<a href='#%s'>%s</a>", sections[i].id, sections[i].name);
    }
    html_raw(h, "</nav>\n");
    path_names_free(&models);
    path_names_free(&logs);
    return rc;
}

static int put_body(struct html *h, const struct report_page *p, const struct path_names *names,
                    const struct ledger *ledger, struct err *e)
{
    struct ledger_row sum = {0};
    const char *work = p->work;
    if (ledger_sum(ledger, report_stages[0], &sum, e) < 0)
        return -1;
    uint64_t rows = sum.in;
    ledger_row_release(&sum);
    if (put_contents(h, work, e) || put_damage(h, work, e) ||
        (names->n && put_ledger(h, ledger, e)) ||
        report_put_lost(h, work, p->shards, names, ledger, e) || report_put_balance(h, work, e) ||
        report_put_groups(h, work, p->shards, names, rows, e) ||
        report_put_clusters(h, work, p->shards, names, rows, p->log, e) ||
        report_put_training(h, work, e) || report_put_evaluation(h, &work, NULL, 1, e))
        return -1;
    html_raw(h, "<h2 id='provenance'>Provenance</h2>\n");
    return report_put_about(h, work, names->n, rows, e) || report_put_settings(h, &work, 1, e) ||
                   put_costs(h, work, e)
               ? -1
               : 0;
}

// 0 if there are results to show, or -1.
static int check_folder(const char *work, const struct path_names *names, struct err *e)
{
    static const char *const parts[] = {"index", "eval", "log"};
    struct path_names models = {0};
    char path[PATH_BYTES];
    if (names->n)
        return 0;
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
        if (path_format(path, e, "%s/%s", work, parts[k]))
            return -1;
        if (access(path, F_OK) == 0)
            return 0;
    }
    int rc = report_models(&models, work, e);
    if (rc == 0 && models.n == 0)
        rc =
            err_set(e,
                    "'%s' has no index, eval, log or model folder; cid-report(1) describes what it "
                    "looks for",
                    work);
    path_names_free(&models);
    return rc;
}

int report_write(struct out *o, const struct report_page *p, struct err *e)
{
    struct html h = {.o = o, .e = e};
    struct path_names names;
    struct ledger ledger;
    if (find_names_get(&names, p->work, e))
        return -1;
    int rc = check_folder(p->work, &names, e);
    rc = rc ? rc : report_ledger(p->work, &names, names.n > 0, &ledger, e);
    if (rc) {
        path_names_free(&names);
        return -1;
    }
    html_begin(&h, p->title);
    if (p->watched)
        html_again(&h, p->watched);
    html_raw(&h, "<h1>clip-cid: ");
    html_text(&h, p->title);
    html_raw(&h, "</h1>\n");
    rc = put_body(&h, p, &names, &ledger, e);
    html_end(&h);
    ledger_release(&ledger);
    path_names_free(&names);
    return rc ? rc : html_done(&h);
}
