// SPDX-License-Identifier: Apache-2.0
#include "runs/begin.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "comm/open.h"
#include "formats/json.h"
#include "model/folder.h"
#include "system/io.h"
#include "runs/checkpoint-dir.h"
#include "runs/fit.h"
#include "runs/match.h"
#include "runs/settle.h"
#include "runs/setup.h"
#include "train/prior.h"

enum train_start train_begin_how(const struct train_options *o)
{
    return o->resume ? TRAIN_RESUME : o->overwrite ? TRAIN_OVERWRITE : TRAIN_NEW;
}

// Takes the folder for this run, if the options allow it.
static int take_output(struct train_run *r, struct err *e)
{
    const struct train_options *o = r->plan->o;
    if (train_output_take(&r->output, o->output, e))
        return -1;
    int rc = train_output_check(&r->output, train_begin_how(o), &r->state, e);
    r->only_model = rc > 0;
    return rc < 0 ? -1 : 0;
}

static int name_log(struct train_run *r, struct err *e)
{
    const struct train_options *o = r->plan->o;
    int n = o->log ? snprintf(r->log_path, sizeof r->log_path, "%s", o->log)
                   : snprintf(r->log_path, sizeof r->log_path, "%s/log.jsonl", o->output);
    if (n < 0 || (size_t)n >= sizeof r->log_path)
        return err_set(e, "'%s': the name is too long", o->log ? o->log : o->output);
    return 0;
}

// Opens the log before the data and the teacher, so that a log that cannot be written is found
// first.
static int check_log(struct train_run *r, struct err *e)
{
    return name_log(r, e) || io_check_output(r->log_path, e) || io_check_existing(r->log_path, e)
               ? -1
               : 0;
}

static void list_steps(const struct checkpoint_list *l, char *text, size_t n)
{
    size_t at = 0;
    *text = '\0';
    for (size_t i = l->n; i-- > 0 && at < n - 24;)
        at += (size_t)snprintf(text + at, n - at, "%s%" PRIu64, at ? ", " : "", l->at[i].step);
}

// The checkpoint of --resume-from, and no other.
static int find_step(struct train_run *r, uint64_t step, struct err *e)
{
    const char *out = r->plan->o->output;
    char steps[256];
    if (checkpoint_list_read(&r->found, out, e))
        return -1;
    for (size_t i = 0; i < r->found.n; i++)
        if (r->found.at[i].step == step) {
            if (checkpoint_path(r->checkpoint, out, r->found.at[i].name, e))
                return -1;
            return train_state_read(r->checkpoint, &r->state, e)
                       ? err_wrap(e, "checkpoint '%s'", r->checkpoint)
                       : 0;
        }
    list_steps(&r->found, steps, sizeof steps);
    return r->found.n ? err_set(e, "no checkpoint of step %" PRIu64 " in '%s': there are %s", step,
                                out, steps)
                      : err_set(e, "no checkpoint in '%s'", out);
}

// Finds the newest checkpoint that is whole. Damaged ones above it are reported here and renamed
// once the run is known to continue.
static int find_checkpoint(struct train_run *r, struct err *e)
{
    const char *out = r->plan->o->output;
    if (r->plan->o->resume_from_given)
        return find_step(r, r->plan->o->resume_from, e);
    if (!r->plan->o->resume || r->only_model)
        return 0;
    if (checkpoint_list_read(&r->found, out, e))
        return -1;
    if (!r->found.n)
        log_note(r->log, "no checkpoint in '%s': starting from the beginning", out);
    for (size_t i = 0; i < r->found.n; i++) {
        char path[PATH_MAX];
        int rc = checkpoint_path(path, out, r->found.at[i].name, e)
                     ? -1
                     : train_state_read(path, &r->state, e);
        if (rc < 0)
            return -1;
        if (!rc) {
            snprintf(r->checkpoint, sizeof r->checkpoint, "%s", path);
            r->n_damaged = i;
            return 0;
        }
        train_state_release(&r->state);
        log_warn(r->log, "checkpoint '%s' is damaged: %s", path, e->text);
    }
    return r->found.n ? err_set(e,
                                "no checkpoint in '%s' is whole; --overwrite removes them and "
                                "starts again",
                                out)
                      : 0;
}

static int set_damaged_aside(struct train_run *r, struct err *e)
{
    char aside[PATH_MAX];
    for (size_t i = 0; i < r->n_damaged; i++) {
        if (checkpoint_dir_set_aside(r->plan->o->output, r->found.at[i].name, aside, e))
            return -1;
        log_warn(r->log, "the damaged checkpoint is now '%s'", aside);
    }
    return 0;
}

// Refuses inputs that do not belong together, before anything is started.
static int match_inputs(struct train_run *r, struct err *e)
{
    struct lines known = {0};
    if (r->plan->mix.n) {
        r->shards = mem_strdup("", e);
        return r->shards ? train_match_sets(r, &r->inputs, e) : -1;
    }
    int rc = r->checkpoint[0] || r->only_model ? train_output_shards(&r->output, &known, e) : 0;
    if (!rc)
        rc = train_match_set(r->plan, &known, &r->inputs, &r->shards, e);
    lines_release(&known);
    return rc ? -1 : 0;
}

static int settle_scales(struct train_run *r, struct err *e)
{
    const struct train_plan *p = r->plan;
    struct train_set *s = &r->set;
    size_t n = p->losses.teachers ? p->losses.teachers : 1;
    if (!(p->needs & LOSS_EACH) && !(s->select > 0))
        return 0;
    if (teacher_scales(p->o->teacher_scale, n, r->inputs.scale, s->scale_of, e))
        return -1;
    for (size_t i = 0; i < n; i++)
        log_note(r->log, "%s: the logits of teacher %zu are %.6g times its cosines%s",
                 p->needs & LOSS_EACH ? "affinity" : "select", i + 1, (double)s->scale_of[i],
                 p->o->teacher_scale      ? ""
                 : r->inputs.scale[i] > 0 ? ", as its sidecars say"
                                          : "; its sidecars do not say");
    return 0;
}

// Sets of the mixture that a checkpoint was made with, "A=1,B=0.5"; 0: none.
static size_t sets_before(const cJSON *was)
{
    const cJSON *data = cJSON_GetObjectItemCaseSensitive(was, "data");
    size_t n = cJSON_IsString(data) ? 1 : 0;
    for (const char *p = n ? data->valuestring : ""; *p; p++)
        n += *p == ',';
    return n;
}

// Refuses to go on with other streams than those of the checkpoint. 0 or -1.
static int check_places(const struct train_run *r, struct err *e)
{
    size_t n = r->plan->mix.n, sets = sets_before(r->state.options), was = r->state.n_places;
    if (!r->state.options)
        return 0;
    if (n && sets != n)
        return err_set(e,
                       "--resume: the checkpoint was made with %zu sets in --data, now there are "
                       "%zu",
                       sets, n);
    if (sets != n)
        return err_set(e,
                       "--resume: the checkpoint was made with a mixture of %zu sets in --data: "
                       "give the same",
                       sets);
    if (was == r->streams)
        return 0;
    size_t dealt = n && was == n ? 0 : was / (n ? n : 1);
    if (dealt && r->dealt)
        return err_set(e, "--resume: the checkpoint was made with --accumulate %zu, now it is %zu",
                       dealt, r->dealt);
    return err_set(e, "--resume: the checkpoint was made with%s {part} in --data, give %s",
                   dealt ? "" : "out", dealt ? "the same" : "none");
}

// Streams of pieces and sets: restores the place of each, or begins at 0.
static int open_places(struct train_run *r, struct err *e)
{
    if (train_settle_dealt(r->plan, r->state.options, &r->set, &r->dealt, e))
        return -1;
    size_t n = r->plan->mix.n;
    r->streams = n ? n * (r->dealt ? r->dealt : 1) : r->dealt;
    if (check_places(r, e) ||
        (r->streams && !r->state.n_places && train_state_places(&r->state, r->streams, e)))
        return -1;
    r->places = mem_alloc(r->streams ? r->streams : 1, sizeof *r->places, e);
    return r->places ? 0 : -1;
}

void train_begin_data_set(const struct train_run *r, struct train_data_set *s)
{
    const struct train_options *o = r->plan->o;
    int needs = r->plan->needs;
    *s = (struct train_data_set){.path = o->path,
                                 .command = o->command,
                                 .seed = o->seed,
                                 .epochs = train_plan_epochs(o),
                                 .views = o->views,
                                 .dealt = r->dealt,
                                 .rank = (size_t)r->comm->rank,
                                 .ranks = (size_t)r->comm->size,
                                 .tokenizer = r->plan->tokenizer,
                                 .batch = train_reads(&r->set),
                                 .dim_of = r->set.dim_of,
                                 .n_label = r->set.n_label,
                                 .towers = r->plan->losses.towers};
    if (r->plan->mix.n) {
        s->mix = &r->plan->mix;
        s->streams = r->plan->streams;
    }
    s->dirs[0] = needs & LOSS_TEACHER_IMAGE ? &r->plan->dirs[0] : NULL;
    s->dirs[1] = needs & LOSS_TEACHER_TEXT ? &r->plan->dirs[1] : NULL;
    s->labels = needs & LOSS_BY_LABEL ? o->labels : NULL;
}

static int open_data(struct train_run *r, struct err *e)
{
    struct train_data_set s;
    if (open_places(r, e))
        return -1;
    const struct train_place one = {r->state.pos, r->state.counts};
    train_begin_data_set(r, &s);
    r->data = train_data_open(&s, r->streams ? r->state.places : &one, e);
    return r->data ? 0 : -1;
}

static int find_prior(struct train_run *r, struct err *e)
{
    size_t k = r->set.k, n = r->plan->mix.n ? r->plan->mix.n : 1;
    struct prior_set sets[MIX_MOST];
    for (size_t i = 0; i < n; i++) {
        const struct train_options *o = train_plan_of(r->plan, i)->o;
        sets[i] = (struct prior_set){o->labels, o->keep, r->shards, 1};
        if (r->plan->mix.n) {
            sets[i].names = r->shards_of[i];
            sets[i].weight = r->plan->mix.set[i].weight;
        }
    }
    r->prior = mem_alloc(k, sizeof *r->prior, e);
    if (!r->prior || train_prior(sets, n, r->plan->o->cluster_prior, k, r->prior, e))
        return -1;
    r->set.cluster.prior = r->prior;
    return 0;
}

static int open_core(struct train_run *r, struct err *e)
{
    const struct train_options *o = r->plan->o;
    const char *path = train_plan_centroids(r->plan);
    struct train_set *s = &r->set;
    if (path && train_setup_centroid_size(path, s, e))
        return -1;
    if (path && o->clusters && s->k != o->clusters)
        return err_set(e, "%s: has %zu clusters, --clusters says %" PRIu64, path, s->k,
                       o->clusters);
    if (path && o->cluster_prior > 0 && find_prior(r, e))
        return -1;
    if (train_settle_core(r->plan, &r->cfg, r->state.options, s, &r->dev, r->log, e) ||
        train_core_open(&r->core, &r->dev, &r->cfg, s, NULL, e))
        return -1;
    if (train_run_first(r) && train_watch_open(&r->watch, r->plan, &r->cfg, e))
        return -1;
    return path ? train_setup_centroids(&r->core, path, e) : 0;
}

// --spike decides which steps are taken, a mixture of what they are made.
static int add_more(cJSON *j, const struct train_options *o, const struct mix *m, struct err *e)
{
    static const char *const names[] = {"stop", "skip", "rewind"};
    char mix[MIX_MOST * (MIX_NAME + 32)];
    mix_text(m, mix, sizeof mix);
    if (m->n && json_add_string(j, "data", mix, e))
        return -1;
    if (!(o->spike > 0))
        return 0;
    return json_add_double(j, "spike", o->spike, e) ||
                   json_add_string(j, "on-spike", names[o->on_spike], e)
               ? -1
               : 0;
}

// The options of this run; a checkpoint with other options is refused.
static int settle_options(struct train_run *r, struct err *e)
{
    struct err why;
    cJSON *is = train_setup_options(&r->core, &r->cfg, &r->inputs, e);
    if (!is || add_more(is, r->plan->o, &r->plan->mix, e)) {
        cJSON_Delete(is);
        return -1;
    }
    bool extend = r->plan->o->extend;
    int rc = r->state.options ? train_options_same(r->state.options, is, extend, &why) : 0;
    cJSON_Delete(r->state.options);
    r->state.options = is; // of another length with --extend
    return rc ? err_set(e, "--%s: %s", extend ? "extend" : "resume", why.text) : 0;
}

static int load_weights(struct train_run *r, struct err *e)
{
    const struct train_options *o = r->plan->o;
    if (r->checkpoint[0])
        return train_checkpoint_load(r->checkpoint, &r->core, &r->state, e);
    return train_setup_weights(&r->core, o, r->log, e);
}

// The clock continues where the earlier starts of the run stopped.
static void begin_part(struct train_run *r)
{
    r->state.starts++;
    r->saved = r->state.step;
    r->log->start -= r->state.seconds;
    if (r->checkpoint[0])
        log_note(r->log, "going on after step %" PRIu64 " of %" PRIu64 ", from '%s'", r->state.step,
                 r->set.optim.steps, r->checkpoint);
}

bool train_begin_finished(const struct train_run *r)
{
    return r->only_model || (r->checkpoint[0] && r->state.step >= r->set.optim.steps);
}

static int change_output(struct train_run *r, struct err *e)
{
    const struct train_options *o = r->plan->o;
    return set_damaged_aside(r, e) ||
                   (o->resume_from_given &&
                    checkpoint_dir_drop_after(o->output, o->resume_from, e)) ||
                   (o->overwrite && train_output_clear(&r->output, e)) ||
                   train_output_keep_shards(&r->output, r->shards, e)
               ? -1
               : 0;
}

static int start(struct train_run *r, struct err *e)
{
    bool first = train_run_first(r);
    if (train_data_start(r->data, &r->cfg, e) || (first && change_output(r, e)))
        return -1;
    begin_part(r);
    uint64_t step = r->state.step;
    return first ? train_log_open(&r->lines, r->log_path, r->checkpoint[0], step,
                                  r->state.looks.step == step, e)
                 : 0;
}

// Standard input and pipes can be read by one process only.
static int check_stream(const struct train_run *r, struct err *e)
{
    const struct train_options *o = r->plan->o;
    struct stat st;
    if (r->comm->size == 1 || o->command || (!stat(o->path, &st) && S_ISREG(st.st_mode)))
        return 0;
    return err_set(e, "%d ranks cannot all read %s: give --data 'CMD', or a file", r->comm->size,
                   strcmp(o->path, "-") ? o->path : "standard input");
}

enum { FOUND_NOTHING = -2 }; // all ranks know of it

// 0; -1: this rank has failed; or FOUND_NOTHING. Rank 0 owns the folder, and the other ranks
// continue from what it found there.
static int find_start(struct train_run *r, struct err *e)
{
    bool first = train_run_first(r);
    r->output.dir = r->plan->o->output;
    int rc = check_stream(r, e) ||
                     (first && (take_output(r, e) || check_log(r, e) || find_checkpoint(r, e)))
                 ? -1
                 : 0;
    if (r->comm->size == 1)
        return rc;
    if (comm_near(r->comm, e))
        return -1;
    train_fit_limit(&r->set); // before comm_agree: no rank has taken anything yet
    if (comm_agree(r->comm, rc, e))
        return FOUND_NOTHING;
    if (comm_broadcast(r->comm, "checkpoint", 0, r->checkpoint, sizeof r->checkpoint, e) ||
        comm_any(r->comm, "finished model", r->only_model, &r->only_model, e))
        return -1;
    if (!first && r->checkpoint[0] && (rc = train_state_read(r->checkpoint, &r->state, e)) > 0)
        return err_wrap(e, "checkpoint '%s'", r->checkpoint);
    return rc;
}

// --dtype auto goes on with the type of the checkpoint.
static int open_device(struct train_run *r, struct err *e)
{
    const struct train_options *o = r->plan->o;
    enum dev_type type = (enum dev_type)o->dtype;
    const char *was = cJSON_GetStringValue(cJSON_GetObjectItem(r->state.options, "dtype"));
    if (type == DEV_AUTO && was)
        type = strcmp(was, "bf16") ? DEV_F32 : DEV_BF16;
    int rc = dev_open(&r->dev, o->device, type, o->threads, false, e);
    if (comm_agree(r->comm, rc, e) ||
        comm_open_device(r->comm, o->comm, r->dev.op->stream(&r->dev), e))
        return -1;
    if (r->comm->device)
        log_note(r->log, "NCCL moves rows and gradients from GPU to GPU");
    if (o->dtype == DEV_AUTO)
        log_note(r->log, "--dtype auto: %s%s", dev_dtype(&r->dev), was ? ", as before" : "");
    return 0;
}

static int read_inputs(struct train_run *r, struct err *e)
{
    const struct train_options *o = r->plan->o;
    struct model_layouts unused; // what cannot be written is refused now
    return open_device(r, e) || match_inputs(r, e) || settle_scales(r, e) ||
                   train_settle_data(r->plan, o->extend ? NULL : r->state.options, &r->set, r->log,
                                     e) ||
                   open_data(r, e) ||
                   train_setup_config(&r->cfg, o, train_data_header(r->data),
                                      r->plan->needs & LOSS_BIAS, e) ||
                   model_layouts_of(&r->cfg, o->export_hf, &unused, e) || open_core(r, e) ||
                   settle_options(r, e) || (!r->only_model && load_weights(r, e))
               ? -1
               : 0;
}

int train_begin(struct train_run *r, struct err *e)
{
    train_plan_set(r->plan, &r->set);
    int rc = find_start(r, e);
    if (r->only_model && !rc) // rank 0 alone has anything to do
        return train_run_first(r) ? read_inputs(r, e) : 0;
    if (rc == FOUND_NOTHING)
        return -1;
    rc = rc ? rc : read_inputs(r, e);
    if (comm_agree(r->comm, rc, e))
        return -1;
    return train_begin_finished(r) ? 0 : comm_agree(r->comm, start(r, e), e);
}
