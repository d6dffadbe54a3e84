// SPDX-License-Identifier: Apache-2.0
#include "losses/optim.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "losses/ranks.h"

void optim_set_default(struct optim_set *s)
{
    *s = (struct optim_set){.lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.98f, .eps = 1e-6f};
    s->weight_decay = 0.2f;
    s->clip = 1;
    s->power = 1;
}

const char *optim_schedule_name(enum optim_schedule s)
{
    static const char *const names[] = {"cosine", "const", "cooldown"};
    return names[s];
}

double optim_lr(const struct optim_set *s, uint64_t i)
{
    double lr = (double)s->lr, end = (double)s->lr_end;
    bool cools = s->schedule == OPTIM_COOLDOWN;
    uint64_t from = !cools ? s->warmup : s->cooldown < s->steps ? s->steps - s->cooldown : 0;
    if (i < s->warmup)
        return lr * (double)(i + 1) / (double)s->warmup;
    if (s->schedule == OPTIM_CONST || s->steps <= from || i < from)
        return lr;
    if (i >= s->steps)
        return end;
    double x = (double)(i - from) / (double)(s->steps - from);
    return cools ? end + (lr - end) * pow(1 - x, s->power)
                 : end + (lr - end) / 2 * (1 + cos(3.14159265358979323846 * x));
}

void optim_init(struct optim *o, struct dev *d, const struct optim_set *s)
{
    *o = (struct optim){.d = d, .set = *s};
}

void optim_release(struct optim *o)
{
    for (size_t i = 0; i < o->n; i++) {
        o->d->op->free(o->d, o->slots[i].m);
        o->d->op->free(o->d, o->slots[i].v);
    }
    if (o->sums)
        o->d->op->free(o->d, o->sums);
    if (o->runs)
        o->d->op->free(o->d, o->runs);
    if (o->clip)
        o->d->op->free(o->d, o->clip);
    free(o->run_cut);
    free(o->slots);
    memset(o, 0, sizeof *o);
}

static struct optim_slot *add(struct optim *o, const struct optim_slot *from, const char *name,
                              struct err *e)
{
    if (mem_grow((void **)&o->slots, &o->cap, o->n + 1, sizeof *o->slots, e))
        return NULL;
    struct optim_slot *s = &o->slots[o->n];
    *s = *from;
    s->rate = 1;
    snprintf(s->name, sizeof s->name, "%s", name);
    size_t bytes = (s->count ? s->count : 1) * sizeof(float);
    if (!(s->m = o->d->op->alloc(o->d, bytes, e)))
        return NULL;
    if (!(s->v = o->d->op->alloc(o->d, bytes, e))) {
        o->d->op->free(o->d, s->m);
        return NULL;
    }
    o->n++;
    return s;
}

struct optim_slot *optim_add(struct optim *o, const char *name, size_t n, float *param, float *grad,
                             bool decay, struct err *e)
{
    struct optim_slot s = {.n = n, .count = n, .param = param, .grad = grad, .decay = decay};
    return add(o, &s, name, e);
}

struct optim_slot *optim_add_dealt(struct optim *o, const char *name, size_t at, size_t n,
                                   float *param, bool decay, struct err *e)
{
    struct optim_slot s = {
        .n = n, .count = n, .at = at, .param = param, .grad = o->vector + at, .decay = decay};
    s.dealt = o->cut != NULL;
    if (s.dealt)
        optim_share(o, &s, ranks_rank(o->comm), &s.first, &s.count);
    return add(o, &s, name, e);
}

static size_t within(size_t cut, const struct optim_slot *s)
{
    return cut < s->at ? 0 : cut - s->at < s->n ? cut - s->at : s->n;
}

void optim_share(const struct optim *o, const struct optim_slot *s, size_t r, size_t *first,
                 size_t *count)
{
    *first = within(o->cut[r], s);
    *count = within(o->cut[r + 1], s) - *first;
}

static size_t runs_of(const struct optim *o, size_t n)
{
    return (n + o->d->dot_run - 1) / o->d->dot_run;
}

struct optim_slot *optim_find(const struct optim *o, const char *name)
{
    for (size_t i = 0; i < o->n; i++)
        if (!strcmp(o->slots[i].name, name))
            return &o->slots[i];
    return NULL;
}

// Allocates the squares of the runs of tensors that are dealt, and says which are whose.
static int open_runs(struct optim *o, struct err *e)
{
    size_t ranks = ranks_size(o->comm), n = 0, first, count;
    if (!o->cut || o->runs)
        return 0;
    if (!(o->run_cut = mem_alloc(ranks + 1, sizeof *o->run_cut, e)))
        return -1;
    for (size_t r = 0; r < ranks; r++)
        for (size_t i = 0; i < o->n; i++)
            if (o->slots[i].dealt) {
                optim_share(o, &o->slots[i], r, &first, &count);
                n += runs_of(o, count);
                o->run_cut[r + 1] = n;
            }
    return (o->runs = o->d->op->alloc(o->d, (n ? n : 1) * sizeof *o->runs, e)) ? 0 : -1;
}

// Allocates the squares and the result once the number of tensors is known.
static int open_sums(struct optim *o, struct err *e)
{
    size_t n = 0;
    for (size_t i = 0; i < o->n; i++)
        n += o->slots[i].begin ? o->slots[i].parts : 1;
    if (open_runs(o, e))
        return -1;
    if (o->n_sums == n)
        return 0;
    if (o->sums)
        o->d->op->free(o->d, o->sums);
    if (!(o->sums = o->d->op->alloc(o->d, n * sizeof *o->sums, e)))
        return -1;
    if (!o->clip && !(o->clip = o->d->op->alloc(o->d, sizeof *o->clip, e)))
        return -1;
    o->n_sums = n;
    return 0;
}

// Computes the squares of this rank's runs of what is dealt, and gathers those of all.
static int queue_runs(struct optim *o, struct err *e)
{
    double *run = o->runs;
    if (!o->cut)
        return 0;
    for (size_t i = 0; i < o->n; i++) {
        const struct optim_slot *s = &o->slots[i];
        if (!s->dealt)
            continue;
        const float *g = s->grad + s->first;
        if (s->count)
            o->d->op->dot_runs(o->d, s->count, g, g, run + s->first / o->d->dot_run);
        run += runs_of(o, s->n);
    }
    return ranks_gather_at(o->d, o->comm, "squares", o->runs, o->run_cut, sizeof *run, e);
}

// Computes the sums of squares of all gradients.
static int queue_squares(struct optim *o, struct err *e)
{
    const struct dev_ops *op = o->d->op;
    double *to = o->sums, *run = o->runs;
    if (queue_runs(o, e))
        return -1;
    for (size_t i = 0; i < o->n; i++) {
        const struct optim_slot *s = &o->slots[i];
        for (size_t q = 0; s->begin && q < s->own; q++) {
            const float *g = s->grad + s->begin[q] * s->cols;
            op->dot_to(o->d, (s->begin[q + 1] - s->begin[q]) * s->cols, g, g, to + s->part0 + q);
        }
        if (s->begin && ranks_gather(o->d, o->comm, "squares", to, s->own * sizeof *to, e))
            return -1;
        if (s->dealt) {
            op->dot_join(o->d, runs_of(o, s->n), run, to);
            run += runs_of(o, s->n);
        } else if (!s->begin)
            op->dot_to(o->d, s->rows ? s->n_rows * s->cols : s->n, s->grad, s->grad, to);
        to += s->begin ? s->parts : 1;
    }
    return 0;
}

// Gives the new values of what is dealt to all ranks. They go by way of the vector, in which they
// stand without gaps, and whose gradients are used up.
static int queue_gather(struct optim *o, struct err *e)
{
    const struct dev_ops *op = o->d->op;
    if (!o->cut)
        return 0;
    for (size_t i = 0; i < o->n; i++) {
        struct optim_slot *s = &o->slots[i];
        if (s->dealt && s->count)
            op->copy(o->d, s->grad + s->first, s->param + s->first, s->count * sizeof(float));
    }
    if (ranks_gather_at(o->d, o->comm, "parameters", o->vector, o->cut, sizeof(float), e))
        return -1;
    for (size_t i = 0; i < o->n; i++) {
        struct optim_slot *s = &o->slots[i];
        size_t end = s->first + s->count;
        if (s->dealt && s->first)
            op->copy(o->d, s->param, s->grad, s->first * sizeof(float));
        if (s->dealt && end < s->n)
            op->copy(o->d, s->param + end, s->grad + end, (s->n - end) * sizeof(float));
    }
    return 0;
}

int optim_queue(struct optim *o, size_t n_check, const double *check, struct err *e)
{
    const struct optim_set *set = &o->set;
    const struct dev_ops *op = o->d->op;
    if (open_sums(o, e))
        return -1;
    struct dev_adamw a = {.beta1 = set->beta1, .beta2 = set->beta2, .eps = set->eps};
    double t = (double)(o->step + 1), lr = optim_lr(set, o->step);
    a.bias1 = (float)(1 - pow((double)set->beta1, t));
    a.bias2 = (float)(1 - pow((double)set->beta2, t));
    a.grad_scale = 1;
    a.clip = o->clip;
    if (queue_squares(o, e))
        return -1;
    op->clip(o->d, o->n_sums, o->sums, n_check, check, set->clip, o->clip);
    for (size_t i = 0; i < o->n; i++) {
        struct optim_slot *s = &o->slots[i];
        a.lr = (float)(lr * s->rate);
        a.weight_decay = s->decay ? set->weight_decay : 0;
        if (!s->rows && s->count)
            op->adamw(o->d, s->count, &a, s->grad + s->first, s->m, s->v, s->param + s->first);
        else if (s->rows && s->n_rows)
            op->adamw_rows(o->d, s->n_rows, s->cols, s->rows, &a, s->grad, s->m, s->v, s->param);
    }
    op->fetch(o->d, &o->found, o->clip, sizeof o->found);
    return queue_gather(o, e);
}

bool optim_taken(struct optim *o)
{
    bool taken = !isnan(o->found.factor);
    o->step += taken;
    return taken;
}

int optim_step(struct optim *o, double *norm, struct err *e)
{
    if (optim_queue(o, 0, NULL, e) || o->d->op->sync(o->d, e))
        return -1;
    optim_taken(o);
    *norm = o->found.norm;
    return 0;
}
