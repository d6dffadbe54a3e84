// SPDX-License-Identifier: Apache-2.0
#include "report/log.h"

#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "system/io.h"
#include "formats/json.h"
#include "base/mem.h"
#include "base/path.h"

// nftw has no argument for its callback; one walk at a time.
static struct log_walk {
    struct report_cost *cost;
    size_t n, root;
    struct err *e;
} walk;

// "work/NAME/log/embed/image/00000.npy.log" -> "embed"; "log/cells.npy.log" -> "cells".
static void stage_of(char stage[48], const char *below)
{
    size_t n = strcspn(below, "/.");
    snprintf(stage, 48, "%.*s", (int)n, below);
}

static struct report_cost *cost_of(const char *stage)
{
    for (size_t i = 0; i < walk.n; i++)
        if (strcmp(walk.cost[i].stage, stage) == 0)
            return &walk.cost[i];
    if (walk.n == REPORT_STAGES_MAX)
        return NULL;
    struct report_cost *c = &walk.cost[walk.n++];
    *c = (struct report_cost){0};
    snprintf(c->stage, sizeof c->stage, "%s", stage);
    return c;
}

// Figures read from one log so far.
struct one_log {
    char command[1024]; // of the run, the start of it
    char last[1024];    // of the run before
    bool open;          // begun, without an end
    uint64_t runs, failed, cut_off;
    double seconds, earlier;
    double footers; // seconds of the tools' last lines
    uint64_t tools; // how many there are
    double memory_mb;
};

static void begin_run(struct one_log *l, const char *command)
{
    l->cut_off += l->open;
    l->runs++;
    l->open = true;
    snprintf(l->command, sizeof l->command, "%s", command);
    if (l->last[0] && strcmp(l->last, l->command) != 0) {
        l->earlier += l->seconds;
        l->seconds = 0;
    }
    snprintf(l->last, sizeof l->last, "%s", l->command);
}

// A tool's last line: "tool: 12 samples; 0.1 s, 120/s, 35 MB peak".
static void parse_footer(struct one_log *l, const char *line)
{
    double seconds, mb;
    const char *peak = strstr(line, " MB peak"), *p = peak;
    while (p && p > line && strchr("0123456789.", p[-1]))
        p--;
    if (!p || p >= peak || sscanf(p, "%lf", &mb) != 1)
        return;
    l->memory_mb = fmax(l->memory_mb, mb);
    l->tools++;
    for (const char *at = line; (at = strstr(at, "; ")); at++)
        if (sscanf(at, "; %lf s, ", &seconds) == 1)
            l->footers += seconds;
}

// scripts/logged: "# COMMAND", "# host ...", then the tool's lines, then
// "# end 2026-01-01T00:00:00Z, 1.5 s, status 0".
static void parse_line(struct one_log *l, const char *line, bool *marked)
{
    double seconds;
    int status;
    if (sscanf(line, "# end %*[^,], %lf s, status %d", &seconds, &status) == 2) {
        l->failed += status != 0;
        l->seconds += seconds;
        l->open = false;
        *marked = true;
    } else if (strncmp(line, "# host ", 7) == 0) {
        *marked = true;
    } else if (strncmp(line, "# ", 2) == 0) {
        begin_run(l, line + 2);
    } else {
        parse_footer(l, line);
    }
}

static void add_log(struct report_cost *c, const struct one_log *l, bool marked)
{
    c->memory_mb = fmax(c->memory_mb, l->memory_mb);
    if (!marked) {
        c->runs += l->tools;
        c->seconds += l->footers;
        return;
    }
    c->runs += l->runs;
    c->failed += l->failed;
    c->cut_off += l->cut_off + l->open;
    c->seconds += l->seconds;
    c->earlier_seconds += l->earlier;
}

static int on_file(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st, (void)where;
    size_t n = strlen(path);
    if (kind != FTW_F || n < 4 || strcmp(path + n - 4, ".log"))
        return 0;
    char stage[48], line[4096];
    bool marked = false, start = true;
    struct one_log l = {0};
    stage_of(stage, path + walk.root);
    struct report_cost *c = cost_of(stage);
    FILE *f = c ? fopen(path, "rb") : NULL;
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f)) {
        bool whole = strchr(line, '\n') != NULL;
        if (start)
            parse_line(&l, line, &marked);
        start = whole;
    }
    fclose(f);
    add_log(c, &l, marked);
    return 0;
}

static int by_stage(const void *a, const void *b)
{
    return strcmp(((const struct report_cost *)a)->stage, ((const struct report_cost *)b)->stage);
}

int report_costs(const char *work, struct report_cost cost[REPORT_STAGES_MAX], size_t *n,
                 struct err *e)
{
    char path[PATH_BYTES];
    if (path_format(path, e, "%s/log", work))
        return -1;
    walk = (struct log_walk){.cost = cost, .root = strlen(path) + 1, .e = e};
    *n = 0;
    if (access(path, F_OK) == 0 && nftw(path, on_file, 16, FTW_PHYS))
        return err_errno(e, "cannot read '%s'", path);
    *n = walk.n;
    if (*n)
        qsort(cost, *n, sizeof *cost, by_stage);
    return 0;
}

// ---- training

// Shown in this order; whatever else is in the log is not a curve of a loss.
static const char *const shown[] = {"loss", "instance", "cluster", "cluster_ce", "cluster_kl",
                                    "clip", "affinity", "feature", "siglip"};

static size_t term_of(struct report_training *t, const char *name)
{
    for (size_t k = 0; k < t->n_terms; k++)
        if (strcmp(t->term[k], name) == 0)
            return k;
    snprintf(t->term[t->n_terms], sizeof t->term[0], "%s", name);
    return t->n_terms++;
}

// A member by name, also one level down.
static const cJSON *number(const cJSON *o, const char *name)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, name), *child;
    if (cJSON_IsNumber(v))
        return v;
    cJSON_ArrayForEach(child, o)
    {
        v = cJSON_IsObject(child) ? cJSON_GetObjectItemCaseSensitive(child, name) : NULL;
        if (cJSON_IsNumber(v))
            return v;
    }
    return NULL;
}

static int grow(struct report_training *t, struct err *e)
{
    size_t cap = t->cap;
    void *p = t->step;
    if (mem_grow(&p, &cap, t->n + 1, sizeof *t->step, e))
        return -1;
    t->step = p;
    for (size_t k = 0; k < REPORT_TERMS_MAX; k++) {
        size_t c = t->cap;
        p = t->value[k];
        if (mem_grow(&p, &c, t->n + 1, sizeof *t->step, e))
            return -1;
        t->value[k] = p;
    }
    for (size_t k = 0; k < REPORT_MORE; k++) {
        size_t c = t->cap;
        p = t->more[k];
        if (mem_grow(&p, &c, t->n + 1, sizeof *t->step, e))
            return -1;
        t->more[k] = p;
    }
    t->cap = cap;
    return 0;
}

// What a step tells beside its losses.
static void add_more(struct report_training *t, const cJSON *line)
{
    static const char *const names[REPORT_MORE] = {"lr", "logit_scale", "grad_norm",
                                                   "samples_per_second", "memory"};
    static const double unit[REPORT_MORE] = {1, 1, 1, 1, 1e9};
    for (size_t k = 0; k < REPORT_MORE; k++) {
        const cJSON *v = number(line, names[k]);
        t->more[k][t->n] = v ? v->valuedouble / unit[k] : NAN;
    }
}

// The time of a step's samples at the rate that its line gives.
static void add_time(struct report_training *t, const cJSON *line, double step)
{
    const cJSON *samples = number(line, "samples"), *rate = number(line, "samples_per_second");
    if (!samples)
        return;
    double now = samples->valuedouble;
    double took = t->n && now > t->samples ? now - t->samples : now / step; // one batch
    t->samples = now;
    if (!rate || !(rate->valuedouble > 0) || !(took > 0))
        return;
    t->seconds += took / rate->valuedouble;
    t->timed_samples += took;
}

// The part of the run that a step is of, and the seconds of all parts up to it.
static void add_parts(struct report_training *t, const cJSON *line)
{
    const cJSON *part = number(line, "part"), *seconds = number(line, "seconds");
    if (part && part->valuedouble >= 1 && part->valuedouble < 1e9)
        t->parts = (size_t)part->valuedouble;
    if (seconds && seconds->valuedouble > 0)
        t->wall = seconds->valuedouble;
}

// The figures of one name; NULL: there are too many.
static struct report_look *look_of(struct report_training *t, const char *name)
{
    for (size_t k = 0; k < t->n_looks; k++)
        if (strcmp(t->look[k].name, name) == 0)
            return &t->look[k];
    if (t->n_looks == REPORT_LOOKS_MAX)
        return NULL;
    struct report_look *l = &t->look[t->n_looks++];
    snprintf(l->name, sizeof l->name, "%s", name);
    return l;
}

// A line of an evaluation (runs/watch.h): 1, 0 it is none, -1.
static int add_look(struct report_training *t, const cJSON *o, struct err *e)
{
    struct err ignored;
    const char *set, *weights = "", *task = "";
    const cJSON *metrics = cJSON_GetObjectItemCaseSensitive(o, "metrics");
    const cJSON *first = cJSON_IsObject(metrics) ? metrics->child : NULL;
    const cJSON *all = cJSON_GetObjectItemCaseSensitive(o, "eval_seconds");
    const cJSON *step = cJSON_GetObjectItemCaseSensitive(o, "step");
    char name[sizeof t->look->name];
    if (json_string(o, "eval", JSON_OPTIONAL, &set, &ignored) <= 0)
        return 0;
    if (cJSON_IsNumber(all)) {
        t->look_seconds = all->valuedouble;
        add_parts(t, o);
    }
    json_string(o, "weights", JSON_OPTIONAL, &weights, &ignored);
    if (!first || !cJSON_IsNumber(first) || !cJSON_IsNumber(step))
        return 1;
    snprintf(name, sizeof name, "%s%.50s %.40s", strcmp(weights, "ema") ? "" : "ema/", set,
             first->string);
    struct report_look *l = look_of(t, name);
    if (!l)
        return 1;
    json_string(o, "task", JSON_OPTIONAL, &task, &ignored);
    l->loss = !strcmp(task, "held_out_loss");
    size_t cap = l->cap;
    void *steps = l->step, *values = l->value;
    if (mem_grow(&steps, &cap, l->n + 1, sizeof *l->step, e))
        return -1;
    l->step = steps;
    if (mem_grow(&values, &l->cap, l->n + 1, sizeof *l->value, e))
        return -1;
    l->value = values;
    l->step[l->n] = step->valuedouble;
    l->value[l->n++] = first->valuedouble;
    return 1;
}

static int add_line(struct report_training *t, const char *line, size_t n, struct err *e)
{
    struct err ignored;
    cJSON *o = json_parse(line, n, NULL, &ignored);
    const cJSON *step = o ? number(o, "step") : NULL;
    int is = o ? add_look(t, o, e) : 0;
    if (is) {
        cJSON_Delete(o);
        return is < 0 ? -1 : 0;
    }
    if (!step || !number(o, "loss")) { // a line about something else, or one cut short
        cJSON_Delete(o);
        return 0;
    }
    if (grow(t, e)) {
        cJSON_Delete(o);
        return -1;
    }
    for (size_t k = 0; k < REPORT_TERMS_MAX; k++)
        t->value[k][t->n] = NAN;
    t->step[t->n] = step->valuedouble;
    add_time(t, o, step->valuedouble);
    add_parts(t, o);
    add_more(t, o);
    for (size_t k = 0; k < sizeof shown / sizeof *shown; k++) {
        const cJSON *v = number(o, shown[k]);
        if (v)
            t->value[term_of(t, shown[k])][t->n] = v->valuedouble;
    }
    t->n++;
    cJSON_Delete(o);
    return 0;
}

int report_training_read(struct report_training *t, const char *path, struct err *e)
{
    struct map m;
    *t = (struct report_training){.parts = 1};
    if (map_open(&m, path, e))
        return -1;
    const char *p = (const char *)m.data, *end = p + m.n;
    int rc = 0;
    while (rc == 0 && p < end) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        if (!stop)
            break;
        rc = add_line(t, p, (size_t)(stop - p), e);
        p = stop + 1;
    }
    map_close(&m);
    if (rc)
        report_training_free(t);
    return rc;
}

void report_training_free(struct report_training *t)
{
    free(t->step);
    for (size_t k = 0; k < REPORT_TERMS_MAX; k++)
        free(t->value[k]);
    for (size_t k = 0; k < REPORT_MORE; k++)
        free(t->more[k]);
    for (size_t k = 0; k < t->n_looks; k++) {
        free(t->look[k].step);
        free(t->look[k].value);
    }
    *t = (struct report_training){0};
}
