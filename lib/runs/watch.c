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
#include "feed/source.h"
#include "runs/watch-run.h"
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

// Every rank reads all of it.
static int check_command(const char *command, struct err *e)
{
    const uint64_t value[N_NUMBERS] = {0};
    bool used[N_NUMBERS] = {false};
    char **words = command ? train_words(command, value, used, e) : NULL;
    if (command && !words)
        return err_wrap(e, "--val-data");
    train_words_free(words);
    return used[NUMBER_PART] || used[NUMBER_PARTS]
               ? err_set(e, "--val-data is read whole: {part} has no meaning in it")
               : 0;
}

int watch_plan_init(struct watch_plan *w, const struct train_options *o, struct err *e)
{
    *w = (struct watch_plan){.share = 1};
    const char *without = o->eval_every_given   ? "eval-every"
                          : o->eval_share_given ? "eval-share"
                          : o->keep_best        ? "keep-best"
                                                : NULL;
    if (!o->eval_sets.n && !o->val_data && without)
        return err_set(e, "--%s needs --eval-set DIR or --val-data 'CMD'", without);
    if (o->eval_share_given && (!o->eval_share.percent || o->eval_share.value > 100))
        return err_set(e, "--eval-share is a share of the run's time, as 5%%");
    if (o->eval_share_given)
        w->share = o->eval_share.value / 100;
    return parse_every(w, o->eval_every, e) || check_command(o->val_data, e) ||
                   (o->keep_best && parse_best(w, o, e))
               ? -1
               : 0;
}

// -- the sets

static int open_set(struct train_watch *w, const char *folder, bool held_out, struct err *e)
{
    struct eval_set *s = &w->sets[w->n];
    size_t shards;
    if (eval_set_open(s, folder, NULL, NULL, e))
        return -1;
    w->n++;
    if (held_out && !strcmp(s->name, WATCH_HELD_OUT))
        return err_set(e, "--eval-set: '%s' has the name of --val-data's figures", folder);
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

// Of the losses on held-out data.
static bool has_term(const struct losses *l, const char *metric)
{
    bool has = !strcmp(metric, "loss");
    for (size_t i = 0; i < loss_count(); i++)
        has |= l->weight[i] > 0 && !strcmp(metric, loss_kinds[i].name);
    return has;
}

static int check_best(const struct train_watch *w, const struct train_plan *plan, struct err *e)
{
    const struct watch_plan *p = &plan->watch;
    if (plan->o->val_data && !strcmp(p->set, WATCH_HELD_OUT))
        return has_term(&plan->losses, p->metric)
                   ? 0
                   : err_set(e, "--keep-best: '%s' is no term of the loss", p->metric);
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
        return check_best(w, p, e);
    if (!(w->sets = mem_alloc(n, sizeof *w->sets, e)) ||
        !(w->tokenizer = clip_tokenizer_open(p->tokenizer, cfg, e)))
        return -1;
    for (size_t i = 0; i < n; i++)
        if (open_set(w, o->eval_sets.items[i], o->val_data, e))
            return -1;
    return check_best(w, p, e);
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

void look_compare(struct look *k, const char *name, bool ema, const char *metric, double value,
                  bool less)
{
    const struct watch_plan *p = &k->r->plan->watch;
    struct train_state *s = &k->r->state;
    if (strcmp(p->set, name) || p->ema != ema || strcmp(p->metric, metric) || !isfinite(value))
        return;
    if (s->best_step && !(less ? value < s->best_value : value > s->best_value))
        return;
    s->best_step = s->step;
    s->best_value = value;
    k->better = true;
}

int look_begin_line(cJSON *j, const struct train_run *r, const char *name, bool ema,
                    const char *task, struct err *e)
{
    const struct train_state *s = &r->state;
    return json_add_u64(j, "step", s->step, e) || json_add_u64(j, "epoch", s->pos.epoch, e) ||
                   json_add_u64(j, "samples", s->samples, e) ||
                   json_add_string(j, "eval", name, e) ||
                   json_add_string(j, "weights", ema ? "ema" : "trained", e) ||
                   json_add_string(j, "task", task, e)
               ? -1
               : 0;
}

int look_end_line(cJSON *j, struct train_run *r, double took, struct err *e)
{
    return json_add_double(j, "took", took, e) ||
                   json_add_double(j, "eval_seconds", r->state.looks.seconds, e) ||
                   json_add_double(j, "seconds", log_seconds(r->log), e) ||
                   train_log_line(&r->lines, j, e)
               ? -1
               : 0;
}

void look_say(struct train_run *r, const char *name, bool ema, const char *metric, double value)
{
    const char *of = ema ? "ema/" : "";
    log_note(r->log, "step %" PRIu64 ": %s%s: %s %.4f", r->state.step, of, name, metric, value);
    snprintf(r->watch.last, sizeof r->watch.last, "%s%.24s %.16s %.4f", of, name, metric, value);
}

static int write_line(struct look *k, const struct eval_set *s, bool ema,
                      const struct eval_result *result, double took, struct err *e)
{
    cJSON *j = cJSON_CreateObject();
    int rc = !j ? err_set(e, "out of memory")
             : look_begin_line(j, k->r, s->name, ema, result->task, e) ||
                     eval_result_figures(j, result, e) || look_end_line(j, k->r, took, e)
                 ? -1
                 : 0;
    cJSON_Delete(j);
    return rc;
}

static void say_result(struct look *k, const struct eval_set *s, bool ema,
                       const struct eval_result *result)
{
    const struct eval_figure *first = &result->figure[0];
    if (result->failed)
        log_warn(k->r->log, "%s: %" PRIu64 " of %" PRIu64 " pictures cannot be decoded", s->folder,
                 result->failed, result->n);
    if (result->n_figures)
        look_say(k->r, s->name, ema, first->name, first->value);
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
        look_compare(k, s->name, ema, result.figure[i].name, result.figure[i].value, false);
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
    if ((!r->plan->o->eval_sets.n && !r->plan->o->val_data) || !s->step)
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

// The sets, on rank 0. 0 or -1: one could not be evaluated.
static int look_at_sets(struct look *k, struct err *why)
{
    struct train_run *r = k->r;
    if (!r->watch.n)
        return 0;
    int rc = one_model(k, false, why);
    if (!rc && r->core.average.d)
        rc = one_model(k, true, why);
    k->stopped = rc && signals_stop_wanted();
    return k->stopped ? 0 : rc;
}

// All ranks. 0 or -1: the run cannot go on.
static int look(struct look *k, struct err *e)
{
    struct train_run *r = k->r;
    struct err why;
    bool failed = train_run_first(r) && look_at_sets(k, &why);
    if (comm_any(r->comm, "end of an evaluation", k->stopped, &k->stopped, e) ||
        comm_any(r->comm, "evaluation", failed, &failed, e))
        return -1;
    if (!failed && !k->stopped && r->plan->o->val_data && look_held_out(k, &failed, &why, e))
        return -1;
    if (failed && train_run_first(r))
        log_error(r->log, "step %" PRIu64 " is not evaluated, training goes on: %s", r->state.step,
                  why.text);
    return comm_any(r->comm, "end of an evaluation", k->stopped, &k->stopped, e);
}

int train_watch_look(struct train_run *r, int (*save)(struct train_run *r, struct err *e),
                     struct err *e)
{
    struct train_looks *l = &r->state.looks;
    struct look k = {.r = r};
    bool go;
    if (!train_watch_due(r))
        return 0;
    if (comm_any(r->comm, "time for an evaluation", train_run_first(r) && !too_much(r), &go, e) ||
        (go && look(&k, e)))
        return -1;
    if (k.stopped)
        return 0;
    if (comm_any(r->comm, "best evaluation", k.better, &k.better, e))
        return -1;
    l->step = r->state.step;
    l->epoch = r->state.pos.epoch;
    l->n += go;
    l->passed_over += !go;
    return k.better ? save(r, e) : 0;
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
