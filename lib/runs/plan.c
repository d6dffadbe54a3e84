// SPDX-License-Identifier: Apache-2.0
#include "runs/plan.h"
#include "runs/spike.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "feed/source.h"

// All classes up to this many, above it a share of them (Partial FC: An et al., 2022).
enum { ALL_CLASSES = 65536, WARMUP_MAX = 2000 };
static const double LARGE_RATE = 0.1;

// Digits alone. 0 or -1.
static int parse_count(const char *text, uint64_t *n)
{
    char *end;
    errno = 0;
    *n = strtoull(text, &end, 10);
    return *text < '0' || *text > '9' || *end || errno ? -1 : 0;
}

// "N" steps or "Nm" minutes.
static int parse_every(struct train_plan *p, const char *text, struct err *e)
{
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    bool minutes = end != text && !strcmp(end, "m");
    if (end == text || *text == '-' || (*end && !minutes))
        return err_set(e, "--checkpoint-every: '%s' is neither N (steps) nor Nm (minutes)", text);
    p->every_steps = minutes ? 0 : n;
    p->every_seconds = minutes ? (double)n * 60 : 0;
    p->last_checkpoint = strcmp(text, "0") != 0;
    return 0;
}

static int parse_keep(struct train_plan *p, const struct train_options *o, struct err *e)
{
    uint64_t n;
    p->keep_checkpoints = (struct checkpoint_keep){SIZE_MAX, o->keep_every, 0};
    if (!strcmp(o->keep_newest, "all"))
        return 0;
    if (parse_count(o->keep_newest, &n) || !n || n > INT_MAX)
        return err_set(e, "--keep-checkpoints: '%s' is neither all nor a number from 1 on",
                       o->keep_newest);
    p->keep_checkpoints.newest = (size_t)n;
    return 0;
}

static int need(bool there, const char *option, struct err *e)
{
    return there ? 0 : err_set(e, "the losses need %s", option);
}

// For --dry-run, options may describe inputs that do not exist yet.
static int check_needs(const struct train_plan *p, struct err *e)
{
    const struct train_options *o = p->o;
    bool teacher = o->dry_run && o->teacher, clusters = o->dry_run && o->clusters;
    if ((p->needs & LOSS_TEACHER_IMAGE) &&
        need(teacher || o->teacher_image, "--teacher-image DIR", e))
        return -1;
    if ((p->needs & LOSS_TEACHER_TEXT) && need(teacher || o->teacher_text, "--teacher-text DIR", e))
        return -1;
    if ((p->needs & LOSS_BY_LABEL) && need(clusters || o->labels, "--labels DIR", e))
        return -1;
    return p->needs & LOSS_CLUSTERS ? need(clusters || o->centroids, "--centroids FILE", e) : 0;
}

static int parse_accumulate(struct train_plan *p, struct err *e)
{
    const struct train_options *o = p->o;
    const char *text = o->accumulate;
    uint64_t n;
    if (!strcmp(text, "auto"))
        return 0;
    if (parse_count(text, &n) || !n)
        return err_set(e, "--accumulate: '%s' is neither auto nor a number of pieces", text);
    if (n > o->batch)
        return err_set(e, "--accumulate %s is more than --batch %" PRIu64, text, o->batch);
    p->accumulate = (size_t)n;
    return 0;
}

// The tokenizer beside the config or in the model folder, unless it is named.
static int find_tokenizer(struct train_plan *p, struct err *e)
{
    const struct train_options *o = p->o;
    const char *folder = o->towers == LOSS_IMAGE_TOWER ? o->teacher
                         : o->init_text                ? o->init_text
                                                       : o->init;
    const char *from = o->tokenizer ? o->tokenizer : folder ? folder : o->student;
    if (snprintf(p->tokenizer, sizeof p->tokenizer, "%s", from) >= (int)sizeof p->tokenizer)
        return err_set(e, "'%s': the name is too long", from);
    if (o->tokenizer || folder)
        return 0;
    char *slash = strrchr(p->tokenizer, '/');
    if (slash)
        *slash = '\0';
    else
        snprintf(p->tokenizer, sizeof p->tokenizer, ".");
    return 0;
}

static int check_schedule(const struct train_options *o, struct err *e)
{
    if (o->schedule == OPTIM_COOLDOWN && !o->cooldown)
        return err_set(e,
                       "--schedule cooldown needs --cooldown N, the steps in which the rate falls");
    if (o->schedule != OPTIM_COOLDOWN && (o->cooldown || o->cooldown_power_given))
        return err_set(e, "--%s needs --schedule cooldown",
                       o->cooldown ? "cooldown" : "cooldown-power");
    if (o->lr_end_given && o->schedule == OPTIM_CONST)
        return err_set(e, "--schedule const keeps its rate: --lr-end has no meaning");
    return o->lr_end > o->lr ? err_set(e, "--lr-end %g is above --lr %g", o->lr_end, o->lr) : 0;
}

// A locked tower without --init would stay random.
static int check_locks(const struct train_options *o, struct err *e)
{
    const char *tower = o->lock == 1 ? "image" : "text";
    if (o->lock && !o->init && !(o->lock == 1 ? o->init_image : o->init_text))
        return err_set(e,
                       "--lock %s keeps a tower as it is: it needs --init MODEL or --init-%s MODEL",
                       tower, tower);
    if (o->unlock && !o->lock)
        return err_set(e, "--unlock %" PRIu64 " needs --lock image or --lock text", o->unlock);
    return 0;
}

// The folders that are named, of as many teachers on either side.
static int find_teachers(struct train_plan *p, struct err *e)
{
    const struct train_options *o = p->o;
    const char *const list[2] = {o->teacher_image, o->teacher_text};
    for (int i = 0; i < 2; i++)
        if (list[i] && teacher_dirs_parse(&p->dirs[i], list[i], o->views, e))
            return err_wrap(e, "--teacher-%s", i ? "text" : "image");
    size_t n = p->dirs[0].teachers, m = p->dirs[1].teachers;
    if (n && m && n != m)
        return err_set(e, "--teacher-image names %zu teachers, --teacher-text %zu", n, m);
    p->losses.teachers = n > m ? n : m;
    if (o->views && !(o->teacher_image && strstr(o->teacher_image, "{view}")))
        return err_set(e, "--views needs {view} in the names of --teacher-image");
    if (p->losses.teachers > 1 && !(p->needs & LOSS_EACH))
        return err_set(e, "several teachers have a use only in the affinity term");
    if (o->teacher_scale && !(p->needs & LOSS_EACH) && !(o->select > 0))
        return err_set(e, "--teacher-scale has a use only in the affinity term and for --select");
    float scale[LOSS_TEACHERS_MAX];
    return o->teacher_scale ? teacher_scales(o->teacher_scale, p->losses.teachers, NULL, scale, e)
                            : 0;
}

// One tower is trained, the other is the teacher's.
static int check_towers(const struct train_plan *p, struct err *e)
{
    const struct train_options *o = p->o;
    const char *tower = o->towers == LOSS_IMAGE_TOWER ? "image" : "text";
    const char *other = o->towers == LOSS_IMAGE_TOWER ? "text" : "image";
    if (!o->towers)
        return 0;
    if (losses_check_towers(&p->losses, e))
        return err_wrap(e, "--towers %s", tower);
    if (!o->teacher)
        return err_set(e, "--towers %s: the %s tower is the teacher's: give --teacher MODEL", tower,
                       other);
    if (o->lock || o->project_given ||
        (o->towers == LOSS_IMAGE_TOWER ? o->init_text : o->init_image))
        return err_set(e, "--towers %s goes without --lock, --project and --init-%s", tower, other);
    if (o->towers == LOSS_TEXT_TOWER && (o->views || o->patch_dropout_given))
        return err_set(e, "--towers text reads no pictures: no --views or --patch-dropout");
    return 0;
}

static int check_select(const struct train_options *o, struct err *e)
{
    if (o->select_blocks_given && !(o->select > 0))
        return err_set(e, "--select-blocks goes with --select");
    if (!(o->select > 0))
        return 0;
    if (o->towers)
        return err_set(e, "--select compares pictures with texts: no --towers");
    return o->select_blocks_given && o->select_blocks > o->batch
               ? err_set(e, "--select-blocks %" PRIu64 " is more than --batch %" PRIu64,
                         o->select_blocks, o->batch)
               : 0;
}

static int check_clusters(const struct train_plan *p, struct err *e)
{
    const struct train_options *o = p->o;
    if (o->soft_sigma > 0 && !losses_soft(&p->losses))
        return err_set(e, "--soft-sigma has a use only in the term cluster_soft");
    if (o->cluster_prior > 0 && !(p->needs & LOSS_LABELS))
        return err_set(e, "--cluster-prior has a use only in the term cluster_ce");
    return 0;
}

// The plan of one set.
static int plan_set(const struct train_plan *p, struct plan_sub *s, const char *name,
                    struct train_stream *stream, struct err *e)
{
    s->o = *p->o;
    const char **const names[PLAN_NAMES] = {&s->o.teacher_image, &s->o.teacher_text, &s->o.labels,
                                            &s->o.keep, &s->o.shards};
    for (int k = 0; k < PLAN_NAMES; k++) {
        if (!*names[k])
            continue;
        if (!(s->own[k] = mix_name(*names[k], name, e)))
            return -1;
        *names[k] = s->own[k];
    }
    s->plan = (struct train_plan){.o = &s->o, .losses = p->losses, .needs = p->needs};
    snprintf(s->plan.tokenizer, sizeof s->plan.tokenizer, "%s", p->tokenizer);
    if (find_teachers(&s->plan, e))
        return -1;
    *stream = (struct train_stream){.command = s->o.command};
    stream->dirs[0] = p->needs & LOSS_TEACHER_IMAGE ? &s->plan.dirs[0] : NULL;
    stream->dirs[1] = p->needs & LOSS_TEACHER_TEXT ? &s->plan.dirs[1] : NULL;
    stream->labels = p->needs & LOSS_BY_LABEL ? s->o.labels : NULL;
    return 0;
}

// The commands of a mixture are of one kind, and its length is given.
static int check_mixed(const struct train_plan *p, struct err *e)
{
    const struct train_options *o = p->o;
    const uint64_t value[N_NUMBERS] = {0};
    if (!o->steps_given && !o->epoch_samples)
        return err_set(e, "--data: sets of a mixture end apart: give the length by --steps, or "
                          "--epoch-samples");
    bool parts = false;
    for (size_t i = 0; i < p->mix.n; i++) {
        const char *name = p->mix.set[i].name;
        if (o->val_data && !strcmp(name, WATCH_HELD_OUT))
            return err_set(e, "--data: a set is called '%s', as the samples of --val-data are",
                           name);
        bool used[N_NUMBERS] = {false};
        char **words = train_words(p->mix.set[i].command, value, used, e);
        if (!words)
            return err_wrap(e, "--data '%s'", name);
        train_words_free(words);
        if (used[NUMBER_PARTS] && !used[NUMBER_PART])
            return err_set(e, "--data '%s': {parts} without {part}: all parts would be the same",
                           name);
        if (i && used[NUMBER_PART] != parts)
            return err_set(e,
                           "--data '%s': {part} is in the commands of some sets only: all of "
                           "them are read by part, or none",
                           name);
        if (used[NUMBER_VIEW] != (o->views > 0))
            return err_set(e,
                           used[NUMBER_VIEW]
                               ? "--data '%s': {view} needs --views A, their number"
                               : "--views: --data '%s' needs {view}, for shard-read --view",
                           name);
        parts = used[NUMBER_PART];
    }
    return 0;
}

// The plans of the sets, and of held-out samples, whose {set} is their name in the log.
static int plan_sets(struct train_plan *p, struct err *e)
{
    size_t n = p->mix.n;
    if (!n)
        return 0;
    if (check_mixed(p, e) || find_tokenizer(p, e) ||
        !(p->sub = mem_alloc(n + 1, sizeof *p->sub, e)) ||
        !(p->streams = mem_alloc(n + 1, sizeof *p->streams, e)))
        return -1;
    for (size_t i = 0; i <= n; i++) {
        if (plan_set(p, &p->sub[i], i < n ? p->mix.set[i].name : WATCH_HELD_OUT, &p->streams[i], e))
            return -1;
        p->streams[i].command = i < n ? p->mix.set[i].command : NULL;
    }
    return 0;
}

// The numbers in the words of the one command.
static int check_command(const struct train_plan *p, struct err *e)
{
    const struct train_options *o = p->o;
    const uint64_t value[N_NUMBERS] = {0};
    bool used[N_NUMBERS] = {false};
    if (p->mix.n || !o->command)
        return 0;
    char **words = train_words(o->command, value, used, e);
    if (!words)
        return -1;
    train_words_free(words);
    if (used[NUMBER_PARTS] && !used[NUMBER_PART])
        return err_set(e, "--data: {parts} without {part}: all parts would be the same");
    if (used[NUMBER_VIEW] != (o->views > 0))
        return err_set(e, used[NUMBER_VIEW]
                              ? "--data: {view} needs --views A, their number"
                              : "--views: --data needs {view}, for shard-read --view");
    return 0;
}

static int parse_all(struct train_plan *p, struct err *e)
{
    const struct train_options *o = p->o;
    return train_spike_check(o, e) || watch_plan_init(&p->watch, o, e) || check_schedule(o, e) ||
                   check_locks(o, e) || check_towers(p, e) || check_select(o, e) ||
                   check_needs(p, e) || find_teachers(p, e) || check_clusters(p, e) ||
                   parse_accumulate(p, e) || parse_every(p, o->every, e) || parse_keep(p, o, e) ||
                   check_command(p, e) || find_tokenizer(p, e)
               ? -1
               : 0;
}

int train_plan_init(struct train_plan *p, const struct train_options *o, struct err *e)
{
    *p = (struct train_plan){.o = o};
    if (!o->output && !o->dry_run)
        return err_set(e, "missing -o DIR");
    if (!o->student && !o->init)
        return err_set(e, "missing --student CONFIG (or --init MODEL)");
    if (o->inherit && (!o->student || !(o->init || o->init_image || o->init_text)))
        return err_set(e, "--inherit needs --student CONFIG and --init MODEL");
    if (losses_parse(&p->losses, o->losses, e))
        return err_wrap(e, "--loss");
    p->losses.cluster_warmup = o->cluster_warmup;
    p->losses.towers = (enum loss_towers)o->towers;
    p->needs = losses_needs(&p->losses);
    if (o->select > 0) // it takes both rows of every sample
        p->needs |= LOSS_TEACHER_IMAGE | LOSS_TEACHER_TEXT;
    if (o->overwrite && o->resume)
        return err_set(e, "--overwrite starts again, --resume goes on: give one of them");
    if (!mix_parse(&p->mix, o->data.items, o->data.n, e) && !plan_sets(p, e) && !parse_all(p, e))
        return 0;
    train_plan_release(p);
    return -1;
}

const struct train_plan *train_plan_of(const struct train_plan *p, size_t i)
{
    return p->sub ? &p->sub[i].plan : p;
}

void train_plan_release(struct train_plan *p)
{
    for (size_t i = 0; p->sub && i <= p->mix.n; i++) {
        for (int k = 0; k < PLAN_NAMES; k++)
            free(p->sub[i].own[k]);
        train_plan_release(&p->sub[i].plan);
    }
    free(p->sub);
    free(p->streams);
    p->sub = NULL;
    p->streams = NULL;
    teacher_dirs_release(&p->dirs[0]);
    teacher_dirs_release(&p->dirs[1]);
}

void train_plan_inputs(const struct train_plan *p, struct train_inputs *in)
{
    const struct train_options *o = p->o;
    *in = (struct train_inputs){
        .centroids = train_plan_centroids(p), .tokenizer = p->tokenizer, .shards = o->shards};
    in->image = p->needs & LOSS_TEACHER_IMAGE ? teacher_dir(&p->dirs[0], 0, 0) : NULL;
    in->text = p->needs & LOSS_TEACHER_TEXT ? teacher_dir(&p->dirs[1], 0, 0) : NULL;
    in->labels = p->needs & LOSS_BY_LABEL ? o->labels : NULL;
    in->views = o->views > 0;
}

void train_plan_set(const struct train_plan *p, struct train_set *s)
{
    s->losses = p->losses;
    s->batch = p->o->batch;
    s->accumulate = p->accumulate;
    s->parts_most = p->accumulate ? 0 : 1; // no memory for ranks that a run does not ask for
    s->recompute = p->o->recompute;
    s->seed = p->o->seed;
    s->locks = (struct clip_locks){.unlock = (int)p->o->unlock, .norms = p->o->lock_norms};
    s->layer_decay = p->o->layer_decay;
    s->ema = p->o->ema;
    s->scale_max = p->o->scale_max;
    s->select = p->o->select;
    s->select_blocks = p->o->select_blocks < s->batch ? p->o->select_blocks : s->batch;
    s->held_out = p->o->val_data;
    s->views = p->o->views;
    s->tau = p->o->cluster_prior;
    if (p->o->lock)
        s->locks.tower[p->o->lock - 1] = true;
    if (p->o->towers)
        s->locks.tower[p->o->towers == LOSS_IMAGE_TOWER ? CLIP_TEXT : CLIP_VISION] = true;
}

const char *train_plan_centroids(const struct train_plan *p)
{
    return p->needs & LOSS_CLUSTERS ? p->o->centroids : NULL;
}

uint64_t train_plan_epochs(const struct train_options *o)
{
    return o->steps_given && !o->epochs_given ? UINT64_MAX : o->epochs;
}

int train_plan_optim(const struct train_options *o, uint64_t samples, struct train_set *s,
                     struct err *e)
{
    struct optim_set *t = &s->optim;
    uint64_t epoch = o->epoch_samples ? o->epoch_samples : samples;
    optim_set_default(t);
    t->lr = (float)o->lr;
    t->weight_decay = (float)o->weight_decay;
    t->clip = (float)o->clip_grad;
    t->beta1 = (float)o->beta1;
    t->beta2 = (float)o->beta2;
    t->eps = (float)o->eps;
    t->schedule = (enum optim_schedule)o->schedule;
    t->lr_end = (float)o->lr_end;
    t->cooldown = o->cooldown;
    t->power = o->cooldown_power;
    if (!o->steps_given && !epoch)
        return err_set(e, "the schedule needs the length of the run: --steps or --epoch-samples");
    if (!o->steps_given && epoch > UINT64_MAX / o->epochs)
        return err_set(e, "%" PRIu64 " epochs of %" PRIu64 " samples are too many", o->epochs,
                       epoch);
    uint64_t reads = train_reads(s);
    t->steps = o->steps_given ? o->steps : epoch * o->epochs / reads;
    s->epochs = o->steps_given ? 0 : o->epochs;
    s->epoch_samples = o->steps_given ? 0 : epoch;
    if (!t->steps)
        return err_set(e, "%" PRIu64 " samples do not fill a batch of %" PRIu64, epoch * o->epochs,
                       reads);
    if (t->cooldown > t->steps)
        return err_set(e, "--cooldown %" PRIu64 " is longer than the run of %" PRIu64 " steps",
                       t->cooldown, t->steps);
    uint64_t tenth = t->steps / 10;
    t->warmup = o->warmup_given ? o->warmup : tenth < WARMUP_MAX ? tenth : WARMUP_MAX;
    return 0;
}

bool train_plan_project(const struct train_plan *p, size_t dim, size_t dim_t)
{
    const struct train_options *o = p->o;
    if (o->project_given)
        return o->project && dim_t;
    return dim_t && dim != dim_t && (p->needs & LOSS_WIDTH);
}

void train_plan_clusters(const struct train_options *o, size_t k, struct cluster_set *c)
{
    c->sigma = (float)o->sigma;
    c->soft_sigma = (float)o->soft_sigma;
    c->rate = o->sample_rate > 0 ? o->sample_rate : k <= ALL_CLASSES ? 1 : LARGE_RATE;
    c->margin = (float)o->margin;
    c->filter = (float)o->filter;
    c->frozen = o->freeze_centroids;
}
