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
    if (o->clip)
        o->d->op->free(o->d, o->clip);
    free(o->slots);
    memset(o, 0, sizeof *o);
}

struct optim_slot *optim_add(struct optim *o, const char *name, size_t n, float *param, float *grad,
                             bool decay, struct err *e)
{
    if (mem_grow((void **)&o->slots, &o->cap, o->n + 1, sizeof *o->slots, e))
        return NULL;
    struct optim_slot *s = &o->slots[o->n];
    *s = (struct optim_slot){.n = n, .param = param, .grad = grad, .decay = decay, .rate = 1};
    snprintf(s->name, sizeof s->name, "%s", name);
    if (!(s->m = o->d->op->alloc(o->d, n * sizeof(float), e)))
        return NULL;
    if (!(s->v = o->d->op->alloc(o->d, n * sizeof(float), e))) {
        o->d->op->free(o->d, s->m);
        return NULL;
    }
    o->n++;
    return s;
}

struct optim_slot *optim_find(const struct optim *o, const char *name)
{
    for (size_t i = 0; i < o->n; i++)
        if (!strcmp(o->slots[i].name, name))
            return &o->slots[i];
    return NULL;
}

// Allocates the squares and the result once the number of tensors is known.
static int open_sums(struct optim *o, struct err *e)
{
    size_t n = 0;
    for (size_t i = 0; i < o->n; i++)
        n += o->slots[i].begin ? o->slots[i].parts : 1;
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

// Computes the sums of squares of all gradients.
static int queue_squares(struct optim *o, struct err *e)
{
    const struct dev_ops *op = o->d->op;
    double *to = o->sums;
    for (size_t i = 0; i < o->n; i++) {
        const struct optim_slot *s = &o->slots[i];
        for (size_t q = 0; s->begin && q < s->own; q++) {
            const float *g = s->grad + s->begin[q] * s->cols;
            op->dot_to(o->d, (s->begin[q + 1] - s->begin[q]) * s->cols, g, g, to + s->part0 + q);
        }
        if (s->begin && ranks_gather(o->d, o->comm, "squares", to, s->own * sizeof *to, e))
            return -1;
        if (!s->begin)
            op->dot_to(o->d, s->rows ? s->n_rows * s->cols : s->n, s->grad, s->grad, to);
        to += s->begin ? s->parts : 1;
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
        if (!s->rows)
            op->adamw(o->d, s->n, &a, s->grad, s->m, s->v, s->param);
        else if (s->n_rows)
            op->adamw_rows(o->d, s->n_rows, s->cols, s->rows, &a, s->grad, s->m, s->v, s->param);
    }
    op->fetch(o->d, &o->found, o->clip, sizeof o->found);
    return 0;
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
