// SPDX-License-Identifier: Apache-2.0
#include "train-plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory-limit.h"
#include "train-data.h"
#include "train-setup.h"

// All classes up to this many, then a share of them (Partial FC's: An et al., 2022).
enum { ALL_CLASSES = 65536, WARMUP_MAX = 2000 };
static const double LARGE_RATE = 0.1;

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

static int need(bool there, const char *option, struct err *e)
{
    return there ? 0 : err_set(e, "the losses need %s", option);
}

static int check_needs(const struct train_plan *p, struct err *e)
{
    const struct train_options *o = p->o;
    if ((p->needs & LOSS_TEACHER_IMAGE) && need(o->teacher_image, "--teacher-image DIR", e))
        return -1;
    if ((p->needs & LOSS_TEACHER_TEXT) && need(o->teacher_text, "--teacher-text DIR", e))
        return -1;
    if (!(p->needs & LOSS_CLUSTERS))
        return 0;
    return need(o->labels, "--labels DIR", e) || need(o->centroids, "--centroids FILE", e) ? -1 : 0;
}

// Beside the config or in the model folder, unless named.
static int find_tokenizer(struct train_plan *p, struct err *e)
{
    const struct train_options *o = p->o;
    const char *from = o->tokenizer ? o->tokenizer : o->init ? o->init : o->student;
    if (snprintf(p->tokenizer, sizeof p->tokenizer, "%s", from) >= (int)sizeof p->tokenizer)
        return err_set(e, "'%s': the name is too long", from);
    if (o->tokenizer || o->init)
        return 0;
    char *slash = strrchr(p->tokenizer, '/');
    if (slash)
        *slash = '\0';
    else
        snprintf(p->tokenizer, sizeof p->tokenizer, ".");
    return 0;
}

int train_plan_init(struct train_plan *p, const struct train_options *o, struct err *e)
{
    *p = (struct train_plan){.o = o};
    if (!o->output)
        return err_set(e, "missing -o DIR");
    if (!o->student && !o->init)
        return err_set(e, "missing --student CONFIG (or --init MODEL)");
    if (losses_parse(&p->losses, o->losses, e))
        return err_wrap(e, "--loss");
    p->losses.cluster_warmup = o->cluster_warmup;
    p->needs = losses_needs(&p->losses);
    if (check_needs(p, e))
        return -1;
    if (o->batch % o->accumulate)
        return err_set(e, "--batch %" PRIu64 " does not divide into --accumulate %" PRIu64,
                       o->batch, o->accumulate);
    return parse_every(p, o->every, e) || find_tokenizer(p, e) ? -1 : 0;
}

const char *train_plan_centroids(const struct train_plan *p)
{
    return p->needs & LOSS_CLUSTERS ? p->o->centroids : NULL;
}

uint64_t train_plan_epochs(const struct train_options *o)
{
    return o->steps_given && !o->epochs_given ? UINT64_MAX : o->epochs;
}

int train_plan_optim(const struct train_options *o, uint64_t rows, struct optim_set *s,
                     struct err *e)
{
    uint64_t epoch = o->epoch_samples ? o->epoch_samples : rows;
    optim_set_default(s);
    s->lr = (float)o->lr;
    s->weight_decay = (float)o->weight_decay;
    s->clip = (float)o->clip_grad;
    if (!o->steps_given && !epoch)
        return err_set(e, "the schedule needs the length of the run: --steps or --epoch-samples");
    s->steps = o->steps_given ? o->steps : epoch * o->epochs / o->batch;
    if (!s->steps)
        return err_set(e, "%" PRIu64 " samples do not fill a batch of %" PRIu64, epoch * o->epochs,
                       o->batch);
    uint64_t tenth = s->steps / 10;
    s->warmup = o->warmup_given ? o->warmup : tenth < WARMUP_MAX ? tenth : WARMUP_MAX;
    return 0;
}

void train_plan_clusters(const struct train_options *o, size_t k, struct cluster_set *c)
{
    c->sigma = (float)o->sigma;
    c->rate = o->sample_rate > 0 ? o->sample_rate : k <= ALL_CLASSES ? 1 : LARGE_RATE;
    c->margin = (float)o->margin;
    c->filter = (float)o->filter;
    c->frozen = o->freeze_centroids;
}

static int too_much(const char *parts, double left, const char *where, struct err *e)
{
    return err_set(e,
                   "this needs %s; %.2f GiB are free%s. --recompute, a larger --accumulate, "
                   "--dtype bf16 or a smaller --sample-rate take less",
                   parts, left, where);
}

int train_plan_memory(const struct train_options *o, const struct clip_config *cfg,
                      const struct train_set *s, struct dev *d, char text[TRAIN_PLAN_TEXT],
                      struct err *e)
{
    const double gib = 1024.0 * 1024 * 1024;
    struct clip_table t;
    struct train_memory m;
    char parts[256], where[48];
    size_t there, total;
    if (clip_table_init(&t, cfg, e))
        return -1;
    train_memory(&t, s, d, &m);
    clip_table_release(&t);
    uint64_t host = train_data_bytes(cfg, s->batch, s->dim_t, s->n_label);
    struct memory_limit limit;
    memory_limit_read("", &limit);
    uint64_t left = limit.left;
    train_setup_memory_text(&m, parts, sizeof parts);
    snprintf(text, TRAIN_PLAN_TEXT, "%s, data %.2f GiB", parts, (double)host / gib);
    bool on_cpu = !strncmp(o->device, "cpu", 3);
    if (left != UINT64_MAX && (on_cpu ? m.total + host : host) > left)
        return too_much(parts, (double)left / gib, "", e);
    if (on_cpu)
        return 0;
    if (d->op->memory(d, &there, &total, e))
        return -1;
    snprintf(where, sizeof where, " of %.2f on %s", (double)total / gib, d->name);
    if (m.total > there)
        return too_much(parts, (double)there / gib, where, e);
    size_t n = strlen(text);
    snprintf(text + n, TRAIN_PLAN_TEXT - n, "; %.2f GiB are free%s", (double)there / gib, where);
    return 0;
}
