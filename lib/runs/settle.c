// SPDX-License-Identifier: Apache-2.0
#include "runs/settle.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "formats/json.h"
#include "losses/ranks.h"
#include "runs/fit.h"
#include "train/groups.h"
#include "feed/source.h"

uint64_t train_settle_was(const cJSON *was, const char *name)
{
    struct err ignored;
    double x = 0;
    return was && json_double(was, name, JSON_OPTIONAL, &x, &ignored) > 0 && x >= 1 ? (uint64_t)x
                                                                                    : 0;
}

// -- the schedule

static void folders_of(const struct train_plan *p, struct train_folders *f)
{
    const struct train_options *o = p->o;
    bool all = !p->losses.towers; // else a sample needs no row but those of the losses
    bool image = all || p->needs & LOSS_TEACHER_IMAGE, text = all || p->needs & LOSS_TEACHER_TEXT;
    *f = (struct train_folders){.image = image ? teacher_dir(&p->dirs[0], 0, 0) : NULL,
                                .text = text ? teacher_dir(&p->dirs[1], 0, 0) : NULL,
                                .labels = p->needs & LOSS_BY_LABEL ? o->labels : NULL,
                                .keep = o->keep,
                                .shards = o->shards,
                                .partial = o->dry_run && o->teacher};
    for (size_t i = 1; i < p->losses.teachers; i++) {
        f->others[i - 1][0] = teacher_dir(&p->dirs[0], i, 0);
        f->others[i - 1][1] = teacher_dir(&p->dirs[1], i, 0);
    }
}

static void say_count(const struct train_count *c, struct log *log)
{
    if (c->foreign)
        log_warn(log, "%s%s no part of the data: no such file in every folder, or of another kind",
                 c->foreign_name, c->foreign > 1 ? " and others are" : " is");
    if (c->counted)
        log_note(log,
                 "data: %" PRIu64 " shards of %" PRIu64 " samples, less %" PRIu64
                 " by the keep masks, %" PRIu64 " failed, %" PRIu64 " without label: %" PRIu64
                 " an epoch",
                 c->shards, c->rows, c->dropped, c->no_teacher, c->no_label, c->samples);
}

static void say_schedule(const struct train_set *s, struct log *log)
{
    char length[96] = "";
    if (s->epochs)
        snprintf(length, sizeof length, "%" PRIu64 " epochs of %" PRIu64 " samples: ", s->epochs,
                 s->epoch_samples);
    char then[96] = "";
    const struct optim_set *t = &s->optim;
    if (t->schedule == OPTIM_COOLDOWN)
        snprintf(then, sizeof then, ", the last %" PRIu64 " a cooldown to %g", t->cooldown,
                 (double)t->lr_end);
    else if (t->schedule == OPTIM_CONST)
        snprintf(then, sizeof then, ", then a constant rate");
    char of[64] = "";
    if (s->select > 0)
        snprintf(of, sizeof of, " chosen from %zu", train_reads(s));
    log_note(log, "schedule: %s%" PRIu64 " steps of %zu samples%s, %" PRIu64 " of them warm-up%s",
             length, t->steps, s->batch, of, t->warmup, then);
}

// Takes the length of the checkpoint's run, whatever was added to the data since. A run that asks
// for another length is refused when the options are compared.
static void keep_length(const struct train_options *o, const cJSON *was, struct train_set *s)
{
    s->optim.steps = train_settle_was(was, "steps");
    if (!o->warmup_given)
        s->optim.warmup = train_settle_was(was, "warmup");
}

static int same_unit(const struct train_options *o, const cJSON *was, struct err *e)
{
    uint64_t steps = train_settle_was(was, "steps"), epochs = train_settle_was(was, "epochs");
    if (!steps || o->steps_given == !epochs)
        return 0;
    return err_set(e, "--resume: the checkpoint was made with --%s %" PRIu64 ": give that again",
                   epochs ? "epochs" : "steps", epochs ? epochs : steps);
}

// The teacher's model determines the width of its embeddings, also of those that do not exist yet.
static int ask_teacher(const struct train_plan *p, struct train_set *s, struct err *e)
{
    const char *folder = p->o->teacher;
    struct clip_config c;
    if (!folder || !(p->needs & (LOSS_TEACHER_IMAGE | LOSS_TEACHER_TEXT | LOSS_CLUSTERS)))
        return 0;
    if (clip_config_read_folder(&c, folder, e))
        return -1;
    if (s->dim_t && s->dim_t != (size_t)c.embed_dim)
        return err_set(e, "the teacher's embeddings have %zu columns, those of '%s' %d", s->dim_t,
                       folder, c.embed_dim);
    s->dim_t = (size_t)c.embed_dim;
    return 0;
}

// The other sets of a mixture have the first's columns.
static int same_columns(const struct train_plan *p, const struct train_count *first, struct err *e)
{
    for (size_t i = 1; i < p->mix.n; i++) {
        struct train_folders f;
        struct train_count c;
        folders_of(train_plan_of(p, i), &f);
        if (train_count_read(&f, false, p->o->threads, &c, e))
            return -1;
        if (c.dim_t != first->dim_t || c.n_label != first->n_label ||
            memcmp(c.dim_others, first->dim_others, sizeof c.dim_others))
            return err_set(e,
                           "--data '%s': its embeddings have %zu columns and its samples %zu "
                           "labels, those of '%s' %zu and %zu",
                           p->mix.set[i].name, c.dim_t, c.n_label, p->mix.set[0].name, first->dim_t,
                           first->n_label);
    }
    return 0;
}

int train_settle_data(const struct train_plan *p, const cJSON *was, struct train_set *s,
                      struct log *log, struct err *e)
{
    const struct train_options *o = p->o;
    struct train_folders f;
    struct train_count c;
    uint64_t epoch = train_settle_was(was, "epoch-samples"), steps = train_settle_was(was, "steps");
    folders_of(train_plan_of(p, 0), &f);
    if (same_unit(o, was, e))
        return -1;
    if (train_count_read(&f, !o->steps_given && !o->epoch_samples && !steps, o->threads, &c, e))
        return -1;
    if (same_columns(p, &c, e))
        return -1;
    s->dim_t = p->needs & (LOSS_TEACHER_IMAGE | LOSS_TEACHER_TEXT) ? c.dim_t : 0;
    s->n_label = c.n_label;
    s->teachers = p->losses.teachers;
    memcpy(s->dim_of + 1, c.dim_others, sizeof c.dim_others);
    if (ask_teacher(p, s, e))
        return -1;
    s->dim_of[0] = s->dim_t;
    say_count(&c, log);
    if (c.counted && !c.samples)
        return err_set(e, "there is nothing to train on: of %" PRIu64 " samples none is left",
                       c.rows);
    if (!o->steps_given && !o->epoch_samples && f.partial && !c.counted) {
        log_note(log, "schedule: not known before the teacher's files are all there");
        return 0;
    }
    if (train_plan_optim(o, epoch ? epoch : c.samples, s, e))
        return -1;
    if (steps && !o->steps_given && !o->epoch_samples)
        keep_length(o, was, s);
    say_schedule(s, log);
    return 0;
}

// -- projection, pieces, memory

static bool is_power(size_t n)
{
    return !(n & (n - 1));
}

// Sums over parts are one binary tree, whose upper levels are the ranks (train/step.h).
static void say_promise(const struct train_set *s, struct log *log)
{
    size_t ranks = ranks_size(s->comm);
    if (!is_power(ranks) || ranks > TRAIN_PARTS_MOST)
        log_warn(log,
                 "%zu pieces on %zu ranks: another number of ranks gives the same only up to the "
                 "rounding of sums; 2, 4 or 8 ranks give the same bytes",
                 s->accumulate, ranks);
}

static void say_pieces(const struct train_set *s, struct log *log)
{
    size_t piece = train_piece(s);
    if (s->accumulate == 1)
        log_note(log, "accumulate 1: the batch of %zu in one piece", s->batch);
    else
        log_note(log, "accumulate %zu: %zu pieces of %s%zu samples", s->accumulate, s->accumulate,
                 s->batch % piece ? "at most " : "", piece);
}

// Takes the pieces and parts of the checkpoint, if no other number of pieces is given.
static void keep_pieces(const cJSON *was, struct train_set *s)
{
    size_t before = (size_t)train_settle_was(was, "accumulate");
    if (!s->accumulate && before <= s->batch)
        s->accumulate = before;
    if (before && s->accumulate == before)
        s->parts_most = (size_t)train_settle_was(was, "parts");
}

int train_settle_dealt(const struct train_plan *p, const cJSON *was, struct train_set *s,
                       size_t *dealt, struct err *e)
{
    const uint64_t value[N_NUMBERS] = {0};
    bool used[N_NUMBERS] = {false};
    *dealt = 0;
    const char *command = p->mix.n ? p->mix.set[0].command : p->o->command; // all are of one kind
    char **words = command ? train_words(command, value, used, e) : NULL;
    if (command && !words)
        return -1;
    train_words_free(words);
    if (!used[NUMBER_PART])
        return 0;
    if (s->select > 0)
        return err_set(e, "--data with {part} and --select do not go together");
    keep_pieces(was, s);
    if (!s->accumulate)
        s->accumulate = ranks_size(s->comm);
    if (train_core_dealt(s, e))
        return -1;
    if (s->batch % s->accumulate)
        return err_set(e, "--data with {part}: a batch of %zu in %zu pieces, which are not equal",
                       s->batch, s->accumulate);
    *dealt = s->accumulate;
    return 0;
}

// The config's, unless an option says otherwise.
static int settle_dropout(const struct train_options *o, const struct clip_config *cfg,
                          struct train_set *s, struct log *log, struct err *e)
{
    char until[64] = "";
    s->patch_dropout = o->patch_dropout_given ? o->patch_dropout : cfg->patch_dropout;
    s->dropout_until = o->patch_dropout_until;
    if (!(s->patch_dropout >= 0 && s->patch_dropout < 1))
        return err_set(e, "patch_dropout %g is not between 0 and 1", s->patch_dropout);
    if (s->dropout_until && !(s->patch_dropout > 0))
        return err_set(e, "--patch-dropout-until needs --patch-dropout");
    if (s->dropout_until)
        snprintf(until, sizeof until, " in the first %" PRIu64 " steps", s->dropout_until);
    if (s->patch_dropout > 0)
        log_note(log, "patch dropout: %zu of a picture's %d patches go through the tower%s",
                 train_keep(s, cfg), cfg->grid * cfg->grid, until);
    return 0;
}

// Options of the clusters in a run without: several students may have them in common, so this is
// no wrong usage.
static void say_unused(const struct train_options *o, int needs, struct log *log)
{
    const struct {
        const char *name;
        bool given;
    } of[] = {{"margin", o->margin > 0},
              {"filter", o->filter < 1},
              {"sample-rate", o->sample_rate > 0},
              {"cluster-warmup", o->cluster_warmup > 0},
              {"freeze-centroids", o->freeze_centroids}};
    for (size_t i = 0; i < sizeof of / sizeof *of && !(needs & LOSS_CLUSTERS); i++)
        if (of[i].given)
            log_warn(log, "--%s has no effect: no term of --loss has clusters", of[i].name);
}

int train_settle_core(const struct train_plan *p, const struct clip_config *cfg, const cJSON *was,
                      struct train_set *s, struct dev *d, struct log *log, struct err *e)
{
    char memory[TRAIN_FIT_TEXT];
    size_t dim = (size_t)cfg->embed_dim;
    say_unused(p->o, p->needs, log);
    if (train_groups_check(cfg, s, e) || settle_dropout(p->o, cfg, s, log, e))
        return -1;
    train_plan_clusters(p->o, s->k, &s->cluster);
    s->project = train_plan_project(p, dim, s->dim_t);
    if (train_core_check(s, dim, e))
        return -1;
    if (s->project)
        log_note(log, "the student's %zu columns are mapped to the teacher's %zu in training", dim,
                 s->dim_t);
    keep_pieces(was, s);
    if (train_watch_bytes(p->o, cfg, d, &s->aside, e) || train_fit(cfg, s, d, memory, e))
        return -1;
    say_pieces(s, log);
    say_promise(s, log);
    log_note(log, "memory: %s", memory);
    return train_groups_say(cfg, s, log, e);
}
