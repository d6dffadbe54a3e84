// SPDX-License-Identifier: Apache-2.0
// Two runs side by side: what they were told, what became of the samples, how they trained, how
// well they do.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "find/set.h"
#include "page/plot.h"
#include "report/log.h"
#include "report/parts.h"
#include "report/report.h"

// ---- samples

static int sums_of(const char *work, struct ledger *l, struct err *e)
{
    struct path_names names;
    if (find_names_get(&names, work, e))
        return -1;
    int rc = report_ledger(work, &names, false, l, e);
    path_names_free(&names);
    return rc;
}

static int put_stage(struct html *h, const struct ledger l[2], const char *stage, struct err *e)
{
    html_raw(h, "<tr><td>");
    html_text(h, stage);
    html_raw(h, "</td>");
    for (int k = 0; k < 2; k++) {
        struct ledger_row sum;
        int rc = ledger_sum(&l[k], stage, &sum, e);
        if (rc < 0)
            return -1;
        html_raw(h, "<td>");
        if (rc > 0) {
            html_put(h, "%" PRIu64 " of %" PRIu64, sum.out, sum.in);
            ledger_row_release(&sum);
        }
        html_raw(h, "</td>");
    }
    html_raw(h, "</tr>\n");
    return 0;
}

static int put_samples(struct html *h, const char *const works[2], const char *const names[2],
                       struct err *e)
{
    struct ledger l[2];
    if (sums_of(works[0], &l[0], e))
        return -1;
    if (sums_of(works[1], &l[1], e)) {
        ledger_release(&l[0]);
        return -1;
    }
    html_raw(h, "<h2 id='samples'>Samples</h2>\n<table><tr><th>stage</th>");
    for (int k = 0; k < 2; k++) {
        html_raw(h, "<th>");
        html_text(h, names[k]);
        html_raw(h, "</th>");
    }
    html_raw(h, "</tr>\n");
    int rc = 0;
    for (size_t i = 0; report_stages[i] && rc == 0; i++)
        rc = put_stage(h, l, report_stages[i], e);
    html_raw(h, "</table>\n");
    ledger_release(&l[0]);
    ledger_release(&l[1]);
    return rc;
}

// ---- training

struct log_name {
    int run;
    char path[PATH_BYTES], name[300];
};

// The training logs of a run: WORK/NAME.jsonl.
static int logs_of(const char *work, int run, const char *prefix, struct log_name *to, size_t room,
                   size_t *n, struct err *e)
{
    struct path_names l = {0};
    int rc = path_names_of(&l, work, ".jsonl", e);
    for (size_t i = 0; rc == 0 && i < l.n && *n < room; i++, ++*n) {
        to[*n].run = run;
        rc = path_format(to[*n].path, e, "%s/%s", work, l.names[i]);
        snprintf(to[*n].name, sizeof to[*n].name, "%.100s: %.*s", prefix,
                 (int)strlen(l.names[i]) - 6, l.names[i]);
    }
    path_names_free(&l);
    return rc;
}

static int put_losses(struct html *h, const char *const works[2], const char *const names[2],
                      struct err *e)
{
    enum { LOGS = 8 };
    struct log_name *log = mem_alloc(LOGS, sizeof *log, e);
    struct report_training *t = log ? mem_alloc(LOGS, sizeof *t, e) : NULL;
    struct plot_series s[LOGS];
    size_t n = 0, shown = 0;
    int rc = !t || logs_of(works[0], 0, names[0], log, LOGS / 2, &n, e) ||
                     logs_of(works[1], 1, names[1], log, LOGS, &n, e)
                 ? -1
                 : 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = report_training_read(&t[i], log[i].path, e);
        for (size_t k = 0; rc == 0 && k < t[i].n_terms; k++)
            if (!strcmp(t[i].term[k], "loss"))
                s[shown++] = (struct plot_series){log[i].name, t[i].step, t[i].value[k], t[i].n};
    }
    if (rc == 0 && shown) {
        const struct plot p = {
            .title = "Loss by step", .x_name = "step", .width = 860, .whole_x = true};
        html_raw(h, "<h2 id='training'>Training</h2>\n<p>The loss that is trained on; its terms "
                    "and weights may differ.</p>\n");
        plot_curves(h, &p, s, shown);
    }
    for (size_t i = 0; t && i < n; i++)
        report_training_free(&t[i]);
    free(t);
    free(log);
    return rc;
}

// ---- the page

static int check(const char *work, struct err *e)
{
    return access(work, X_OK) ? err_errno(e, "cannot read '%s'", work) : 0;
}

// The last part of a path, without a slash at its end.
static void name_of(char name[300], const char *work)
{
    size_t n = strlen(work);
    while (n > 1 && work[n - 1] == '/')
        n--;
    size_t from = n;
    while (from && work[from - 1] != '/')
        from--;
    snprintf(name, 300, "%.*s", (int)(n - from), work + from);
}

int report_compare(struct out *o, const char *const works[2], const char *title, struct err *e)
{
    struct html h = {.o = o, .e = e};
    char name[2][300], both[700];
    if (check(works[0], e) || check(works[1], e))
        return -1;
    name_of(name[0], works[0]);
    name_of(name[1], works[1]);
    const char *const names[2] = {strcmp(name[0], name[1]) ? name[0] : works[0],
                                  strcmp(name[0], name[1]) ? name[1] : works[1]};
    snprintf(both, sizeof both, "%s beside %s", names[0], names[1]);
    html_begin(&h, title ? title : both);
    html_raw(&h, "<h1>clip-cid: ");
    html_text(&h, title ? title : both);
    html_raw(&h, "</h1>\n<p>Differences smaller than the intervals say nothing; nor do single "
                 "seeds.</p>\n");
    int rc = report_put_settings(&h, works, 2, e) || put_samples(&h, works, names, e) ||
                     put_losses(&h, works, names, e) ||
                     report_put_evaluation(&h, works, names, 2, e)
                 ? -1
                 : 0;
    html_end(&h);
    return rc ? rc : html_done(&h);
}
