// SPDX-License-Identifier: Apache-2.0
#include "runs/watch.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "eval/tasks.h"
#include "formats/json.h"
#include "model/tokenizer-check.h"
#include "runs/run.h"
#include "system/signals.h"

enum { BATCH = 64 }; // zs-eval's; no result depends on it
static const char *const SPLIT = "test";
static const struct clip_model_options parts = {.vision = true, .text = true};

// -- the options

// "N" steps or "Ne" epochs, from 1 on.
static int parse_every(struct watch_plan *w, const char *text, struct err *e)
{
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    bool epochs = end != text && !strcmp(end, "e");
    if (*text < '0' || *text > '9' || !n || (*end && !epochs))
        return err_set(e, "--eval-every: '%s' is neither N (steps) nor Ne (epochs)", text);
    w->steps = epochs ? 0 : n;
    w->epochs = epochs ? n : 0;
    return 0;
}

// "SET:METRIC", or "ema/SET:METRIC".
static int parse_best(struct watch_plan *w, const struct train_options *o, struct err *e)
{
    const char *text = o->keep_best, *colon = strrchr(text, ':');
    w->ema = !strncmp(text, "ema/", 4);
    text += w->ema ? 4 : 0;
    if (!colon || colon <= text || !colon[1] || (size_t)(colon - text) >= sizeof w->set ||
        strlen(colon + 1) >= sizeof w->metric)
        return err_set(e, "--keep-best: '%s' is not SET:METRIC or ema/SET:METRIC", o->keep_best);
    snprintf(w->set, sizeof w->set, "%.*s", (int)(colon - text), text);
    snprintf(w->metric, sizeof w->metric, "%s", colon + 1);
    if (w->ema && !(o->ema > 0))
        return err_set(e, "--keep-best %s needs --ema", o->keep_best);
    return 0;
}

int watch_plan_init(struct watch_plan *w, const struct train_options *o, struct err *e)
{
    *w = (struct watch_plan){.share = 1};
    const char *without = o->eval_every_given   ? "eval-every"
                          : o->eval_share_given ? "eval-share"
                          : o->keep_best        ? "keep-best"
                                                : NULL;
    if (!o->eval_sets.n && without)
        return err_set(e, "--%s needs --eval-set DIR", without);
    if (o->eval_share_given && (!o->eval_share.percent || o->eval_share.value > 100))
        return err_set(e, "--eval-share is a share of the run's time, as 5%%");
    if (o->eval_share_given)
        w->share = o->eval_share.value / 100;
    return parse_every(w, o->eval_every, e) || (o->keep_best && parse_best(w, o, e)) ? -1 : 0;
}

// -- the sets

static int open_set(struct train_watch *w, const char *folder, struct err *e)
{
    struct eval_set *s = &w->sets[w->n];
    size_t shards;
    if (eval_set_open(s, folder, NULL, NULL, e))
        return -1;
    w->n++;
    for (size_t i = 0; i + 1 < w->n; i++)
        if (!strcmp(w->sets[i].name, s->name))
            return err_set(e, "--eval-set: '%s' and '%s' have one name", w->sets[i].folder, folder);
    if (eval_set_shards(s, SPLIT, &shards, e))
        return -1;
    return shards ? 0 : err_set(e, "'%s' has no split '%s'", folder, SPLIT);
}

// What a set of each type is measured by (eval/tasks.h).
static bool has_metric(const struct eval_set *s, const char *metric)
{
    static const char *const names[][6] = {
        [EVAL_CLASSES] = {"acc1", "acc5", "mean_per_class_recall"},
        [EVAL_MULTILABEL] = {"mean_average_precision"},
        [EVAL_RETRIEVAL] = {"image_retrieval_recall@1", "image_retrieval_recall@5",
                            "image_retrieval_recall@10", "text_retrieval_recall@1",
                            "text_retrieval_recall@5", "text_retrieval_recall@10"}};
    for (int i = 0; i < 6 && names[s->type][i]; i++)
        if (!strcmp(names[s->type][i], metric))
            return true;
    return false;
}

static int check_best(const struct train_watch *w, const struct watch_plan *p, struct err *e)
{
    for (size_t i = 0; i < w->n && p->set[0]; i++) {
        if (strcmp(w->sets[i].name, p->set))
            continue;
        return has_metric(&w->sets[i], p->metric)
                   ? 0
                   : err_set(e, "--keep-best: '%s' has no metric '%s'", p->set, p->metric);
    }
    return p->set[0] ? err_set(e, "--keep-best: no --eval-set is called '%s'", p->set) : 0;
}

int train_watch_open(struct train_watch *w, const struct train_plan *p,
                     const struct clip_config *cfg, struct err *e)
{
    const struct train_options *o = p->o;
    size_t n = o->eval_sets.n;
    *w = (struct train_watch){0};
    if (!n)
        return 0;
    if (!(w->sets = mem_alloc(n, sizeof *w->sets, e)) ||
        !(w->tokenizer = clip_tokenizer_open(p->tokenizer, cfg, e)))
        return -1;
    for (size_t i = 0; i < n; i++)
        if (open_set(w, o->eval_sets.items[i], e))
            return -1;
    return check_best(w, &p->watch, e);
}

void train_watch_close(struct train_watch *w)
{
    for (size_t i = 0; i < w->n; i++)
        eval_set_close(&w->sets[i]);
    free(w->sets);
    tokenizer_free(w->tokenizer);
    *w = (struct train_watch){0};
}

int train_watch_bytes(const struct train_options *o, const struct clip_config *cfg,
                      const struct dev *d, size_t *bytes, struct err *e)
{
    struct clip_model_memory m = {0};
    struct clip_table t;
    *bytes = 0;
    if (!o->eval_sets.n)
        return 0;
    if (clip_table_init(&t, cfg, e))
        return -1;
    int rc = clip_model_memory(&t, d, &parts, &m, e);
    clip_table_release(&t);
    *bytes = rc ? 0 : m.total - d->own_bytes;
    return rc;
}

// -- one look

// What it found, for --keep-best.
struct look {
    struct train_run *r;
    bool better;
};

static void take_best(struct look *k, const char *set, bool ema, const char *metric, double value)
{
    const struct watch_plan *p = &k->r->plan->watch;
    struct train_state *s = &k->r->state;
    if (strcmp(p->set, set) || p->ema != ema || strcmp(p->metric, metric) || !isfinite(value) ||
        (s->best_step && !(value > s->best_value)))
        return;
    s->best_step = s->step;
    s->best_value = value;
    k->better = true;
}

static int add_head(cJSON *j, const struct train_run *r, const char *name, bool ema, struct err *e)
{
    const struct train_state *s = &r->state;
    return json_add_u64(j, "step", s->step, e) || json_add_u64(j, "epoch", s->pos.epoch, e) ||
           json_add_u64(j, "samples", s->samples, e) || json_add_string(j, "eval", name, e) ||
           json_add_string(j, "weights", ema ? "ema" : "trained", e);
}

static int add_times(cJSON *j, const struct train_run *r, double took, struct err *e)
{
    return json_add_double(j, "took", took, e) ||
           json_add_double(j, "eval_seconds", r->state.looks.seconds, e) ||
           json_add_double(j, "seconds", log_seconds(r->log), e);
}

static int write_line(struct look *k, const struct eval_set *s, bool ema,
                      const struct eval_result *result, double took, struct err *e)
{
    struct train_run *r = k->r;
    cJSON *j = cJSON_CreateObject();
    int rc = !j ? err_set(e, "out of memory")
             : add_head(j, r, s->name, ema, e) || json_add_string(j, "task", result->task, e) ||
                     eval_result_figures(j, result, e) || add_times(j, r, took, e) ||
                     train_log_line(&r->lines, j, e)
                 ? -1
                 : 0;
    cJSON_Delete(j);
    return rc;
}

static void say_result(struct look *k, const struct eval_set *s, bool ema,
                       const struct eval_result *result)
{
    struct train_run *r = k->r;
    const struct eval_figure *first = &result->figure[0];
    const char *of = ema ? "ema/" : "";
    if (result->failed)
        log_warn(r->log, "%s: %" PRIu64 " of %" PRIu64 " pictures cannot be decoded", s->folder,
                 result->failed, result->n);
    if (!result->n_figures)
        return;
    log_note(r->log, "step %" PRIu64 ": %s%s: %s %.4f", r->state.step, of, s->name, first->name,
             first->value);
    snprintf(r->watch.last, sizeof r->watch.last, "%s%.24s %.16s %.4f", of, s->name, first->name,
             first->value);
}

static int one_set(struct look *k, const struct eval_model *m, const struct eval_set *s, bool ema,
                   struct err *e)
{
    struct eval_features f;
    struct eval_result result = {0};
    double start = clock_seconds();
    if (eval_features_get(&f, m, s, SPLIT, e))
        return -1;
    int rc = eval_by_type(m, s, &f, &result, e);
    double took = clock_seconds() - start;
    k->r->state.looks.seconds += took;
    rc = rc ? rc : write_line(k, s, ema, &result, took, e);
    if (!rc)
        say_result(k, s, ema, &result);
    for (int i = 0; !rc && i < result.n_figures; i++)
        take_best(k, s->name, ema, result.figure[i].name, result.figure[i].value);
    eval_features_release(&f);
    eval_result_release(&result);
    return rc;
}

static bool stop_wanted(void)
{
    return signals_stop_wanted();
}

static int one_model(struct look *k, bool ema, struct err *e)
{
    struct train_run *r = k->r;
    struct clip_model clip;
    double start = clock_seconds();
    if (clip_model_take(&clip, &r->dev, &r->core.table,
                        ema ? train_get_averaged : train_get_trained, &r->core, &parts, e))
        return -1;
    r->state.looks.seconds += clock_seconds() - start;
    struct eval_model m = {.clip = &clip,
                           .tokenizer = r->watch.tokenizer,
                           .batch = BATCH,
                           .threads = r->plan->o->threads,
                           .stop = stop_wanted};
    int rc = 0;
    for (size_t i = 0; i < r->watch.n && !rc; i++)
        if ((rc = one_set(k, &m, &r->watch.sets[i], ema, e)))
            err_wrap(e, "--eval-set '%s'", r->watch.sets[i].folder);
    clip_model_release(&clip);
    return rc;
}

// -- when

bool train_watch_due(const struct train_run *r)
{
    const struct watch_plan *p = &r->plan->watch;
    const struct train_state *s = &r->state;
    if (!r->plan->o->eval_sets.n || !s->step)
        return false;
    if (s->step == r->set.optim.steps || (p->steps && s->step % p->steps == 0))
        return s->looks.step != s->step;
    return p->epochs && s->pos.epoch / p->epochs > s->looks.epoch / p->epochs;
}

// Would one more, as long as those before, take more of the run's time than is allowed? The first
// and the last one are made in any case.
static bool too_much(const struct train_run *r)
{
    const struct train_looks *l = &r->state.looks;
    double one = l->n ? l->seconds / (double)l->n : 0;
    if (!l->n || r->state.step == r->set.optim.steps)
        return false;
    return l->seconds + one > r->plan->watch.share * (log_seconds(r->log) + one);
}

// On rank 0. *stopped: a signal ended it.
static void look(struct train_run *r, bool *better, bool *stopped)
{
    struct look k = {.r = r};
    struct err why;
    int rc = one_model(&k, false, &why);
    if (!rc && r->core.average.d)
        rc = one_model(&k, true, &why);
    *stopped = rc && signals_stop_wanted();
    if (rc && !*stopped)
        log_error(r->log, "step %" PRIu64 " is not evaluated, training goes on: %s", r->state.step,
                  why.text);
    *better = k.better && !*stopped;
}

int train_watch_look(struct train_run *r, int (*save)(struct train_run *r, struct err *e),
                     struct err *e)
{
    struct train_looks *l = &r->state.looks;
    bool first = train_run_first(r), go, better = false, stopped = false;
    if (!train_watch_due(r))
        return 0;
    if (comm_any(r->comm, "time for an evaluation", first && !too_much(r), &go, e))
        return -1;
    if (go && first)
        look(r, &better, &stopped);
    if (comm_any(r->comm, "end of an evaluation", stopped, &stopped, e) ||
        comm_any(r->comm, "best evaluation", better, &better, e))
        return -1;
    if (stopped)
        return 0;
    l->step = r->state.step;
    l->epoch = r->state.pos.epoch;
    l->n += go;
    l->passed_over += !go;
    return better ? save(r, e) : 0;
}

void train_watch_say(const struct train_run *r)
{
    const struct train_looks *l = &r->state.looks;
    double all = log_seconds(r->log);
    char over[64] = "";
    if (!l->n)
        return;
    if (l->passed_over)
        snprintf(over, sizeof over, "; %" PRIu64 " passed over for --eval-share", l->passed_over);
    log_note(r->log, "evaluated %" PRIu64 " times: %.1f s, %.1f%% of the run's time%s", l->n,
             l->seconds, all > 0 ? 100 * l->seconds / all : 0, over);
    if (r->state.best_step)
        log_note(r->log, "the best %s%s:%s is %.4f, after step %" PRIu64,
                 r->plan->watch.ema ? "ema/" : "", r->plan->watch.set, r->plan->watch.metric,
                 r->state.best_value, r->state.best_step);
}
