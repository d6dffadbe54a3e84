// SPDX-License-Identifier: Apache-2.0
// The page's part about training: what each model's training took, and its curves.
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "page/plot.h"
#include "report/log.h"
#include "report/parts.h"

int report_models(struct path_names *l, const char *work, struct err *e)
{
    static const char *const signs[] = {"open_clip_config.json", "config.json", "checkpoints",
                                        "log.jsonl"};
    struct path_names all = {0};
    int rc = path_names_of(&all, work, "", e);
    for (size_t i = 0; rc == 0 && i < all.n; i++) {
        bool model = false;
        for (size_t k = 0; rc == 0 && !model && k < sizeof signs / sizeof *signs; k++) {
            char path[PATH_BYTES];
            rc = path_format(path, e, "%s/%s/%s", work, all.names[i], signs[k]);
            model = rc == 0 && access(path, F_OK) == 0;
        }
        if (!model)
            continue;
        void *p = l->names;
        rc = mem_grow(&p, &l->cap, l->n + 1, sizeof *l->names, e);
        l->names = p;
        if (rc == 0) {
            l->names[l->n++] = all.names[i];
            all.names[i] = NULL;
        }
    }
    path_names_free(&all);
    return rc;
}

// What else a step tells: small plots side by side.
static void put_more(struct html *h, const struct report_training *t)
{
    static const char *const titles[REPORT_MORE] = {"Learning rate", "Logit scale, as a logarithm",
                                                    "Gradient norm", "Samples a second",
                                                    "Memory, GB"};
    html_raw(h, "<div class='many'>");
    for (size_t k = 0; k < REPORT_MORE; k++) {
        const struct plot p = {.title = titles[k],
                               .x_name = "step",
                               .width = 360,
                               .height = 170,
                               .from_zero = k == 4,
                               .whole_x = true};
        const struct plot_series s = {titles[k], t->step, t->more[k], t->n};
        bool some = false;
        for (size_t i = 0; i < t->n; i++)
            some |= isfinite(t->more[k][i]);
        if (!some)
            continue;
        html_put(h, "<div><small>%s, by step</small><br>", titles[k]);
        plot_curves(h, &p, &s, 1);
        html_raw(h, "</div>");
    }
    html_raw(h, "</div>\n");
}

static void put_curves(struct html *h, const char *name, const struct report_training *t)
{
    struct plot_series s[REPORT_TERMS_MAX];
    for (size_t k = 0; k < t->n_terms; k++)
        s[k] = (struct plot_series){t->term[k], t->step, t->value[k], t->n};
    html_raw(h, "<h3>");
    html_text(h, name);
    html_put(h, "</h3>\n<p>%.0f steps, %.0f samples", t->step[t->n - 1], t->samples);
    if (t->seconds > 0)
        html_put(h, "; %.1f s in steps, %.0f samples/s", t->seconds, t->timed_samples / t->seconds);
    if (t->wall > 0)
        html_put(h, "; %.1f s with data, checkpoints and start", t->wall);
    if (t->parts > 1)
        html_put(h, ", in %zu parts", t->parts);
    html_raw(h, "</p>\n");
    const struct plot p = {.title = "Loss by term", .x_name = "step", .whole_x = true};
    plot_curves(h, &p, s, t->n_terms);
    put_more(h, t);
}

// Shares and losses have not one axis.
static void put_look_curves(struct html *h, const struct report_training *t, bool loss)
{
    const struct plot p = {.title = loss ? "Losses of held-out samples" : "Evaluations in training",
                           .x_name = "step",
                           .whole_x = true};
    struct plot_series s[REPORT_LOOKS_MAX];
    size_t n = 0;
    for (size_t k = 0; k < t->n_looks; k++) {
        const struct report_look *l = &t->look[k];
        if (l->loss == loss)
            s[n++] = (struct plot_series){l->name, l->step, l->value, l->n};
    }
    if (n)
        plot_curves(h, &p, s, n);
}

// The last figures of the evaluations in training, and their curves.
static void put_looks(struct html *h, const struct report_training *t)
{
    if (!t->n_looks)
        return;
    html_raw(h, "<p>Evaluated while it trained");
    if (t->wall > 0)
        html_put(h, ", %.1f s, %.1f%% of the run's time", t->look_seconds,
                 100 * t->look_seconds / t->wall);
    html_raw(h, ": ");
    for (size_t k = 0; k < t->n_looks; k++) {
        const struct report_look *l = &t->look[k];
        html_raw(h, k ? ", " : "");
        html_text(h, l->name);
        html_put(h, " %.4f (step %.0f)", l->value[l->n - 1], l->step[l->n - 1]);
    }
    html_raw(h, "</p>\n");
    put_look_curves(h, t, false);
    put_look_curves(h, t, true);
}

static int put_log(struct html *h, const char *path, const char *name, size_t *shown, struct err *e)
{
    struct report_training t;
    if (report_training_read(&t, path, e))
        return -1;
    if (t.n) {
        if ((*shown)++ == 0)
            html_raw(h, "<h2 id='training'>Training</h2>\n");
        put_curves(h, name, &t);
        put_looks(h, &t);
    }
    report_training_free(&t);
    return 0;
}

// WORK/NAME.jsonl, and the log.jsonl that distill-train puts into its output folder NAME when it is
// not told where.
int report_put_training(struct html *h, const char *work, struct err *e)
{
    char path[PATH_BYTES];
    struct path_names logs = {0}, models = {0};
    size_t shown = 0;
    int rc = path_names_of(&logs, work, ".jsonl", e);
    rc = rc ? rc : report_models(&models, work, e);
    for (size_t i = 0; rc == 0 && i < logs.n; i++) {
        rc = path_format(path, e, "%s/%s", work, logs.names[i]);
        logs.names[i][strlen(logs.names[i]) - 6] = '\0';
        rc = rc ? rc : put_log(h, path, logs.names[i], &shown, e);
    }
    for (size_t i = 0; rc == 0 && i < models.n; i++) {
        bool has = false;
        for (size_t k = 0; k < logs.n; k++)
            has |= strcmp(logs.names[k], models.names[i]) == 0;
        rc = path_format(path, e, "%s/%s/log.jsonl", work, models.names[i]);
        if (rc == 0 && !has && access(path, F_OK) == 0)
            rc = put_log(h, path, models.names[i], &shown, e);
    }
    path_names_free(&logs);
    path_names_free(&models);
    return rc;
}
