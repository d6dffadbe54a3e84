// SPDX-License-Identifier: Apache-2.0
#include "runs/run.h"

#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "comm/open.h"
#include "losses/ranks.h"
#include "system/signals.h"
#include "runs/begin.h"
#include "runs/settle.h"
#include "train/choose.h"
#include "train/profile.h"

// -- the steps

static int checkpoint(struct train_run *r, struct err *e)
{
    char path[PATH_MAX];
    struct checkpoint_keep keep = r->plan->keep_checkpoints;
    keep.best = r->plan->watch.set[0] ? r->state.best_step : 0;
    r->state.taken = r->core.optim.step;
    r->state.seconds = log_seconds(r->log);
    if (train_checkpoint_write(r->plan->o->output, &r->core, &r->state, r->plan->tokenizer, &keep,
                               path, e))
        return -1;
    snprintf(r->checkpoint, sizeof r->checkpoint, "%s", path);
    r->saved = r->state.step;
    log_detail(r->log, "checkpoint '%s'", path);
    return 0;
}

static int save(struct train_run *r, struct err *e)
{
    return r->saved == r->state.step ? 0 : checkpoint(r, e);
}

// All ranks use rank 0's clock.
static int is_due(struct train_run *r, bool *due, struct err *e)
{
    const struct train_plan *p = r->plan;
    bool mine = p->every_seconds > 0 && train_run_first(r) &&
                clock_seconds() - r->last_checkpoint >= p->every_seconds;
    uint64_t step = r->state.step, kept = p->keep_checkpoints.every;
    *due = (p->every_steps && step % p->every_steps == 0) || (kept && step % kept == 0);
    return *due || !(p->every_seconds > 0) ? 0 : comm_any(r->comm, "checkpoint", mine, due, e);
}

// If a checkpoint cannot be written now (a full disk), training goes on rather than lose the
// weights as well: the next one may succeed.
static int save_when_due(struct train_run *r, struct err *e)
{
    struct err why;
    bool due;
    if (is_due(r, &due, e))
        return -1;
    if (!due)
        return 0;
    // a fault of a moment is over the second time
    if (save(r, &why) && save(r, &why) && train_run_first(r))
        log_error(r->log, "no checkpoint after step %" PRIu64 ", training goes on: %s",
                  r->state.step, why.text);
    r->last_checkpoint = clock_seconds();
    return 0;
}

// Saves a checkpoint before the run fails for a reason outside of it.
static void save_before_failing(struct train_run *r)
{
    struct err why;
    if (save(r, &why) && train_run_first(r))
        log_error(r->log, "no checkpoint after step %" PRIu64 ": %s", r->state.step, why.text);
    if (r->checkpoint[0])
        log_note(r->log, "--resume goes on after step %" PRIu64 ", from '%s'", r->saved,
                 r->checkpoint);
}

// A signal to the whole group ends the data command too, whose end may be seen before our own
// signal.
static bool stop_follows(void)
{
    const struct timespec wait = {.tv_nsec = 50000000};
    for (int i = 0; i < 20 && !signals_stop_wanted(); i++)
        nanosleep(&wait, NULL);
    return signals_stop_wanted();
}

// The batch of the next step, as train_data_next gives it.
struct run_turn {
    bool there, ahead; // asked for; while the step before it was on the device
    int rc;
    struct train_batch b;
    double wait;
    struct err e;
};

static void next_batch(struct train_run *r, struct run_turn *t, bool ahead)
{
    double start = clock_seconds();
    t->rc = train_data_next(r->data, &t->b, &t->e);
    t->wait = clock_seconds() - start;
    t->there = true;
    t->ahead = ahead;
}

// A device that computes asynchronously gets the next step's pictures meanwhile; *t is then the
// next turn.
static int compute(struct train_run *r, struct run_turn *t, double *loss, double *norm,
                   struct err *e)
{
    struct train_batch chosen, *b = r->core.choose ? &chosen : &t->b;
    if ((r->core.choose && train_choose(&r->core, &t->b, b, e)) || train_spike_before(r, b, e) ||
        train_core_begin(&r->core, b, e))
        return -1;
    t->there = false;
    if (r->dev.reserve && r->state.step + 1 < r->set.optim.steps) {
        next_batch(r, t, true);
        if (t->rc == 1)
            train_core_ahead(&r->core, &t->b);
    }
    return train_core_end(&r->core, loss, norm, e);
}

static int one_step(struct train_run *r, struct run_turn *t, struct err *e)
{
    size_t n = r->core.choose ? r->set.batch : t->b.n; // b is given back before the end
    double start = clock_seconds(), wait = t->wait, before = t->ahead ? 0 : wait;
    uint64_t sent = r->comm->sent;
    double loss, norm, rate = optim_lr(&r->set.optim, r->core.optim.step);
    if (compute(r, t, &loss, &norm, e))
        return -1;
    bool bad = train_spike_seen(r, loss, norm);
    int wrong = bad ? train_spike_act(r, loss, norm, e) : 0;
    if (wrong)
        return wrong < 0 ? -1 : 0; // rewound: other steps come first
    if (!bad)
        train_spike_take(r, loss);
    r->state.step++;
    r->state.samples += n;
    train_state_take(&r->state, r->places);
    snprintf(r->progress.extra, sizeof r->progress.extra, "loss %.4f%s%s", loss,
             r->watch.last[0] ? ", " : "", r->watch.last);
    progress_to(&r->progress, r->state.step);
    r->state.seconds = log_seconds(r->log);
    r->sent += r->comm->sent - sent;
    struct train_line line = {
        &r->core, &r->state,         loss,          norm, rate, clock_seconds() - start + before,
        wait,     log_peak_memory(), &r->plan->mix, bad};
    int rc = train_run_first(r) ? train_log_step(&r->lines, &line, e) : 0;
    if (!comm_agree(r->comm, rc, e))
        return 0;
    save_before_failing(r);
    return -1;
}

// Refuses to export a model of no steps, and one whose learning rate never reached its end, unless
// the length was given in steps. 0 or -1.
static int data_ended(struct train_run *r, struct err *e)
{
    size_t left = train_data_left(r->data);
    const struct train_options *o = r->plan->o;
    if (!r->state.step)
        return err_set(e,
                       "the data ended before the first step: %zu samples do not fill a batch "
                       "of %zu",
                       left, train_reads(&r->set));
    if (!o->steps_given)
        save_before_failing(r);
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

// Reads the next batch on every rank, before a step: 1; 0 if the data have ended, or a signal to
// any rank asks to stop (r->stopping); -1.
static int next_turn(struct train_run *r, struct run_turn *t, struct err *e)
{
    bool ended;
    if (!signals_stop_wanted() && !t->there)
        next_batch(r, t, false);
    bool failed = t->there && t->rc < 0, stop = signals_stop_wanted() || (failed && stop_follows());
    if (comm_any(r->comm, "wish to stop", stop, &r->stopping, e))
        return -1;
    if (r->stopping)
        return 0;
    if (failed)
        *e = t->e;
    if (comm_agree(r->comm, failed ? -1 : 0, e)) {
        save_before_failing(r);
        return -1;
    }
    if (comm_any(r->comm, "end of the data", t->rc != 1, &ended, e) ||
        (!ended && train_data_share(r->data, r->comm, r->places, e)))
        return -1;
    return !ended;
}

static void end_profile(struct train_run *r)
{
    dev_profile_end(&r->dev);
    if (train_run_first(r))
        train_profile_say(r->profile, r->state.step - r->profiled, r->log);
}

// --profile: of the steps behind the first, in which memory is allocated and pages are touched.
static int profile(struct train_run *r, struct err *e)
{
    uint64_t steps = r->plan->o->profile, step = r->state.step;
    dev_profile_at(&r->dev, "data, log, checkpoints", -1, false);
    if (!steps)
        return 0;
    if (!r->profile && step == r->begun + 1) {
        if (!(r->profile = mem_alloc(1, sizeof *r->profile, e)))
            return -1;
        dev_profile_begin(&r->dev, r->profile);
        r->profiled = step;
    } else if (r->dev.profile && step >= r->profiled + steps) {
        end_profile(r);
    }
    return 0;
}

// A run that has ended within the steps of --profile tells of those that it had.
static void short_profile(struct train_run *r)
{
    uint64_t had = r->profile ? r->state.step - r->profiled : 0;
    if (!r->plan->o->profile || (r->profile && !r->dev.profile))
        return;
    if (train_run_first(r))
        log_warn(r->log,
                 "--profile %" PRIu64 ": the run has ended after %" PRIu64
                 " steps behind its first",
                 r->plan->o->profile, had);
    if (had)
        end_profile(r);
}

// 0 done, 1 stopped by a signal, -1.
static int train(struct train_run *r, struct err *e)
{
    uint64_t n = r->set.optim.steps;
    struct run_turn t = {0};
    r->last_checkpoint = clock_seconds();
    r->begun = r->state.step;
    if (train_watch_look(r, save, e)) // one that the part before did not come to
        return -1;
    while (r->state.step < n) {
        int rc = next_turn(r, &t, e);
        if (rc <= 0)
            return rc < 0 ? -1 : r->stopping ? 1 : data_ended(r, e);
        if (one_step(r, &t, e) || train_watch_look(r, save, e) || profile(r, e) ||
            (r->state.step < n && save_when_due(r, e)))
            return -1;
    }
    short_profile(r);
    return 0;
}

static void footer(struct train_run *r)
{
    const struct train_counts *c = &r->state.counts;
    char text[256], parts[48] = "";
    if (r->state.starts > 1)
        snprintf(parts, sizeof parts, " in %" PRIu64 " parts", r->state.starts);
    snprintf(text, sizeof text,
             "%" PRIu64 " steps, %" PRIu64 " samples%s; passed over: %" PRIu64
             " incomplete, %" PRIu64 " without teacher row, %" PRIu64 " without label",
             r->state.step, r->state.samples, parts, c->incomplete, c->no_teacher, c->no_label);
    if (train_data_skip_unknown(r->data))
        log_note(r->log, "the data command does not say which samples it left out with {skip}: "
                         "they were not compared with the earlier part's");
    if (train_data_no_sidecar(r->data))
        log_note(r->log, "teacher files without sidecar: only their row counts were checked");
    if (train_data_partial(r->data))
        log_warn(r->log, "teacher files hold a part of their shard (teacher-embed --partial), and "
                         "the run did not read all keys of it: whether their rows are those of "
                         "the samples was not checked");
    if (r->comm->size > 1 && r->state.step > r->begun)
        log_note(r->log, "%d ranks: %.3f MB sent by each in a step", r->comm->size,
                 (double)r->sent / 1e6 / (double)(r->state.step - r->begun));
    if (r->bad_steps)
        log_warn(r->log, "%" PRIu64 " steps went wrong and were skipped", r->bad_steps);
    for (size_t i = 0; i < r->plan->mix.n; i++)
        log_note(r->log, "%s: %" PRIu64 " samples, epoch %" PRIu64, r->plan->mix.set[i].name,
                 train_state_used(&r->state, r->plan->mix.n, i), r->state.places[i].pos.epoch);
    train_watch_say(r);
    log_footer(r->log, r->state.samples, text);
}

// The last look at a run that a signal ended in the middle of it.
static int look_again(struct train_run *r, struct err *e)
{
    if (r->only_model || !train_watch_due(r))
        return 0;
    int rc = train_run_first(r)
                 ? train_log_open(&r->lines, r->log_path, true, r->state.step, false, e)
                 : 0;
    return comm_agree(r->comm, rc, e) || train_watch_look(r, checkpoint, e) ? -1 : 0;
}

// A finished run that is started again. Its model is exported again where there is a checkpoint of
// it: a run may have ended between the two.
static int already_done(struct train_run *r, struct err *e)
{
    const struct train_options *o = r->plan->o;
    const struct train_state *s = &r->state;
    if (look_again(r, e))
        return -1;
    if (!train_run_first(r))
        return 0;
    if (!r->only_model &&
        train_output_finish(&r->output, &r->core, s, r->plan->tokenizer, o->export_hf, e))
        return -1;
    if (r->only_model && train_output_touch(&r->output, e))
        return -1;
    log_note(r->log,
             "'%s' is finished: %" PRIu64 " steps, %" PRIu64
             " samples, %.1f s in all%s; %s with a larger --steps or --epochs trains on",
             o->output, s->step, s->samples, s->seconds, r->only_model ? ", no checkpoint" : "",
             r->only_model ? "--init of another run" : "--extend");
    return 0;
}

// "SIGTERM"; the signal of another rank is not known here.
static const char *stop_name(void)
{
    int sig = signals_stop_signal();
    return !sig             ? "a signal to another rank"
           : sig == SIGINT  ? "SIGINT"
           : sig == SIGHUP  ? "SIGHUP"
           : sig == SIGUSR2 ? "SIGUSR2"
                            : "SIGTERM";
}

// The last line, also with --quiet: the run did not do what it was started for.
static void say_stopped(struct train_run *r)
{
    if (!train_run_first(r))
        return;
    if (r->checkpoint[0])
        log_error(r->log, "stopped by %s; --resume goes on after step %" PRIu64 ", from '%s'",
                  stop_name(), r->state.step, r->checkpoint);
    else
        log_error(r->log, "stopped by %s before the first step", stop_name());
}

static int stopped(struct train_run *r, struct err *e)
{
    if (r->state.step && save(r, e))
        return -1;
    say_stopped(r);
    return 1;
}

// The model is worth more than the last checkpoint: it is written even if that checkpoint cannot
// be.
static int finish(struct train_run *r, struct err *e)
{
    const struct train_plan *p = r->plan;
    int rc = p->last_checkpoint ? save(r, e) : 0;
    struct err why;
    r->state.seconds = log_seconds(r->log);
    int written = train_run_first(r) ? train_output_finish(&r->output, &r->core, &r->state,
                                                           p->tokenizer, p->o->export_hf, &why)
                                     : 0;
    if (comm_agree(r->comm, written, &why)) {
        *e = why;
        return -1;
    }
    if (rc)
        return err_wrap(e, "the model is written, its last checkpoint is not");
    footer(r);
    return 0;
}

// Refuses what can be refused without the folder, then makes the plan.
// What is looked for beside the student would be missed first.
static int check_student(const struct train_options *o, struct err *e)
{
    return o->student && access(o->student, R_OK) ? err_errno(e, "cannot open '%s'", o->student)
                                                  : 0;
}

static int dry_run(struct train_run *r, struct err *e)
{
    const struct train_options *o = r->plan->o;
    r->output.dir = o->output;
    if (o->output && train_output_check(&r->output, train_begin_how(o), &r->state, e) < 0)
        return -1;
    return train_dry_run(r->plan, r->log, e);
}

int train_run_all(struct train_run *r, const struct train_plan *plan, struct comm *comm,
                  struct log *log, struct err *e)
{
    *r = (struct train_run){.plan = plan, .comm = comm, .log = log, .lines.fd = -1};
    r->set.comm = comm;
    if (plan->o->dry_run)
        return train_run_first(r) ? dry_run(r, e) : 0;
    if (check_student(plan->o, e) || train_begin(r, e)) {
        if (!signals_stop_wanted())
            return -1;
        say_stopped(r);
        return 1;
    }
    if (train_begin_finished(r))
        return already_done(r, e);
    progress_start(&r->progress, log, r->set.optim.steps, "steps");
    progress_from(&r->progress, r->state.step);
    int rc = train(r, e);
    progress_end(&r->progress);
    return rc > 0 ? stopped(r, e) : rc ? -1 : finish(r, e);
}

int train_run_ranks(struct train_run *r, const struct train_plan *plan, struct comm *c,
                    struct log *log)
{
    struct err e;
    int rc = comm_open(c, plan->o->comm, log, &e) ? -1 : train_run_all(r, plan, c, log, &e);
    if (rc > 0 && comm_barrier(c, "end", &e)) // a launcher ends all when the first has ended
        rc = -1;
    if (rc < 0)
        comm_report(c, log, &e);
    return rc;
}

void train_run_release(struct train_run *r)
{
    train_log_close(&r->lines);
    train_data_close(r->data);
    train_watch_close(&r->watch);
    train_spike_release(&r->spike);
    train_core_close(&r->core);
    train_state_release(&r->state);
    checkpoint_list_release(&r->found);
    free(r->prior);
    for (size_t i = 0; i < MIX_MOST; i++)
        free(r->shards_of[i]);
    free(r->shards);
    free(r->places);
    if (r->dev.op) {
        ranks_release(&r->dev, r->comm);
        comm_close_device(r->comm);
        dev_close(&r->dev);
        free(r->profile);
    }
    train_output_release(&r->output);
}
