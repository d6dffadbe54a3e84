// SPDX-License-Identifier: Apache-2.0
#include "train-run.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "sig.h"
#include "train-settle.h"
#include "train-setup.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// -- before the first step

static int find_checkpoint(struct train_run *r, struct err *e)
{
    const char *out = r->plan->o->output;
    if (!r->plan->o->resume)
        return 0;
    int there = train_checkpoint_latest(out, r->checkpoint, e);
    if (there < 0 || (there && train_checkpoint_state(r->checkpoint, &r->state, e)))
        return -1;
    if (!there)
        log_note(r->log, "no checkpoint in '%s': starting from the beginning", out);
    return 0;
}

// Refuses what does not belong together, before anything is started.
static int match_inputs(struct train_run *r, struct err *e)
{
    const struct train_options *o = r->plan->o;
    int needs = r->plan->needs;
    struct train_inputs in = {.centroids = train_plan_centroids(r->plan),
                              .tokenizer = r->plan->tokenizer};
    in.image = needs & LOSS_TEACHER_IMAGE ? o->teacher_image : NULL;
    in.text = needs & LOSS_TEACHER_TEXT ? o->teacher_text : NULL;
    in.labels = needs & LOSS_CLUSTERS ? o->labels : NULL;
    return train_match(&in, &r->inputs, e);
}

static int open_data(struct train_run *r, struct err *e)
{
    const struct train_options *o = r->plan->o;
    int needs = r->plan->needs;
    struct train_data_set s = {.path = o->path,
                               .command = o->command,
                               .seed = o->seed,
                               .epochs = train_plan_epochs(o),
                               .tokenizer = r->plan->tokenizer,
                               .batch = o->batch,
                               .dim_t = r->set.dim_t,
                               .n_label = r->set.n_label};
    s.teacher_image = needs & LOSS_TEACHER_IMAGE ? o->teacher_image : NULL;
    s.teacher_text = needs & LOSS_TEACHER_TEXT ? o->teacher_text : NULL;
    s.labels = needs & LOSS_CLUSTERS ? o->labels : NULL;
    r->data = train_data_open(&s, &r->state.pos, &r->state.counts, e);
    return r->data ? 0 : -1;
}

static int open_core(struct train_run *r, struct err *e)
{
    const struct train_options *o = r->plan->o;
    const char *path = train_plan_centroids(r->plan);
    struct train_set *s = &r->set;
    float *rows = NULL;
    if (path && !(rows = train_setup_centroids(path, s, e)))
        return -1;
    int rc =
        path && o->clusters && s->k != o->clusters
            ? err_set(e, "%s: has %zu clusters, --clusters says %" PRIu64, path, s->k, o->clusters)
            : 0;
    if (!rc)
        rc = train_settle_core(r->plan, &r->cfg, r->state.options, s, &r->dev, r->log, e);
    if (!rc)
        rc = train_core_open(&r->core, &r->dev, &r->cfg, s, rows, e);
    free(rows);
    return rc;
}

// What the run is started with; a checkpoint of other options is refused.
static int settle_options(struct train_run *r, struct err *e)
{
    struct err why;
    cJSON *is = train_setup_options(&r->core, &r->cfg, &r->inputs, e);
    if (!is)
        return -1;
    if (!r->state.options) {
        r->state.options = is;
        return 0;
    }
    int rc = train_options_same(r->state.options, is, &why);
    cJSON_Delete(is);
    return rc ? err_set(e, "--resume: %s", why.text) : 0;
}

static int load_weights(struct train_run *r, struct err *e)
{
    const struct train_options *o = r->plan->o;
    if (r->checkpoint[0])
        return train_checkpoint_load(r->checkpoint, &r->core, &r->state, e);
    return train_setup_weights(&r->core, o->init, o->seed, e);
}

static int open_log(struct train_run *r, struct err *e)
{
    const struct train_options *o = r->plan->o;
    if (mkdir(o->output, 0777) && errno != EEXIST)
        return err_errno(e, "cannot make '%s'", o->output);
    int n = o->log ? snprintf(r->log_path, sizeof r->log_path, "%s", o->log)
                   : snprintf(r->log_path, sizeof r->log_path, "%s/log.jsonl", o->output);
    if (n < 0 || (size_t)n >= sizeof r->log_path)
        return err_set(e, "'%s': the name is too long", o->log ? o->log : o->output);
    return train_log_open(&r->lines, r->log_path, r->checkpoint[0], r->state.step, e);
}

static int prepare(struct train_run *r, struct err *e)
{
    const struct train_options *o = r->plan->o;
    train_plan_set(r->plan, &r->set);
    if (find_checkpoint(r, e) ||
        dev_open(&r->dev, o->device, (enum dev_type)o->dtype, o->threads, false, e) ||
        match_inputs(r, e) || train_settle_data(r->plan, r->state.options, &r->set, r->log, e) ||
        open_data(r, e) ||
        train_setup_config(&r->cfg, o->student, o->init, train_data_header(r->data),
                           r->plan->needs & LOSS_BIAS, e) ||
        open_core(r, e) || settle_options(r, e) || load_weights(r, e) || open_log(r, e))
        return -1;
    return train_data_start(r->data, &r->cfg, e);
}

// -- the steps

static int checkpoint(struct train_run *r, struct err *e)
{
    char path[PATH_MAX];
    r->state.taken = r->core.optim.step;
    if (train_checkpoint_write(r->plan->o->output, &r->core, &r->state, r->plan->tokenizer,
                               TRAIN_CHECKPOINTS, path, e))
        return -1;
    snprintf(r->checkpoint, sizeof r->checkpoint, "%s", path);
    r->last_checkpoint = now();
    log_detail(r->log, "checkpoint '%s'", path);
    return 0;
}

// A step that gave NaN or Inf: an error, or passed over.
static int bad_step(struct train_run *r, double loss, double norm, struct err *e)
{
    const char *term = "the gradient";
    for (size_t i = 0; i < loss_count(); i++)
        if (!isfinite(r->core.set.losses.value[i]))
            term = loss_kinds[i].name;
    if (r->plan->o->skip_bad) {
        if (!r->bad_steps++)
            log_warn(r->log, "step %" PRIu64 ": %s is not finite; passed over", r->state.step + 1,
                     term);
        return 0;
    }
    return err_set(e,
                   "step %" PRIu64 ": %s is not finite (loss %g, gradient norm %g); last good "
                   "checkpoint: %s",
                   r->state.step + 1, term, loss, norm, r->checkpoint[0] ? r->checkpoint : "none");
}

// The batch of the next step, as train_data_next gives it.
struct turn {
    bool there, ahead; // asked for; while the step before it was on the device
    int rc;
    const struct train_made *m;
    double wait;
    struct err e;
};

static void next_batch(struct train_run *r, struct turn *t, bool ahead)
{
    double start = now();
    t->rc = train_data_next(r->data, &t->m, &t->e);
    t->wait = now() - start;
    t->there = true;
    t->ahead = ahead;
}

// A device that works by itself gets the next step's pictures meanwhile; *t is then the next turn.
static int compute(struct train_run *r, struct turn *t, double *loss, double *norm, struct err *e)
{
    if (train_core_begin(&r->core, &t->m->b, e))
        return -1;
    t->there = false;
    if (r->dev.reserve && r->state.step + 1 < r->set.optim.steps) {
        next_batch(r, t, true);
        if (t->rc == 1)
            train_core_ahead(&r->core, &t->m->b);
    }
    return train_core_end(&r->core, loss, norm, e);
}

static int one_step(struct train_run *r, struct turn *t, struct err *e)
{
    const struct train_made m = *t->m; // the batch itself is given back before the end
    double start = now(), wait = t->wait, before = t->ahead ? 0 : wait;
    double loss, norm, rate = optim_lr(&r->set.optim, r->core.optim.step);
    if (compute(r, t, &loss, &norm, e))
        return -1;
    bool bad = !isfinite(loss) || !isfinite(norm);
    if (bad && bad_step(r, loss, norm, e))
        return -1;
    r->state.step++;
    r->state.samples += m.b.n;
    r->state.pos = m.pos;
    r->state.counts = m.counts;
    snprintf(r->progress.extra, sizeof r->progress.extra, "loss %.4f", loss);
    progress_to(&r->progress, r->state.step);
    struct train_line line = {&r->core, &r->state,         loss, norm, rate, now() - start + before,
                              wait,     log_peak_memory(), bad};
    return train_log_step(&r->lines, &line, e);
}

static bool checkpoint_due(const struct train_run *r)
{
    const struct train_plan *p = r->plan;
    if (p->every_steps && r->state.step % p->every_steps == 0)
        return true;
    return p->every_seconds > 0 && now() - r->last_checkpoint >= p->every_seconds;
}

// A model of no steps is none, and one whose learning rate never came to its end is not what was
// asked for, unless the length was given in steps. 0 or -1.
static int data_ended(struct train_run *r, struct err *e)
{
    size_t left = train_data_left(r->data);
    const struct train_options *o = r->plan->o;
    if (!r->state.step)
        return err_set(e,
                       "the data ended before the first step: %zu samples do not fill a batch "
                       "of %zu",
                       left, r->set.batch);
    struct err why;
    if (!o->steps_given && checkpoint(r, &why))
        log_warn(r->log, "%s", why.text);
    if (!o->steps_given)
        return err_set(e,
                       "the data ended after %" PRIu64 " of %" PRIu64 " steps; --keep and "
                       "--shards-from tell what CMD leaves out, or --epoch-samples how many "
                       "samples an epoch has",
                       r->state.step, r->set.optim.steps);
    log_warn(r->log,
             "the data ended after %" PRIu64 " of %" PRIu64
             " steps; %zu samples did not fill a batch",
             r->state.step, r->set.optim.steps, left);
    return 0;
}

// 0 done, 1 a signal asked for the end, -1.
static int train(struct train_run *r, struct err *e)
{
    uint64_t n = r->set.optim.steps;
    struct turn t = {0};
    r->last_checkpoint = now();
    while (r->state.step < n && !sig_stop_wanted()) {
        if (!t.there)
            next_batch(r, &t, false);
        if (t.rc < 0) {
            *e = t.e;
            return -1;
        }
        if (t.rc == 0 && data_ended(r, e))
            return -1;
        if (t.rc != 1)
            break;
        if (one_step(r, &t, e))
            return -1;
        if (checkpoint_due(r) && r->state.step < n && checkpoint(r, e))
            return -1;
    }
    return sig_stop_wanted() && r->state.step < n;
}

static void footer(struct train_run *r)
{
    const struct train_counts *c = &r->state.counts;
    char text[256];
    snprintf(text, sizeof text,
             "%" PRIu64 " steps, %" PRIu64 " samples; passed over: %" PRIu64 " incomplete, %" PRIu64
             " without teacher row, %" PRIu64 " without label",
             r->state.step, r->state.samples, c->incomplete, c->no_teacher, c->no_label);
    if (train_data_no_sidecar(r->data))
        log_note(r->log, "teacher files without sidecar: only their row counts were checked");
    if (r->bad_steps)
        log_warn(r->log, "%" PRIu64 " steps were not finite and passed over", r->bad_steps);
    log_footer(r->log, r->state.samples, text);
}

int train_run_all(struct train_run *r, const struct train_plan *plan, struct log *log,
                  struct err *e)
{
    const struct train_options *o = plan->o;
    *r = (struct train_run){.plan = plan, .log = log, .lines.fd = -1};
    if (o->dry_run)
        return train_dry_run(plan, log, e);
    if (prepare(r, e))
        return -1;
    progress_start(&r->progress, log, r->set.optim.steps, "steps");
    progress_to(&r->progress, r->state.step);
    int rc = train(r, e);
    progress_end(&r->progress);
    if (rc > 0) {
        if (checkpoint(r, e))
            return -1;
        log_note(log, "stopped after step %" PRIu64 "; --resume goes on from '%s'", r->state.step,
                 r->checkpoint);
        return 1;
    }
    if (rc || (plan->last_checkpoint && checkpoint(r, e)) ||
        train_export(o->output, &r->core, plan->tokenizer, o->export_hf, e))
        return -1;
    footer(r);
    return 0;
}

void train_run_release(struct train_run *r)
{
    train_log_close(&r->lines);
    train_data_close(r->data);
    train_core_close(&r->core);
    train_state_release(&r->state);
    if (r->dev.op)
        dev_close(&r->dev);
}
